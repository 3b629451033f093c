"""Composed mails, parsed back as a mail program would read them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from decimal import Decimal
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from email.utils import parsedate_to_datetime
from html.parser import HTMLParser
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraudstream.alerts.compose import MailContent, compose, harmless

DASHBOARD = "http://dashboard.example:8501"
HEADERS = ["Subject", "From", "To", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type"]


@dataclass(frozen=True)
class Flagged:
    transaction_id: str = "TXN0000012"
    user_id: str = "U017"
    amount: Decimal = Decimal("2410.00")
    location: str | None = "Cairo"
    time: datetime = datetime(2025, 1, 15, 10, 20, 30)  # noqa: DTZ001 (as stored: local time in TZ)
    device: str | None = "iOS"
    merchant: str | None = "Amazon"
    score: float = 0.974
    reasons: str = '[{"code": "AMOUNT_OVER_2000", "amount": 2410.0, "limit": 2000.0}]'


TEXT_FIELDS = [field.name for field in fields(Flagged) if field.name in {
    "transaction_id", "user_id", "location", "device", "merchant"
}]  # fmt: skip


def composed(*transactions: Flagged) -> EmailMessage:
    """The mail after a journey through bytes."""
    message = compose(
        MailContent("<0123abcd@example.com>", datetime(2025, 1, 15, 8, 21, 5, tzinfo=UTC), transactions),
        sender="alerts@example.com",
        recipients=["analyst@example.org", "desk@example.org"],
        dashboard_url=DASHBOARD,
        tz=ZoneInfo("Africa/Cairo"),
    )
    received = message_from_bytes(message.as_bytes(), policy=default)
    assert isinstance(received, EmailMessage)
    return received


class _Page(HTMLParser):
    """Tags, links and table rows of an HTML part."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.rows: list[tuple[str, str]] = []
        self._cells = {"th": "", "td": ""}
        self._open: str | None = None
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name == "href"]
        if tag in self._cells:
            self._open, self._cells[tag] = tag, ""

    def handle_data(self, data: str) -> None:
        if self._open:
            self._cells[self._open] += data

    def handle_endtag(self, tag: str) -> None:
        if tag in self._cells:
            self._open = None
        if tag == "tr" and self._cells["th"]:
            self.rows.append((self._cells["th"].strip(), self._cells["td"].strip("\n")))
            self._cells = {"th": "", "td": ""}


def page(message: EmailMessage) -> _Page:
    part = message.get_body(("html",))
    assert part is not None
    return _Page(part.get_content())


def text(message: EmailMessage) -> str:
    part = message.get_body(("plain",))
    assert part is not None
    return str(part.get_content())


EMPTY_PAGE_TAGS = page(composed(Flagged())).tags
EMPTY_PAGE_ATTRIBUTES = page(composed(Flagged())).attributes


def test_one_transaction_says_what_when_who_and_why():
    message = composed(Flagged())

    assert message["Subject"] == "Fraud alert: 2,410.00 by U017 at Amazon"
    details = dict(page(message).rows)
    assert details == {
        "Why": "Amount 2,410.00 is over 2,000.00",
        "Transaction": "TXN0000012",
        "User": "U017",
        "Time": "2025-01-15 10:20:30 Africa/Cairo",
        "Merchant": "Amazon",
        "Location": "Cairo",
        "Device": "iOS",
        "Score": "0.97 of 1",
    }
    lines = [line.strip() for line in text(message).splitlines()]
    for label, value in {**details, "Amount": "2,410.00"}.items():
        assert f"{label + ':':<12} {value}" in lines


def test_a_mail_that_is_composed_again_is_the_same_byte_for_byte():
    assert composed(Flagged()).as_bytes() == composed(Flagged()).as_bytes()


