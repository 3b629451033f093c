"""What `bench` refuses, and what is left of a run that an error ended. No run is real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy.exc import InvalidRequestError, OperationalError
from typer.testing import CliRunner, Result

import benchmarks
from benchmarks.bench import Findings, Sizes, run
from benchmarks.errors import BenchFailed, told_in_a_line
from benchmarks.phases import CatchUp
from fraudstream.__main__ import app
from fraudstream.config import Settings, child_environment, load_settings
from fraudstream.stack import StackError
from fraudstream.stop_signals import ENDING

Run = Callable[[Sizes, Settings, Callable[[str], None], Findings], None]


@pytest.fixture(autouse=True)
def _handlers_are_put_back() -> Iterator[None]:
    before = {each: signal.getsignal(each) for each in ENDING}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Callable[[Run], None]:
    """Sets what is done in place of a run."""
    return lambda instead: monkeypatch.setattr("benchmarks.bench.run", instead)


@pytest.fixture
def no_run(running: Callable[[Run], None]) -> None:
    def started(*_: object) -> None:
        raise AssertionError("the run was started")

    running(started)


def bench(*options: str | Path) -> Result:
    return CliRunner().invoke(app, ["bench", *map(str, options)], env={"COLUMNS": "400"})


def ended_by(error: BaseException, *, after: Callable[[Findings], None]) -> Run:
    def run(_sizes: Sizes, _settings: Settings, _say: object, found: Findings) -> None:
        after(found)
        raise error

    return run


def one_catch_up(found: Findings) -> None:
    found.start_s = 14.0
    found.catch_up["5000 users"] = CatchUp(
        9_000.0, 3.0, [(50_000, 9_000.0)], {"jvm": 40.0}, {"overview": 12.0}
    )


@pytest.mark.usefixtures("no_run")
@pytest.mark.parametrize("name", ["figures.pdf", "figures"])
def test_a_picture_that_is_no_png_is_refused_before_the_run(tmp_path: Path, name: str) -> None:
    refused = bench("--picture", tmp_path / name)
    assert (refused.exit_code, f"{name} does not end in .png" in refused.stderr) == (2, True)


@pytest.mark.usefixtures("no_run")
@pytest.mark.parametrize(("option", "name"), [("--json", "figures.json"), ("--picture", "figures.png")])
def test_a_folder_that_cannot_be_made_is_told_before_the_run(tmp_path: Path, option: str, name: str) -> None:
    (tmp_path / "in the way").touch()
    refused = bench(option, tmp_path / "in the way" / "new" / name)
    assert (refused.exit_code, "cannot be made" in refused.stderr, option in refused.stderr) == (
        2,
        True,
        True,
    )


@pytest.mark.usefixtures("no_run")
@pytest.mark.parametrize(
    ("content", "told"),
    [(b'{"catch_up": ', "is not JSON"), (b"", "is not JSON"), (b"[1, 2]", "is not the JSON of a run")],
)
def test_an_older_run_that_cannot_be_read_is_told_before_the_run(
    tmp_path: Path, content: bytes, told: str
) -> None:
    (old := tmp_path / "old.json").write_bytes(content)
    refused = bench("--compare", old)
    assert (refused.exit_code, f"old.json {told}" in refused.stderr) == (2, True)


@pytest.mark.usefixtures("no_run")
def test_a_missing_requirement_is_told_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(benchmarks, "report", raising=False)
    monkeypatch.delitem(sys.modules, "benchmarks.report", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # type: ignore[arg-type]
    told = bench()
    assert told.exit_code == 1
    assert "matplotlib" in told.stderr
    assert "requirements-dev.txt" in told.stderr


@pytest.mark.parametrize(
    ("error", "exit_code", "told"),
    [
        (BenchFailed("the job ended"), 1, "Error: the job ended\n"),
        (StackError("no broker"), 1, "Error: no broker\n"),
        (SystemExit(129), 129, ""),
        (KeyboardInterrupt(), 130, ""),
        (ZeroDivisionError(), 1, ""),
    ],
)
def test_what_was_measured_before_an_error_is_kept(
    tmp_path: Path, running: Callable[[Run], None], error: BaseException, exit_code: int, told: str
) -> None:
    running(ended_by(error, after=one_catch_up))
    json_file, picture = tmp_path / "new" / "figures.json", tmp_path / "new" / "figures.png"
    ended = bench("--quick", "--json", json_file, "--picture", picture)
    assert ended.exit_code == exit_code
    document = orjson.loads(json_file.read_bytes())
    assert (document["catch_up"]["tx_per_s"], document["complete"]) == (9_000.0, False)
    assert "9,000" in ended.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert ended.stderr.rstrip().endswith(told.rstrip())


def test_settings_and_those_of_the_job_come_from_the_environment_alone(
    tmp_path: Path, running: Callable[[Run], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("SPARK_DRIVER_MEMORY=2g\nMAX_RECORDS_PER_BATCH=7\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FRAUDSTREAM_ENV_FILE", "")
    monkeypatch.setenv("MAX_RECORDS_PER_BATCH", "1234")
    seen: list[tuple[int, str]] = []

    def run(_sizes: Sizes, settings: Settings, _say: object, found: Findings) -> None:
        for each in (settings, load_settings()):
            seen.append((each.max_records_per_batch, each.spark_driver_memory))
        assert child_environment()["FRAUDSTREAM_ENV_FILE"] == os.devnull

    running(run)
    assert bench("--quick").exit_code == 0
    assert seen == 2 * [(1234, Settings().spark_driver_memory)]


def test_an_older_runs_figures_stay_when_nothing_was_measured(
    tmp_path: Path, running: Callable[[Run], None]
) -> None:
    running(ended_by(StackError("no broker"), after=lambda _found: None))
    (json_file := tmp_path / "figures.json").write_text("{}")
    assert bench("--json", json_file).exit_code == 1
    assert json_file.read_text() == "{}"


def test_the_figures_are_written_and_shown_when_the_picture_fails(
    tmp_path: Path, running: Callable[[Run], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def complete(_sizes: Sizes, _settings: Settings, _say: object, found: Findings) -> None:
        one_catch_up(found)
        found.complete = True

    def draw(*_: object) -> None:
        raise OSError("no space left")

    running(complete)
    monkeypatch.setattr("benchmarks.report.draw", draw)
    json_file = tmp_path / "figures.json"
    ended = bench("--json", json_file, "--picture", tmp_path / "figures.png")
    assert ended.exit_code == 1
    assert orjson.loads(json_file.read_bytes())["complete"] is True
    assert "9,000" in ended.stdout


def failed_producer(stderr: bytes) -> subprocess.CalledProcessError:
    return subprocess.CalledProcessError(2, ["producer_from_csv.py"], stderr=stderr)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            failed_producer(b"Sending rows.csv\nno broker\nanswers\n"),
            "Command '['producer_from_csv.py']' returned non-zero exit status 2. "
            "Sending rows.csv no broker answers",
        ),
        (
            OperationalError("SELECT 1", {}, Exception("2013: Lost connection")),
            "the bench's database: 2013: Lost connection",
        ),
        (InvalidRequestError("no transaction\nmore about it"), "the bench's database: no transaction"),
    ],
)
def test_what_a_program_or_the_database_answers_is_told_in_a_line(error: Exception, told: str) -> None:
    with pytest.raises(BenchFailed) as failed, told_in_a_line():
        raise error
    assert str(failed.value) == told


def test_of_much_that_a_program_said_the_end_is_told() -> None:
    with pytest.raises(BenchFailed, match=r"the cause$") as failed, told_in_a_line():
        raise failed_producer(b"progress\n" * 1_000 + b"the cause\n")
    assert len(str(failed.value)) < 1_000


def test_a_run_tells_in_a_line_what_the_database_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def dead_database(_settings: Settings) -> Iterator[Any]:
        raise OperationalError("SELECT 1", {}, Exception("2013: Lost connection"))
        yield

    monkeypatch.setattr("benchmarks.bench.running_pipeline", dead_database)
    found = Findings()
    with pytest.raises(BenchFailed, match="Lost connection"):
        run(replace(Sizes.quick(), users=(50,)), load_settings(), print, found)
    assert found.is_empty
    assert not found.complete
    assert found.load_before is not None
