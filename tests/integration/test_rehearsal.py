"""What the rehearsal of `make setup` left for Java, and that the job's Spark makes use of it."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from fraudstream.config import child_environment, load_settings
from fraudstream.stack import spark
from tests.support.jobs import run_script, running_job
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def archive() -> Path:
    return spark.class_archive(child_environment(), load_settings().cache_dir)


def test_the_job_maps_the_classes_that_the_rehearsal_kept(
    archive: Path, settings_env: dict[str, str], tmp_path: Path
) -> None:
    log = tmp_path / "job.log"
    with running_job(settings_env, log) as job:
        wait_until(lambda: "Waiting for data" in log.read_text(), timeout=120, describe=log.read_text)
        (java,) = (child for child in psutil.Process(job.pid).children() if child.name() == "java")
        mapped = {mapping.path for mapping in java.memory_maps()}
    assert str(archive) in mapped
    assert "[cds" not in log.read_text()  # where Java cannot use an archive, it says so


def test_what_is_there_is_not_rehearsed_again(archive: Path) -> None:
    written = archive.stat().st_mtime_ns
    again = run_script("-m", "fraudstream.rehearsal", environment=child_environment())
    assert (again.returncode, again.stdout) == (0, ""), again.stderr
    assert archive.stat().st_mtime_ns == written
