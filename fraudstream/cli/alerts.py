"""`python -m fraudstream alerts VERB`: the alert outbox and its mails."""

from __future__ import annotations

import logging
from dataclasses import asdict

import typer

from fraudstream.cli.database import opened_database

app = typer.Typer(help="The alert outbox and its mails.")


@app.callback(invoke_without_command=True)
def alerts(context: typer.Context) -> None:
    """Send alert mails in a process apart from the job (as `alerts run`), or look after the outbox."""
    if context.invoked_subcommand is None:
        run()


@app.command()
def run() -> None:
    """Send alert mails until Ctrl-C or SIGTERM. Any number of senders may run, the job's own included."""
    from fraudstream.alerting import mail_sender
    from fraudstream.alerts.outbox import sending
    from fraudstream.stop_signals import stop_on_signals

    with opened_database() as (settings, engine):
        logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(message)s")
        stopped = stop_on_signals()
        with sending(mail_sender(engine, **settings.mail_options)) as thread:
            while thread.is_alive() and not stopped():
                thread.join(0.2)
    if not stopped():
        raise typer.Exit(1)  # the thread has told why it ended


@app.command()
def retry() -> None:
    """Send mails again that were refused for good, to those in RECEIVER_EMAIL who have not got them."""
    from fraudstream.store.outbox import retry_failed

    with opened_database() as (settings, engine):
        if not settings.receiver_email:
            typer.echo("Error: RECEIVER_EMAIL is not set: there is nobody to send to", err=True)
            raise typer.Exit(1)
        typer.echo(f"retried={retry_failed(engine, settings.receiver_email)}")


@app.command()
def status() -> None:
    """Count alerts that wait or are held back, and mails on their way, sent and failed, with errors."""
    from fraudstream.store.outbox import pending, troubled_mails

    with opened_database() as (_settings, engine):
        counts, troubled = pending(engine), troubled_mails(engine, limit=10)
    typer.echo(" ".join(f"{name}={number}" for name, number in asdict(counts).items()))
    for mail in troubled:
        typer.echo(f"mail {mail.mail_id} {mail.state} after {mail.attempts} attempts: {mail.last_error}")
