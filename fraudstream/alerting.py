"""Wires outbox, composer and mail server into the sender that the job runs and `alerts run` runs apart."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

from sqlalchemy import Engine

from fraudstream.alerts.compose import compose
from fraudstream.alerts.outbox import NoSender, Sender
from fraudstream.alerts.smtp import Account, Security, Transport
from fraudstream.store.outbox import Outbox

# For senders whose own domain cannot stand in a Message-ID.
_DOMAIN_OF_LAST_RESORT = "fraudstream.invalid"


def mail_sender(
    engine: Engine,
    *,
    sender: str | None,
    password: str | None,
    recipients: tuple[str, ...],
    host: str,
    port: int,
    security: Security,
    dashboard_url: str,
    tz: ZoneInfo,
    digest_size: int,
    cooldown_s: float,
    ca_file: Path | None = None,
) -> Sender | NoSender:
    """The sender for these settings, or its stand-in when there is nobody to send from or to."""
    outbox = Outbox(engine, digest_size, cooldown_s, recipients, message_id_domain=_domain(sender))
    if sender is None or not recipients:
        return NoSender(outbox, "no sender or no recipient is set (SENDER_EMAIL, RECEIVER_EMAIL)")
    composer = partial(compose, sender=sender, dashboard_url=dashboard_url, tz=tz)
    return Sender(
        outbox,
        lambda mail, addressed: composer(mail, recipients=addressed),
        Transport(Account(host, port, security, sender, password, ca_file=ca_file)),
    )


def _domain(sender: str | None) -> str:
    domain = (sender or "").rpartition("@")[2]
    return domain if domain and domain.isascii() and len(domain) < 200 else _DOMAIN_OF_LAST_RESORT
