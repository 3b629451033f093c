"""From flagged transactions to a mail, purely: no clock, no network, no database.

Every field of a transaction is text from outside. In the mail it can neither start a header, nor open
an HTML tag, nor fake a line of the plain text, nor reverse what stands around it; what it says is shown.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, formataddr
from functools import cache
from typing import Protocol
from urllib.parse import quote
from zoneinfo import ZoneInfo

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from fraudstream.rules import in_words
from fraudstream.schema import TIME_FORMAT

SENDER_NAME = "Fraud alerts"
_LONGEST_NAME_IN_SUBJECT = 40
_REPLACEMENT = "\ufffd"
# RFC 5322, 2.1.1: characters of a line, without its end.
_LONGEST_LINE = 998
# Invisible, yet part of how emoji and several scripts are written.
_JOINERS = frozenset("\u200c\u200d")
# Controls, formats (among them those that turn the direction of text), surrogates, line separators.
_HARMFUL_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


class FlaggedTransaction(Protocol):
    """What a mail says of one transaction; `time` is local time in the setting TZ, `reasons` JSON text."""

    @property
    def transaction_id(self) -> str: ...
    @property
    def user_id(self) -> str: ...
    @property
    def amount(self) -> Decimal: ...
    @property
    def location(self) -> str | None: ...
    @property
    def time(self) -> datetime: ...
    @property
    def device(self) -> str | None: ...
    @property
    def merchant(self) -> str | None: ...
    @property
    def score(self) -> float: ...
    @property
    def reasons(self) -> str: ...


@dataclass(frozen=True)
class MailContent:
    """One mail of the outbox: its stored Message-ID and creation time (aware), and its members."""

    message_id: str
    created_at: datetime
    transactions: Sequence[FlaggedTransaction]


@dataclass(frozen=True)
class _Card:
    """One transaction as the templates show it: all text, harmless, labelled."""

    amount: str
    link: str
    details: tuple[tuple[str, str], ...]


def compose(
    mail: MailContent,
    *,
    sender: str,
    recipients: Sequence[str],
    dashboard_url: str,
    tz: ZoneInfo,
) -> EmailMessage:
    """The mail with plain text and HTML, byte for byte the same for the same arguments.

    Raises ValueError for a mail without transactions, and what `in_words` raises for malformed reasons.
    """
    if not mail.transactions:
        raise ValueError(f"mail {mail.message_id} has no transactions")
    subject = _subject(mail.transactions)
    shown = {
        "headline": subject,
        "cards": [_card(transaction, dashboard_url, tz) for transaction in mail.transactions],
        "dashboard_url": dashboard_url,
    }
    message = EmailMessage(policy=SMTP)
    message["Subject"] = subject
    message["From"] = formataddr((SENDER_NAME, sender))
    message["To"] = ", ".join(recipients)
    message["Date"] = format_datetime(mail.created_at)
    message["Message-ID"] = mail.message_id
    message["Auto-Submitted"] = "auto-generated"
    plain = _templates().get_template("alert.txt").render(shown)
    message.set_content(plain, cte=_transfer_encoding(plain))
    html = _templates().get_template("alert.html").render(shown)
    message.add_alternative(html, subtype="html", cte=_transfer_encoding(html))
    message.set_boundary(_boundary(mail.message_id))
    return message


def _transfer_encoding(text: str) -> str | None:
    """7bit for what may go as it is, as most mails may: encoding takes more time than all else. None leaves
    the choice to the email package."""
    as_it_is = text.isascii() and max(map(len, text.splitlines())) <= _LONGEST_LINE
    return "7bit" if as_it_is else None


def _boundary(message_id: str) -> str:
    """The same in each sending, and in no text of the data, which cannot know a Message-ID."""
    return f"=_{hashlib.sha256(message_id.encode()).hexdigest()[:32]}"


def harmless(text: str) -> str:
    """`text` on one line; each invisible character that acts on its surroundings becomes U+FFFD."""
    if text.isprintable():  # no character of those categories is
        return text
    return "".join(_REPLACEMENT if _acts_on_surroundings(character) else character for character in text)


def _acts_on_surroundings(character: str) -> bool:
    return unicodedata.category(character) in _HARMFUL_CATEGORIES and character not in _JOINERS


def _subject(transactions: Sequence[FlaggedTransaction]) -> str:
    total = _money(sum((transaction.amount for transaction in transactions), Decimal(0)))
    users = {transaction.user_id for transaction in transactions}
    if len(users) > 1:
        return f"Fraud alerts: {len(transactions)} transactions of {len(users)} users, total {total}"
    user = _shortened(transactions[0].user_id)
    if len(transactions) > 1:
        return f"Fraud alert: {len(transactions)} transactions of {user}, total {total}"
    merchant = transactions[0].merchant
    place = "" if merchant is None else f" at {_shortened(merchant)}"
    return f"Fraud alert: {total} by {user}{place}"


def _card(transaction: FlaggedTransaction, dashboard_url: str, tz: ZoneInfo) -> _Card:
    details = (
        ("Why", in_words(transaction.reasons)),
        ("Transaction", transaction.transaction_id),
        ("User", transaction.user_id),
        ("Time", f"{transaction.time.strftime(TIME_FORMAT)} {tz.key}"),
        ("Merchant", transaction.merchant),
        ("Location", transaction.location),
        ("Device", transaction.device),
        ("Score", f"{transaction.score:.2f} of 1"),
    )
    return _Card(
        amount=_money(transaction.amount),
        link=f"{dashboard_url}/transaction?id={quote(transaction.transaction_id, safe='', errors='replace')}",
        details=tuple((label, "(missing)" if value is None else harmless(value)) for label, value in details),
    )


def _money(amount: Decimal) -> str:
    return f"{amount:,.2f}"


def _shortened(text: str) -> str:
    # A header would decode `=?utf-8?q?…?=` into whatever is hidden in it.
    visible = harmless(text).replace("=?", "= ?")
    return (
        visible if len(visible) <= _LONGEST_NAME_IN_SUBJECT else visible[: _LONGEST_NAME_IN_SUBJECT - 1] + "…"
    )


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("fraudstream.alerts"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
