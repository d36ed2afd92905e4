"""The root of the command line."""

from typing import Annotated

import typer

app = typer.Typer(
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
