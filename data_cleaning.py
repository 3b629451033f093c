"""The stream: Kafka -> cleaned and judged by Spark -> MySQL, with alert mails from the outbox.

Start as many copies as you like: one writes, the others stand by. Ctrl-C or SIGTERM ends it after the
batch that is running. Exit code: 0 stopped on request, 1 it cannot go on, 2 the settings are wrong.
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from typing import Annotated

import typer

from fraudstream.alerting import mail_sender
from fraudstream.alerts.outbox import sending
from fraudstream.config import Settings, SettingsError, child_environment, export, load_settings
from fraudstream.rules import RulesError
from fraudstream.stack import StackError
from fraudstream.stack.spark import class_archive, connector_jars, map_classes, spark_variables
from fraudstream.stop_signals import stop_on_signals
from fraudstream.store.engine import ANSWER_WITHIN_S, DriverIncomplete, make_engine
from fraudstream.streaming import Job, JobConfig, JobStopped, build_session

app = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False)
log = logging.getLogger("fraudstream")


@app.command()
def main(
    master: Annotated[str | None, typer.Option(help="Spark master. [default: SPARK_MASTER]")] = None,
    trigger: Annotated[
        float | None, typer.Option(min=0, help="Seconds between batches; 0 = as soon as there is data.")
    ] = None,
    max_records: Annotated[int | None, typer.Option(min=1, help="Most records in one batch.")] = None,
    alerts: Annotated[bool, typer.Option(help="Send alert mails from this process, too.")] = True,
) -> None:
    """Clean, judge and store the transactions of the Kafka topic."""
    given = {
        "spark_master": master,
        "trigger_interval_seconds": trigger,
        "max_records_per_batch": max_records,
    }
    try:
        settings = load_settings(**{name: value for name, value in given.items() if value is not None})
        run(settings, alerts=alerts)
    except SettingsError as error:
        typer.secho(str(error), fg="red", err=True)
        raise typer.Exit(2) from None
    except (JobStopped, StackError, RulesError, DriverIncomplete) as error:
        typer.secho(f"Stopped: {error}", fg="red", err=True)
        raise typer.Exit(1) from None


def run(settings: Settings, *, alerts: bool) -> None:
    """Run the job until it is told to stop; alert mails go out beside it, never in its way."""
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(message)s")
    for chatty in ("kafka", "py4j", "alembic"):
        logging.getLogger(chatty).setLevel(logging.CRITICAL)  # their troubles come to us as exceptions
    local = settings.spark_master.startswith("local")
    if not local and settings.addresses_of_this_machine_only:
        log.warning(
            "%s: an address of this machine, which Spark's workers at %s take for their own",
            ", ".join(settings.addresses_of_this_machine_only),
            settings.spark_master,
        )
    export(**spark_variables(child_environment(), settings.cache_dir, local=local))
    jars = connector_jars(child_environment(), settings.cache_dir)
    archive = class_archive(child_environment(), settings.cache_dir)
    session = build_session(
        master=settings.spark_master,
        driver_memory=settings.spark_driver_memory,
        partitions=settings.kafka_partitions,
        jars=jars,
        java_options=map_classes(archive),
    )
    config = JobConfig(
        kafka=settings.kafka,
        topic=settings.kafka_topic,
        partitions=settings.kafka_partitions,
        database=settings.database_url,
        model_dir=settings.model_dir,
        zone=settings.zone,
        max_records_per_batch=settings.max_records_per_batch,
        trigger_interval_s=settings.trigger_interval_seconds,
    )
    job = Job(session, config, stopped=stop_on_signals())
    outbox = make_engine(settings.database_url, answer_within_s=ANSWER_WITHIN_S)
    mails = mail_sender(outbox, **settings.mail_options)
    with sending(mails, once=job.tables_ready) if alerts else nullcontext():
        job.run()
    session.stop()
    log.info("stopped")


if __name__ == "__main__":
    app()
