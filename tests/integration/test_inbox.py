"""The inbox as its own process: mail in by SMTP, mail out by its pages, whatever the mail holds."""

from __future__ import annotations

import json
import smtplib
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from fraudstream.config import PROJECT_DIR, child_environment
from fraudstream.stack.inbox_service import Inbox
from fraudstream.stack.ports import HOST, choose
from fraudstream.stack.processes import end, spawn
from tests.support.waiting import wait_until

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=alert(1)>\"'&{{ 7*7 }}"


@dataclass(frozen=True)
class RunningInbox:
    service: Inbox

    @property
    def smtp(self) -> tuple[str, int]:
        return HOST, self.service.smtp_port

    def get(self, path: str, **headers: str) -> tuple[str, dict[str, str]]:
        with urlopen(Request(self.service.address + path, headers=headers), timeout=10) as answer:
            return answer.read().decode(), dict(answer.headers)

    def mails(self) -> list[dict]:
        return json.loads(self.get("/api/mails")[0])


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[RunningInbox]:
    smtp_port = choose()
    service = Inbox(tmp_path / "mails", tmp_path / "log", smtp_port, choose(taken=frozenset({smtp_port})))
    service.prepare()
    environment = child_environment(PYTHONPATH=str(PROJECT_DIR))
    process = spawn(service.command(), environment=environment, log=service.log)
    try:
        wait_until(lambda: service.version(process), timeout=60, describe=service.log.read_text)
        yield RunningInbox(service)
    finally:
        end([process], grace_s=10)


def message(subject: str = "3 transactions look like fraud") -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "alerts@example.com", "analyst@example.org", subject
    mail.set_content("See http://127.0.0.1:8501/?user=u1")
    mail.add_alternative("<h1>Three</h1>", subtype="html")
    return mail


def test_a_mail_sent_by_smtp_is_listed_shown_and_given_back(inbox: RunningInbox) -> None:
    assert inbox.mails() == []
    assert "No mail yet" in inbox.get("/")[0]
    with smtplib.SMTP(*inbox.smtp) as client:
        client.send_message(message(), to_addrs=["analyst@example.org", "hidden@example.org"])
    # Accepted means kept: nothing is left to wait for.
    (mail,) = inbox.mails()
    assert (mail["sender"], mail["recipients"]) == ("alerts@example.com", "analyst@example.org")
    assert mail["subject"] == "3 transactions look like fraud"

    listing, _ = inbox.get("/")
    assert f'href="/mail/{mail["id"]}"' in listing
    assert "3 transactions look like fraud" in listing

    page, _ = inbox.get(f"/mail/{mail['id']}")
    assert '<iframe sandbox="" ' in page
    assert 'href="http://127.0.0.1:8501/?user=u1"' in page
    html, headers = inbox.get(f"/mail/{mail['id']}/html")
    assert "<h1>Three</h1>" in html
    assert headers["content-security-policy"].startswith("sandbox; default-src 'none'")

    raw, _ = inbox.get(f"/mail/{mail['id']}/raw")
    parsed = message_from_bytes(raw.encode(), policy=default)
    assert parsed.get_all("Delivered-To") == ["analyst@example.org", "hidden@example.org"]
    assert parsed.get_body(("html",)).get_content().strip() == "<h1>Three</h1>"


def test_hostile_fields_are_shown_as_text_and_no_page_runs_a_script(inbox: RunningInbox) -> None:
    mail = message(subject=HOSTILE)
    mail.replace_header("From", f'"{HOSTILE.replace(chr(34), "")}" <alerts@example.com>')
    mail.add_attachment(b"x", maintype="application", subtype="octet-stream", filename=HOSTILE)
    mail["X-Hostile"] = HOSTILE
    with smtplib.SMTP(*inbox.smtp) as client:
        client.send_message(mail)
    mail_id = inbox.mails()[0]["id"]
    for path in ("/", f"/mail/{mail_id}"):
        page, headers = inbox.get(path)
        assert "<script" not in page
        assert "<img" not in page
        assert "&lt;script&gt;" in page
        assert "{{ 7*7 }}" in page
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert "script-src" not in headers["content-security-policy"]
    _, headers = inbox.get(f"/mail/{mail_id}/raw")
    assert headers["content-type"].startswith("text/plain")
    assert headers["x-content-type-options"] == "nosniff"


def test_newest_mails_come_first_and_a_long_list_says_how_many_there_are(inbox: RunningInbox) -> None:
    with smtplib.SMTP(*inbox.smtp) as client:
        for number in range(205):
            client.send_message(message(subject=f"mail no. {number}"))
    assert [mail["subject"] for mail in inbox.mails()] == [
        f"mail no. {number}" for number in reversed(range(205))
    ]
    page, _ = inbox.get("/")
    assert "205 mails, the newest 200 are shown" in page
    assert page.index("mail no. 204<") < page.index("mail no. 203<")
    assert "mail no. 4<" not in page


def test_a_login_does_not_keep_a_mail_out(inbox: RunningInbox) -> None:
    with smtplib.SMTP(*inbox.smtp) as client:
        client.login("alerts@example.com", "any password")
        client.send_message(message())
    assert len(inbox.mails()) == 1


def test_another_sites_name_for_this_machine_is_refused(inbox: RunningInbox) -> None:
    with pytest.raises(HTTPError) as error:
        inbox.get("/api/mails", Host="attacker.example")
    assert error.value.code == 400


@pytest.mark.parametrize("path", ["/mail/none", "/mail/none/html", "/mail/none/raw", "/mail/..%2f..%2fx"])
def test_a_mail_that_is_not_there_is_not_found(inbox: RunningInbox, path: str) -> None:
    with pytest.raises(HTTPError) as error:
        inbox.get(path)
    assert error.value.code == 404