def test_headers_identify_the_mail_and_keep_auto_responders_silent():
    message = composed(Flagged())

    assert message.keys() == HEADERS
    assert message["From"] == "Fraud alerts <alerts@example.com>"
    assert message["To"] == "analyst@example.org, desk@example.org"
    assert message["Message-ID"] == "<0123abcd@example.com>"
    assert parsedate_to_datetime(message["Date"]) == datetime(2025, 1, 15, 8, 21, 5, tzinfo=UTC)
    assert message["Auto-Submitted"] == "auto-generated"
    assert message.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]


def test_several_transactions_of_one_user_are_counted_and_summed():
    message = composed(Flagged(), Flagged("TXN2", amount=Decimal("0.01")), Flagged("TXN3"))

    assert message["Subject"] == "Fraud alert: 3 transactions of U017, total 4,820.01"
    assert [value for label, value in page(message).rows if label == "Transaction"] == [
        "TXN0000012",
        "TXN2",
        "TXN3",
    ]


def test_a_digest_counts_transactions_and_users():
    message = composed(Flagged(), Flagged("TXN2", user_id="U018"), Flagged("TXN3"))

    assert message["Subject"] == "Fraud alerts: 3 transactions of 2 users, total 7,230.00"
    assert text(message).count("Why:") == 3


def test_the_largest_amounts_are_exact():
    largest = Decimal("999999999999.99")
    message = composed(Flagged(amount=largest), Flagged(amount=largest, user_id="U2"))

    assert "999,999,999,999.99" in text(message)
    assert message["Subject"].endswith("total 1,999,999,999,999.98")


def test_missing_fields_say_so():
    message = composed(Flagged(location=None, device=None, merchant=None))

    assert message["Subject"] == "Fraud alert: 2,410.00 by U017"
    rows = dict(page(message).rows)
    assert {rows[label] for label in ("Location", "Device", "Merchant")} == {"(missing)"}


@pytest.mark.parametrize(
    "identity", ["TXN1", "a b&c=d#e/?%", "كود-١", "../x", 'x"><a href="http://e.example']
)
def test_the_link_leads_to_exactly_this_transaction(identity: str):
    links = page(composed(Flagged(transaction_id=identity))).links

    assert len(links) == 2
    split = urlsplit(links[0])
    assert f"{split.scheme}://{split.netloc}{split.path}" == f"{DASHBOARD}/transaction"
    assert parse_qs(split.query, strict_parsing=True) == {"id": [identity]}
    assert not split.fragment
    assert links[1] == DASHBOARD


def test_nothing_is_loaded_from_elsewhere():
    html = composed(Flagged()).get_body(("html",)).get_content()  # type: ignore[union-attr]

    assert not {"img", "script", "link", "iframe", "object", "style"} & page(composed(Flagged())).tags
    assert "url(" not in html
    assert "@import" not in html


HOSTILE = {
    "script": "<script>alert(1)</script>",
    "attribute": "\" onmouseover='alert(1)' x=\"",
    "entity": "&lt;b&gt; &amp; &#60;",
    "template": "{{ 7 * 7 }}{% for x in y %}",
    "header": "x\r\nBcc: victim@example.com\r\n\r\nbody",
    "bare newline": "x\nBcc: victim@example.com",
    "unicode newlines": "a\u2028b\u2029c\x85d\x0be\x0cf",
    "faked line": "Cairo\n  Why:         nothing to see",
    "boundary": "--===============0==--",
    "dot": "\r\n.\r\nQUIT\r\n",
    "controls": "\x00\x01\x07\x08\x1b[31m\x7f",
    "right to left override": "\u202egpj.exe\u202c \u2066x\u2069 \u200f",
    "zero width": "a\u200bb\ufeffc\u00add",
    "encoded word": "=?utf-8?q?=0D=0ABcc:_x=40example.com?= =?utf-8?b?4oCu?=",
    "lone surrogate": "a\ud800b",
    "emoji": "👨\u200d👩\u200d👧 🏴 😀",
    "arabic": "القاهرة",
    "long": "W" * 128,
    "long without letters": "\u0301" * 128,
    "spaces": "a        b",
    "address": "<victim@example.com>, other@example.com",
}


