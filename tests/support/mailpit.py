"""What Mailpit, the mail inbox of docker-compose.yml, has taken."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import dataclass
from typing import Any

from tests.support.waiting import wait_until

INBOX = "http://127.0.0.1:8025"


@dataclass(frozen=True)
class Mail:
    message_id: str
    recipients: tuple[str, ...]
    text: str
    html: str


def mails() -> list[Mail]:
    """All mails in the inbox."""
    listed = _get("messages?limit=5000")["messages"]
    return [_mail(_get(f"message/{each['ID']}")) for each in listed]


def wait_for_mails(*, timeout: float) -> list[Mail]:
    """The mails, once there are any."""
    return wait_until(mails, timeout=timeout, describe="a mail is in the inbox")


def _mail(message: dict[str, Any]) -> Mail:
    recipients = tuple(to["Address"] for to in message["To"])
    return Mail(message["MessageID"], recipients, message["Text"], message["HTML"])


def _get(path: str) -> Any:
    with urllib.request.urlopen(f"{INBOX}/api/v1/{path}", timeout=10) as answer:
        return json.load(answer)
