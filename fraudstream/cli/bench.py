"""`python -m fraudstream bench`: how fast all of it is. What it runs is in `benchmarks/`."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fraudstream.cli.figures import JsonFile, say, write_json
from fraudstream.config import SettingsError, export, load_settings

if TYPE_CHECKING:
    from benchmarks.bench import Sizes


app = typer.Typer()


@app.command()
def bench(
    quick: Annotated[bool, typer.Option(help="All phases, small: under five minutes.")] = False,
    rate: Annotated[float | None, typer.Option(min=1, help="Of the sustained phase. [default: 7500]")] = None,
    seconds: Annotated[float | None, typer.Option(min=4, help="Of that phase. [default: 600]")] = None,
    json_file: JsonFile = None,
    picture: Annotated[Path | None, typer.Option(dir_okay=False, help="Also draw a PNG here.")] = None,
    compare_with: Annotated[
        Path | None, typer.Option("--compare", exists=True, dir_okay=False, help="The JSON of an older run.")
    ] = None,
) -> None:
    """Measure how fast all of it is, on a stack of its own. Nothing else should run meanwhile.

    Settings come from the environment, not from `.env`. What was measured before an error or Ctrl-C is kept.
    """
    _import_benchmarks()
    from benchmarks.bench import Sizes

    old = _older_run(compare_with) if compare_with else None
    _refuse_unwritable(json_file, picture)
    sizes = (Sizes.quick() if quick else Sizes.full()).sustained_for(rate, seconds)
    _measure(sizes, old, json_file, picture)


def _import_benchmarks() -> None:
    """A requirement that is missing is told before anything is measured."""
    try:
        for module in ("benchmarks.bench", "benchmarks.report"):
            importlib.import_module(module)
    except ModuleNotFoundError as error:
        typer.echo(
            f"Error: {error}. In the project's folder `make bench` installs what the bench needs, "
            "or `pip install -r requirements-dev.txt` does",
            err=True,
        )
        raise typer.Exit(1) from None


def _older_run(file: Path) -> dict[str, Any]:
    import orjson

    try:
        document = orjson.loads(file.read_bytes())
    except orjson.JSONDecodeError as error:
        raise typer.BadParameter(f"{file} is not JSON: {error}", param_hint="--compare") from None
    if not isinstance(document, dict):
        raise typer.BadParameter(f"{file} is not the JSON of a run", param_hint="--compare")
    return document


def _refuse_unwritable(json_file: Path | None, picture: Path | None) -> None:
    """What was measured in an hour shall not be lost by where it is to be written."""
    if picture and picture.suffix.lower() != ".png":
        raise typer.BadParameter(f"{picture} does not end in .png", param_hint="--picture")
    for option, file in (("--json", json_file), ("--picture", picture)):
        if file is None or file == Path("-"):
            continue
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise typer.BadParameter(
                f"{file.parent} cannot be made: {error.strerror}", param_hint=option
            ) from None
        if not os.access(file if file.exists() else file.parent, os.W_OK):
            raise typer.BadParameter(f"{file} cannot be written", param_hint=option)


def _measure(sizes: Sizes, old: dict[str, Any] | None, json_file: Path | None, picture: Path | None) -> None:
    from benchmarks.bench import Findings, as_document, run
    from benchmarks.errors import BenchFailed
    from fraudstream.stack import StackError
    from fraudstream.stop_signals import exit_on_signals

    # Whoever works on the project may have a `.env`, for a system that is none of the bench's business.
    export(FRAUDSTREAM_ENV_FILE=os.devnull)
    exit_on_signals()
    found = Findings()
    try:
        settings = load_settings()
        try:
            run(sizes, settings, say, found)
        finally:
            if not found.is_empty:
                _keep(as_document(found, sizes, settings), old, json_file, picture)
    except (SettingsError, StackError, BenchFailed) as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from None


def _keep(
    document: dict[str, Any], old: dict[str, Any] | None, json_file: Path | None, picture: Path | None
) -> None:
    """Write the figures, show them, and draw them."""
    from rich.console import Console

    from benchmarks.report import draw, show

    if write_json(document, json_file):
        show(document, old, Console(highlight=False))
    if picture:
        draw(document, picture)