def assert_harmless(transaction: Flagged) -> None:
    plain, message = composed(Flagged()), composed(transaction)

    assert message.keys() == HEADERS
    assert message["To"] == "analyst@example.org, desk@example.org"
    # A header that is too long for its first line may begin on the second.
    assert message["Subject"].lstrip().startswith("Fraud alert: 2,410.00 by ")
    assert harmless(message["Subject"]) == message["Subject"]
    assert len(message["Subject"]) < 120
    assert len(text(message).splitlines()) == len(text(plain).splitlines())
    shown = page(message)
    assert shown.tags <= EMPTY_PAGE_TAGS
    assert shown.attributes <= EMPTY_PAGE_ATTRIBUTES
    rows = dict(shown.rows)
    assert len(shown.rows) == 8
    for label, value in {
        "Transaction": transaction.transaction_id,
        "User": transaction.user_id,
        "Merchant": transaction.merchant,
        "Location": transaction.location,
        "Device": transaction.device,
    }.items():
        assert value is not None
        assert rows[label] == harmless(value)
        assert f"{label + ':':<12} {harmless(value)}" in text(message)


@pytest.mark.parametrize("field", TEXT_FIELDS)
@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_fields_are_shown_and_do_nothing(field: str, value: str):
    assert_harmless(replace(Flagged(), **{field: value}))


ANY_TEXT = st.text(st.characters(), min_size=1, max_size=128)


@given(ANY_TEXT, ANY_TEXT, ANY_TEXT)
def test_no_text_whatever_breaks_out(user: str, merchant: str, identity: str):
    assert_harmless(Flagged(user_id=user, merchant=merchant, transaction_id=identity))


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain Text 123", "plain Text 123"),
        ("a\r\nb", "a\ufffd\ufffdb"),
        ("\u202ex", "\ufffdx"),
        ("👨\u200d👩", "👨\u200d👩"),
        ("مدينة", "مدينة"),
        ("a\ud800", "a\ufffd"),
    ],
)
def test_only_what_acts_invisibly_is_replaced(raw: str, shown: str):
    assert harmless(raw) == shown


def test_reasons_of_a_newer_version_are_shown_by_their_code():
    message = composed(Flagged(reasons='[{"code": "NEW<b>", "x": 1}]'))

    assert dict(page(message).rows)["Why"] == "NEW<b>"


@pytest.mark.parametrize(
    ("transaction", "encodings"),
    [
        (Flagged(), ["7bit", "7bit"]),
        (Flagged(merchant="Café"), ["8bit", "quoted-printable"]),
        (Flagged(reasons=f'[{{"code": "{"A_NEWER_CODE_" * 80}"}}]'), ["quoted-printable"] * 2),
    ],
    ids=["plain", "beyond ASCII", "longer than a line may be"],
)
def test_text_is_encoded_only_where_it_must_be(transaction: Flagged, encodings: list[str]):
    message = composed(transaction)

    assert [part["Content-Transfer-Encoding"] for part in message.iter_parts()] == encodings
    assert max(map(len, message.as_bytes().splitlines())) <= 998
    assert_harmless(transaction)


def test_a_mail_about_nothing_is_refused():
    with pytest.raises(ValueError, match="0123abcd"):
        composed()


def test_a_long_sender_domain_leaves_the_message_id_as_it_is():
    message_id = f"<{'a' * 32}@{'.'.join(['b' * 60] * 3)}.example>"
    message = compose(
        MailContent(message_id, datetime(2025, 1, 1, tzinfo=UTC), [Flagged()]),
        sender="alerts@example.com",
        recipients=["analyst@example.org"],
        dashboard_url=DASHBOARD,
        tz=ZoneInfo("UTC"),
    )

    assert message_from_bytes(message.as_bytes(), policy=default)["Message-ID"] == message_id
