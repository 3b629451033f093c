"""The start of the job rehearsed, so that Java keeps the classes that it loads: each later start is sooner.

    python -m fraudstream.rehearsal

Without it, or after another Java or pyspark was installed, the job works as well, and takes longer to start.
"""

from __future__ import annotations

from pathlib import Path

import typer

from fraudstream.config import Settings, child_environment, export, load_settings
from fraudstream.stack.locks import exclusive
from fraudstream.stack.spark import class_archive, connector_jars, record_classes, spark_variables


def main() -> None:
    """Write the archive unless it is there; those of other versions, in this environment, are removed."""
    settings = load_settings()
    archive = class_archive(child_environment(), settings.cache_dir)
    with exclusive(archive.with_name("spark-classes.lock"), timeout_s=600, doing="rehearsing Spark's start"):
        if archive.exists():
            return
        typer.echo("Rehearsing Spark's start, so that each later one is sooner ...")
        unfinished = archive.with_suffix(".unfinished")
        unfinished.unlink(missing_ok=True)
        _rehearse(settings, unfinished)
        for outdated in archive.parent.glob(archive.with_stem("spark-classes-*").name):
            outdated.unlink()
        unfinished.rename(archive)


def _rehearse(settings: Settings, archive: Path) -> None:
    # Spark and the features take seconds to import, which a second call need not wait for.
    from fraudstream.executors import warm_up
    from fraudstream.merchant_risk import no_outcomes
    from fraudstream.rules import load_rules
    from fraudstream.scoring import Judge
    from fraudstream.streaming import build_session, end_session

    export(**spark_variables(child_environment(), settings.cache_dir, local=True))
    session = build_session(
        master="local[*]",
        driver_memory=settings.spark_driver_memory,
        jars=connector_jars(child_environment(), settings.cache_dir),
        java_options=record_classes(archive),
    )
    try:
        broadcast = session.sparkContext.broadcast
        warm_up(session, broadcast(Judge(load_rules(), None)), broadcast(no_outcomes()))
    finally:
        end_session(session)


if __name__ == "__main__":
    main()
