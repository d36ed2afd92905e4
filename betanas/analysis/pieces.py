"""Pieces of the report's page as HTML: figures, facts, tables; all text is escaped."""

from collections.abc import Mapping
from html import escape

from betanas.analysis.cells import ShowCell
from betanas.analysis.tables import Table


def figure(svg: str, caption: str, kind: str = "wide") -> str:
    """A figure: SVG that is ready for the page, and a caption."""
    return (
        f'<figure class="{kind}"><div class="scroll">{svg}</div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def fact(name: str, value: str) -> str:
    """One entry of a list of facts."""
    return f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"


def table(
    table: Table,
    show: ShowCell,
    rule_at: int | None = None,
    hints: Mapping[str, str] | None = None,
    colours: Mapping[str, str] | None = None,
) -> str:
    """A table; ``rule_at`` puts a line before that row, ``hints`` explain rows by name."""
    head = ""
    for column in table.columns:
        swatch = (
            f'<span class="swatch" style="background:{colours[column]}"></span>'
            if colours and column in colours
            else ""
        )
        head += f'<th scope="col">{swatch}{escape(column)}</th>'
    head += "<th></th>" if hints else ""
    rows = ""
    for i, row in enumerate(table.rows):
        rule = ' class="rule"' if i == rule_at else ""
        cells = "".join(
            f"<td>{escape(show(table, row, j))}</td>" for j in range(len(table.columns))
        )
        if hints:
            cells += f'<td class="meaning">{escape(hints.get(str(row[0]), ""))}</td>'
        rows += f"<tr{rule}>{cells}</tr>"
    body = f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody>"
    return f'<div class="scroll"><table>{body}</table></div>'
