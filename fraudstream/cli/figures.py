"""What the verbs that measure say meanwhile, and their figures as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

JsonFile = Annotated[
    Path | None,
    typer.Option("--json", dir_okay=False, allow_dash=True, help="Also write JSON here; to - only that."),
]


def write_json(figures: dict[str, Any], json_file: Path | None) -> bool:
    """Write them where the option says; False when the screen shall have nothing but them."""
    import orjson

    document = orjson.dumps(figures, option=orjson.OPT_INDENT_2).decode()
    if json_file == Path("-"):
        typer.echo(document)
        return False
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(document + "\n", encoding="utf-8")
    return True


def say(text: str) -> None:
    typer.echo(text, err=True)
