"""How all figures look, and how they become files: the same bytes for the same data."""

import functools
import io
import re
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from betanas.analysis.cells import short_count
from betanas.analysis.measure import Measure

INK, MUTED, FAINT, PAPER = "#1c2128", "#59636e", "#d3dae2", "#ffffff"
BLUE, ORANGE, GREEN, PURPLE, RED = "#2b6fdb", "#d9730e", "#23936a", "#8a60d1", "#cf394a"
TEAL, PINK, OLIVE = "#12899e", "#c2458f", "#84811f"
CLUSTER_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, TEAL, PINK, OLIVE, RED)
BLOCK_COLOURS = {
    "CNA": MUTED, "FMBC": ORANGE, "MBC": BLUE, "RES": GREEN, "CNX": PURPLE, "CN": MUTED,
    "CELL": TEAL, "RED": GREEN, "NORMAL": TEAL, "REDUCTION": GREEN,
}  # fmt: skip

_VARIABLES = {
    INK: "ink", MUTED: "muted", FAINT: "faint", PAPER: "paper", BLUE: "blue", ORANGE: "orange",
    GREEN: "green", PURPLE: "purple", RED: "red", TEAL: "teal", PINK: "pink", OLIVE: "olive",
}  # fmt: skip

_STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": FAINT,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "figure.dpi": 100,
    "figure.facecolor": PAPER,
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.6,
    "path.simplify": True,
    "savefig.facecolor": PAPER,
    "svg.fonttype": "none",
    "svg.hashsalt": "betanas",
    "svg.id": None,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": FAINT,
    "xtick.labelcolor": MUTED,
    "xtick.labelsize": 8.5,
    "ytick.color": FAINT,
    "ytick.labelcolor": MUTED,
    "ytick.labelsize": 8.5,
}

_LEVEL_CHARACTERS = 105  # that fit side by side below a figure

P = ParamSpec("P")


def _whole_style() -> Any:
    """Matplotlib's defaults and ours: nothing of what the user has set, but for the backend."""
    default: Any = mpl.rcParamsDefault
    kept = {k: v for k, v in default.items() if k not in ("backend", "interactive", "toolbar")}
    return kept | _STYLE


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draws in the project's style, whatever the caller's Matplotlib is set to."""

    @functools.wraps(draw)
    def run(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context(_whole_style()):
            return draw(*args, **kwargs)

    return run


def new_figure(width: float = 7.2, height: float = 3.4) -> Figure:
    """An empty figure, in inches, that places its axes by itself."""
    return Figure(figsize=(width, height), layout="constrained")


def new_axes(width: float = 7.2, height: float = 3.4) -> tuple[Figure, Axes]:
    """A figure with one pair of axes."""
    figure = new_figure(width, height)
    return figure, figure.add_subplot()


def per_cent_axis(axes: Axes, which: str = "y") -> None:
    """Labels accuracies in [0, 1] as per cent."""
    from matplotlib.ticker import FuncFormatter  # noqa: PLC0415 - beside its only use

    axis = axes.yaxis if which == "y" else axes.xaxis
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}"))


def value_axis(axes: Axes, measure: Measure, which: str = "y") -> None:
    """Labels values as people read them."""
    if measure.in_per_cent:
        per_cent_axis(axes, which)


def legend_above(axes: Axes, columns: int = 6) -> None:
    """A legend over the axes, as many columns as fit."""
    handles, names = axes.get_legend_handles_labels()
    if not handles:
        return
    width = 0.075 * max(len(name) for name in names) + 0.55  # inches of a column, about
    figure = axes.get_figure(root=True)
    fit = int(figure.get_figwidth() / width) if figure is not None else columns
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=max(1, min(columns, fit)))


def few_ticks(axes: Axes) -> None:
    """Three or four ticks an axis, for small plots."""
    axes.locator_params(nbins=4)


def name_ticks(axes: Axes, names: Sequence[str]) -> None:
    """A tick for each name, from 0; where they would overlap, they are slanted."""
    axes.set_xticks(range(len(names)), names)
    if len(names) * max(map(len, names), default=0) > _LEVEL_CHARACTERS:
        for label in axes.get_xticklabels():
            label.set(rotation=40, rotation_mode="anchor", horizontalalignment="right")


def counts_axis(axes: Axes, which: str = "x") -> None:
    """Labels large counts with a unit: 30M."""
    from matplotlib.ticker import FuncFormatter, NullFormatter  # noqa: PLC0415

    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
    axis.set_minor_formatter(NullFormatter())


def whole_numbers(axes: Axes, which: str = "x") -> None:
    """Ticks at whole numbers only."""
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(MaxNLocator(integer=True, nbins=9))


def to_svg(figure: Figure) -> str:
    """The figure as an SVG document; equal figures give equal text."""
    text = io.StringIO()
    with mpl.rc_context(_whole_style()):
        _place_once(figure)
        # Not savefig(): it draws every figure that was ever laid out twice.
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(text, metadata={"Date": None, "Creator": None})
    return text.getvalue()


def to_png(figure: Figure, dpi: int = 110) -> bytes:
    """The figure as a PNG; equal figures give equal bytes."""
    data = io.BytesIO()
    with mpl.rc_context(_whole_style()):
        _place_once(figure)
        own, figure.dpi = figure.dpi, dpi
        canvas: Any = FigureCanvasAgg(figure)
        canvas.print_png(data, metadata={"Software": None})
        figure.dpi = own
    return data.getvalue()


def _place_once(figure: Figure) -> None:
    """Lets the figure place its axes, once: doing so again for each file takes a third longer."""
    engine = figure.get_layout_engine()
    if engine is not None:
        FigureCanvasAgg(figure)
        engine.execute(figure)
        figure.set_layout_engine("none")


def inline_svg(svg: str, name: str, title: str) -> str:
    """Makes an SVG document part of a page: colours follow the page, ids stay apart.

    Args:
        svg: What ``to_svg`` wrote.
        name: Unique on the page; letters and dashes.
        title: What a screen reader says; must be escaped already.
    """
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, count=1, flags=re.DOTALL)
    head, rest = body.split(">", 1)
    size = re.search(r'viewBox="[^"]*"', head)
    width = re.search(r'width="([\d.]+)pt"', head)
    if size is None or width is None:
        raise ValueError("not an SVG document of Matplotlib's")
    rest = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', rest)
    rest = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', rest)
    rest = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", rest)
    for colour, variable in _VARIABLES.items():
        rest = rest.replace(colour, f"var(--{variable})")
    pixels = round(float(width[1]) * 4 / 3)
    return (
        f'<svg class="figure" role="img" aria-label="{title}" {size[0]} '
        f'style="max-width:{pixels}px" xmlns:xlink="http://www.w3.org/1999/xlink">{rest}'
    )
