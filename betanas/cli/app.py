"""The root of the command line."""

import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

_UsageError: Any = typer.BadParameter.__mro__[1]  # click's, or the one of typer's copy of click


# As one needs them: a search, what it has found, a model of it, study files.
_ORDER = (
    "optimize", "status", "trials", "best", "describe", "cluster", "confirm", "report", "dashboard",
    "latency", "score", "scale", "train", "benchmark", "evaluate", "predict", "export", "studies",
    "check",
)  # fmt: skip


class _Root(TyperGroup):
    """Tells a wrong call in one line, as all other errors are told."""

    def list_commands(self, ctx: Any) -> list[str]:
        """All commands in the order of the help; one that is not in it comes last."""
        known = super().list_commands(ctx)
        return sorted(known, key=lambda name: (*_ORDER, name).index(name))

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """The command line; exit code 2 after a wrong call."""
        words = list(sys.argv[1:] if args is None else args)
        extra |= {"complete_var": complete_var, "windows_expand_args": windows_expand_args}
        if not (standalone_mode and words):  # help, or somebody who wants the exception
            return super().main(words, prog_name, standalone_mode=standalone_mode, **extra)
        try:
            code = super().main(words, prog_name, standalone_mode=False, **extra)
        except _UsageError as error:
            typer.secho(f"error: {_in_one_line(error, words)}", fg="red", err=True)
            sys.exit(error.exit_code)
        except typer.Abort as aborted:  # Ctrl-C before a command, or a question without an answer
            sys.exit(130 if isinstance(aborted.__cause__, KeyboardInterrupt) else 1)
        sys.exit(code or 0)


def _in_one_line(error: Any, words: list[str]) -> str:
    """What is wrong with a call, with the value where there is one, and where help is."""
    command = error.ctx.command_path if error.ctx else "betanas"
    told = " ".join(error.format_message().split()).rstrip(".")
    names = getattr(getattr(error, "param", None), "opts", ())
    given = [w for name, w in pairwise(words) if name in names]
    given += [w.partition("=")[2] for w in words if w.partition("=")[0] in names and "=" in w]
    value = f", but got {given[-1]!r}" if given else ""
    return f"{told[0].lower()}{told[1:]}{value}; see {command} --help"


app = typer.Typer(
    cls=_Root,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Searches for the convolutional network that fits your images, hardware and time.",
    epilog="Begin with: betanas optimize --study digits",
)


def example(line: str) -> str:
    """The last line of a command's help."""
    return f"Example: {line}"


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        from betanas import __version__

        typer.echo(f"betanas {__version__}")
        raise typer.Exit
