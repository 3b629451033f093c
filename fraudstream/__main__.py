"""`python -m fraudstream VERB`: everything that is not one of the four scripts."""

from __future__ import annotations

import typer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    help="Tools around the fraudstream pipeline.",
)


if __name__ == "__main__":
    app(prog_name="python -m fraudstream")
