"""A training from its history to the model in its folder, telling on a console what is done and found."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from fraudstream import model_store
from fraudstream.report import Decision, report_html
from fraudstream.training import Recipe, Trained, Verdict, compare, features_of, train
from fraudstream.training_history import FoundHistory

REPORT = "report.html"


class Refused(Exception):
    """The candidate may not become the current model; the text has the numbers."""


def run_training(
    read: Callable[[], FoundHistory], recipe: Recipe, folder: Path, *, force: bool, console: Console
) -> tuple[Trained, Path]:
    """Train on what `read` gives and save the model in `folder`: (what was trained, the version's folder).

    The report is written in any case that ends with a model. Raises Refused, and changes nothing else, when
    the candidate may not replace the present model and is not forced to; TrainingError, ModelError, and what
    `read` raises.
    """
    with step("Reading the history", console) as count:
        found = read()
        count(len(found.history.transactions))
    for warning in found.warnings:
        warn(warning, console)
    trained = _train_on(found, recipe, console)
    verdict = _compare_with_present(trained, folder, console)
    decision: Decision = "accepted" if verdict.accepted else "forced" if force else "refused"
    saved = None if decision == "refused" else model_store.save(trained.model, folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / REPORT).write_text(
        report_html(trained, verdict, decision, source=found.source), encoding="utf-8"
    )
    console.print(f"Report: {folder / REPORT}")
    if saved is None:
        raise Refused(f"Refused: {verdict.reason}. Nothing is replaced; --force would do it all the same.")
    console.print(f"{decision.capitalize()}: {verdict.reason}")
    return trained, saved


def _train_on(found: FoundHistory, recipe: Recipe, console: Console) -> Trained:
    if not found.history.labelled:
        console.print("No labels: the model learns what is unusual, not what turned out to be fraud")
    with step("Computing features", console) as count:
        features = features_of(found.history, recipe.label_delay_s)
        count(len(features))
    with step("Training", console) as count:
        trained = train(found.history, features, recipe, trained_at=datetime.now(UTC))
        count(trained.model.metadata.training_rows)
    if trained.constant:
        warn(
            f"constant in the training data, so without effect: {', '.join(trained.constant)}",
            console,
        )
    return trained


def _compare_with_present(trained: Trained, folder: Path, console: Console) -> Verdict:
    try:
        present = model_store.load(folder)
    except model_store.ModelError as error:
        warn(f"there is nothing to compare with, and the new model takes over: {error}", console)
        present = None
    with step("Judging on held-back rows", console) as count:
        verdict = compare(trained, present)
        count(verdict.candidate.rows)
    return verdict


def warn(text: str, console: Console) -> None:
    console.print(f"Warning: {text}", style="yellow")


@contextmanager
def step(doing: str, console: Console) -> Iterator[Callable[[int], None]]:
    """Shows what is being done, and afterwards the number of rows that it was told and the seconds."""
    started, rows = time.monotonic(), [0]
    with console.status(f"{doing} …"):
        yield rows.append
    console.print(f"{doing}: {rows[-1]:,} rows, {time.monotonic() - started:.1f} s")
