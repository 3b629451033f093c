"""Mails in their folder: kept whole, in order of arrival, readable however badly made."""

from __future__ import annotations

from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fraudstream.stack.mailbox import Mailbox, received_at


@pytest.fixture
def mailbox(tmp_path: Path) -> Mailbox:
    return Mailbox(tmp_path / "mails")


def mail(subject: str = "An alert", text: str = "As text.", html: str | None = "<b>As HTML.</b>") -> bytes:
    message = EmailMessage()
    message["From"], message["To"] = "alerts@example.com", "analyst@example.org"
    message["Subject"], message["Message-ID"] = subject, "<1@example.com>"
    message.set_content(text)
    if html is not None:
        message.add_alternative(html, subtype="html")
    return message.as_bytes()


def test_a_mail_is_kept_as_it_came_behind_its_envelope(mailbox: Mailbox) -> None:
    content = mail()
    mail_id = mailbox.save("alerts@example.com", ["a@example.org", "b@example.org"], content)
    raw = mailbox.raw(mail_id)
    assert raw is not None
    head = raw.removesuffix(content)
    assert head == (
        b"Return-Path: <alerts@example.com>\r\nDelivered-To: a@example.org\r\nDelivered-To: b@example.org\r\n"
    )


def test_the_parts_and_the_list_line_are_decoded(mailbox: Mailbox) -> None:
    mail_id = mailbox.save("", [], mail(subject="Betrag über 2.000 €: تنبيه", text="Zahlung €"))
    read = mailbox.read(mail_id)
    assert read is not None
    assert read.text is not None
    assert read.html is not None
    assert read.text.strip() == "Zahlung €"
    assert read.html.strip() == "<b>As HTML.</b>"
    assert read.summary == mailbox.summaries([mail_id])[0]
    assert read.summary.subject == "Betrag über 2.000 €: تنبيه"
    assert read.summary.message_id == "<1@example.com>"
    assert abs((datetime.now(UTC) - read.summary.received_at).total_seconds()) < 60


def test_ids_are_newest_first_and_never_the_same(mailbox: Mailbox) -> None:
    saved = [mailbox.save("", [], mail()) for _ in range(50)]
    assert mailbox.ids() == sorted(set(saved), reverse=True)
    assert saved == sorted(saved)


def test_a_clock_that_was_set_back_does_not_change_the_order(tmp_path: Path) -> None:
    ahead = "29990101T000000.000000Z"
    (tmp_path / f"{ahead}.eml").write_bytes(mail())
    mailbox = Mailbox(tmp_path)
    later = mailbox.save("", [], mail())
    assert mailbox.ids() == [later, ahead]
    assert received_at(later) > received_at(ahead)


def test_mails_are_there_again_after_a_restart_and_half_written_ones_are_not(tmp_path: Path) -> None:
    folder = tmp_path / "mails"
    mail_id = Mailbox(folder).save("", [], mail())
    (folder / "20250101T000000.000000Z.unfinished").write_bytes(b"From: half")
    assert Mailbox(folder).ids() == [mail_id]
    assert [path.name for path in folder.iterdir()] == [f"{mail_id}.eml"]


@pytest.mark.parametrize("mail_id", ["../secret", "..%2Fsecret", "", "x", "20250101T000000.000000Z", "\0"])
def test_an_id_that_is_no_mails_reads_nothing(mailbox: Mailbox, tmp_path: Path, mail_id: str) -> None:
    (tmp_path / "secret.eml").write_text("Subject: secret")
    assert mailbox.raw(mail_id) is None
    assert mailbox.read(mail_id) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\r\n\r\n",
        b"no header at all",
        b"Content-Type: text/html; charset=no-such-charset\r\n\r\n\xff\xfe<b>",
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: text/plain",
        b"Content-Type: multipart/alternative\r\n\r\nno boundary",
        b"Subject: =?utf-8?b?not base64!?=\r\nFrom: <<<>>>\r\nTo: @\r\n\r\n",
        b"Content-Transfer-Encoding: base64\r\n\r\n%%%%",
        b"From: \xff\xfe\r\nSubject: \x00\x1b[31m\r\n\r\n\x00",
    ],
)
def test_a_badly_made_mail_is_shown_all_the_same(mailbox: Mailbox, content: bytes) -> None:
    mail_id = mailbox.save("", [], content)
    assert mailbox.read(mail_id) is not None
    assert mailbox.summaries([mail_id])[0].id == mail_id


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=1000)
@given(
    name=st.sampled_from(
        ["From", "To", "Subject", "Message-ID", "Content-Type", "Content-Disposition", "Date"]
    ),
    value=st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=60),
)
def test_no_header_stops_the_list(mailbox: Mailbox, name: str, value: str) -> None:
    mail_id = mailbox.save("", [], f"{name}: {value}\r\n\r\nbody".encode())
    assert mailbox.read(mail_id) is not None
