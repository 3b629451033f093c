"""The transport against real SMTP servers that refuse, put off, delay and drop."""

from __future__ import annotations

import ssl
import time
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

import pytest
import trustme
from aiosmtpd.smtp import MISSING

from fraudstream.alerts.smtp import Account, Outcome, Security, Transport
from fraudstream.stack.ports import choose
from tests.support.mail_servers import MailServer, endless_banner, mail_server
from tests.support.ports import free_port

ONE = ["analyst@example.org"]
TWO = ["analyst@example.org", "desk@example.org"]


def mail(subject: str = "Fraud alert") -> EmailMessage:
    message = EmailMessage(policy=SMTP)
    message["Subject"] = subject
    message["From"] = "alerts@example.com"
    message["To"] = "analyst@example.org"
    message["Message-ID"] = "<1@example.com>"
    message.set_content("first line\n.\n..two dots\nlast line\n")
    return message


def transport(
    port: int,
    *,
    host: str = "127.0.0.1",
    security: Security = "none",
    sender: str = "alerts@example.com",
    password: str | None = None,
    timeout_s: float = 10.0,
) -> Transport:
    return Transport(Account(host, port, security, sender, password, timeout_s))


def test_an_accepted_mail_arrives_as_it_was():
    with mail_server() as server:
        result = transport(server.port).send(mail(), TWO)

    assert result.outcome is Outcome.ACCEPTED
    assert result.refusals == ()
    (received,) = server.received
    assert received.recipients == tuple(TWO)
    assert received.message["Message-ID"] == "<1@example.com>"
    assert received.message.get_content().splitlines() == ["first line", ".", "..two dots", "last line"]


def test_one_connection_carries_several_mails_even_after_a_refusal():
    with mail_server() as server:
        connection = transport(server.port)
        server.on_rcpt = {"desk@example.org": "550 no such user"}
        outcomes = [connection.send(mail(), to).outcome for to in (ONE, ["desk@example.org"], ONE)]
        connection.close()

    assert outcomes == [Outcome.ACCEPTED, Outcome.SOME_REFUSED, Outcome.ACCEPTED]
    assert len(server.received) == 2
    assert len(server.connections) == 1


def test_a_kept_connection_that_the_server_has_closed_is_replaced():
    with mail_server() as server:
        connection = transport(server.port)
        assert connection.send(mail(), ONE).outcome is Outcome.ACCEPTED
    with mail_server(server):
        assert connection.send(mail(), ONE).outcome is Outcome.ACCEPTED
        connection.close()

    assert len(server.received) == 2


@pytest.mark.parametrize(("reply", "permanent"), [("550 no such user", True), ("450 greylisted", False)])
def test_a_refused_recipient_is_named_and_the_others_get_the_mail(reply: str, permanent: bool):
    with mail_server(MailServer(on_rcpt={"desk@example.org": reply})) as server:
        result = transport(server.port).send(mail(), TWO)

    assert result.outcome is Outcome.SOME_REFUSED
    (refusal,) = result.refusals
    assert (refusal.recipient, refusal.permanent, refusal.reply) == ("desk@example.org", permanent, reply)
    assert [received.recipients for received in server.received] == [("analyst@example.org",)]


def test_a_mail_refused_for_everybody_is_not_transmitted():
    refusing = MailServer(on_rcpt={"analyst@example.org": "550 no", "desk@example.org": "451 later"})
    with mail_server(refusing) as server:
        result = transport(server.port).send(mail(), TWO)

    assert result.outcome is Outcome.SOME_REFUSED
    assert [refusal.permanent for refusal in result.refusals] == [True, False]
    assert server.received == []


@pytest.mark.parametrize(
    ("server", "outcome"),
    [
        (MailServer(on_mail="550 not you"), Outcome.MAIL_REFUSED),
        (MailServer(on_mail="451 busy"), Outcome.MAIL_DEFERRED),
        (MailServer(on_mail="421 closing"), Outcome.NO_SERVICE),
        (MailServer(on_rcpt={ONE[0]: "421 closing"}), Outcome.NO_SERVICE),
        (MailServer(on_data="554 looks like spam"), Outcome.MAIL_REFUSED),
        (MailServer(on_data="452 disk full"), Outcome.MAIL_DEFERRED),
        (MailServer(on_data="421 closing"), Outcome.NO_SERVICE),
    ],
)
def test_an_answer_about_the_whole_mail(server: MailServer, outcome: Outcome):
    with mail_server(server):
        result = transport(server.port).send(mail(), ONE)

    assert result.outcome is outcome
    replies = [server.on_mail, server.on_data, *server.on_rcpt.values()]
    assert result.detail in [reply for reply in replies if not reply.startswith("250")]


def test_nobody_listening_is_no_service():
    port = choose()

    result = transport(port).send(mail(), ONE)

    assert result.outcome is Outcome.NO_SERVICE
    assert f"127.0.0.1:{port}" in result.detail


def test_a_host_that_cannot_exist_is_no_service():
    result = transport(25, host="x" * 80).send(mail(), ONE)

    assert result.outcome is Outcome.NO_SERVICE


def test_a_connection_lost_before_the_mail_is_no_service():
    with mail_server(MailServer(drop_at="RCPT")) as server:
        result = transport(server.port).send(mail(), ONE)

    assert result.outcome is Outcome.NO_SERVICE
    assert server.received == []


def test_a_connection_lost_before_the_answer_leaves_the_outcome_unknown():
    with mail_server(MailServer(drop_at="DATA")) as server:
        connection = transport(server.port)
        result = connection.send(mail(), ONE)
        server.drop_at = None
        again = connection.send(mail(), ONE)

    assert result.outcome is Outcome.UNKNOWN
    assert again.outcome is Outcome.ACCEPTED
    assert [received.message["Message-ID"] for received in server.received] == ["<1@example.com>"] * 2


def test_a_server_that_answers_too_late_leaves_the_outcome_unknown_in_bounded_time():
    with mail_server(MailServer(data_delay_s=3)) as server:
        began = time.monotonic()
        result = transport(server.port, timeout_s=0.5).send(mail(), ONE)
        took_s = time.monotonic() - began

    assert result.outcome is Outcome.UNKNOWN
    assert took_s < 2


def test_a_server_that_speaks_a_byte_at_a_time_is_cut_off():
    with endless_banner() as port:
        began = time.monotonic()
        result = transport(port, timeout_s=0.5).send(mail(), ONE)
        took_s = time.monotonic() - began

    assert result.outcome is Outcome.NO_SERVICE
    assert took_s < 2


def test_addresses_beyond_ascii_need_a_server_that_takes_them():
    with mail_server(utf8=True) as server:
        assert transport(server.port).send(mail(), ["prüfer@example.org"]).outcome is Outcome.ACCEPTED
    assert server.received[0].recipients == ("prüfer@example.org",)

    with mail_server() as server:
        assert transport(server.port).send(mail(), ["prüfer@example.org"]).outcome is Outcome.MAIL_REFUSED


class Certificates:
    """A certificate authority of the test's own, and contexts of servers that it vouches for."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self.authority_file = folder / "authority.pem"
        self._authority.cert_pem.write_to_path(self.authority_file)

    def server(self, name: str) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._authority.issue_cert(name).configure_cert(context)
        return context


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


@pytest.fixture
def trusted(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> Certificates:
    """As if the system trusted the authority."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority_file))
    return certificates


def test_starttls_sends_over_an_encrypted_connection(trusted: Certificates):
    with mail_server(starttls=trusted.server("127.0.0.1")) as server:
        result = transport(server.port, security="starttls").send(mail(), ONE)

    assert result.outcome is Outcome.ACCEPTED


def test_tls_sends_over_an_encrypted_connection(trusted: Certificates):
    with mail_server(tls=trusted.server("127.0.0.1")) as server:
        result = transport(server.port, security="tls").send(mail(), ONE)

    assert result.outcome is Outcome.ACCEPTED


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_certificate_of_an_unknown_authority_is_not_accepted(
    certificates: Certificates, security: Security
):
    context = certificates.server("127.0.0.1")
    with mail_server(**{security: context}) as server:
        result = transport(server.port, security=security, password="right").send(mail(), ONE)

    assert result.outcome is Outcome.NO_SERVICE
    assert "certificate" in result.detail
    assert server.logins == []
    assert server.offered == []


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_certificate_for_another_host_is_not_accepted(trusted: Certificates, security: Security):
    context = trusted.server("elsewhere.example")
    with mail_server(**{security: context}) as server:
        result = transport(server.port, security=security).send(mail(), ONE)

    assert result.outcome is Outcome.NO_SERVICE
    assert "certificate" in result.detail
    assert server.offered == []


def test_a_server_without_starttls_gets_nothing_unencrypted():
    with mail_server() as server:
        result = transport(server.port, security="starttls").send(mail(), ONE)

    assert result.outcome is Outcome.NO_SERVICE
    assert "STARTTLS" in result.detail
    assert server.offered == []


def test_a_password_logs_in(trusted: Certificates):
    with mail_server(starttls=trusted.server("127.0.0.1"), login=True) as server:
        result = transport(server.port, security="starttls", password="right").send(mail(), ONE)

    assert result.outcome is Outcome.ACCEPTED
    assert server.logins == [("alerts@example.com", "right")]


def test_without_a_password_nothing_logs_in(trusted: Certificates):
    with mail_server(starttls=trusted.server("127.0.0.1"), login=True) as server:
        result = transport(server.port, security="starttls").send(mail(), ONE)

    assert server.logins == []
    assert result.outcome is Outcome.MAIL_REFUSED
    assert result.detail.startswith("530")


def test_a_refused_login_is_no_service_and_never_shows_the_password(trusted: Certificates):
    with mail_server(starttls=trusted.server("127.0.0.1"), login=True) as server:
        connection = transport(server.port, security="starttls", password="s3cret-Pass")
        result = connection.send(mail(), ONE)

    assert result.outcome is Outcome.NO_SERVICE
    assert server.logins[0] == ("alerts@example.com", "s3cret-Pass")
    assert "SENDER_PASSWORD" in result.detail
    assert "wrong: ***" in result.detail
    assert "s3cret-Pass" not in result.detail


@pytest.mark.parametrize("challenge", ["334 a", "334 \xe9", "3"])
def test_a_login_answered_with_nonsense_is_no_service(trusted: Certificates, challenge: str):
    speaker = MailServer(on_auth=challenge)
    with mail_server(speaker, starttls=trusted.server("127.0.0.1"), login=True) as server:
        connection = transport(server.port, security="starttls", password="s3cret-Pass")
        nonsense = connection.send(mail(), ONE)
        server.on_auth = MISSING
        server.password = "s3cret-Pass"
        sensible = connection.send(mail(), ONE)
        connection.close()

    assert nonsense.outcome is Outcome.NO_SERVICE
    assert f"127.0.0.1:{server.port}" in nonsense.detail and "s3cret" not in nonsense.detail
    assert sensible.outcome is Outcome.ACCEPTED


def test_a_server_that_is_not_there_is_named_with_the_variables_to_change():
    port = free_port()
    result = transport(port).send(mail(), ONE)

    assert result.outcome is Outcome.NO_SERVICE
    assert f"127.0.0.1:{port} (SMTP_HOST, SMTP_PORT, SMTP_SECURITY)" in result.detail


def test_an_account_shows_no_password():
    assert "s3cret" not in repr(Account("h", 25, "tls", "alerts@example.com", "s3cret"))


def test_a_password_that_the_login_cannot_carry_is_named(trusted: Certificates):
    with mail_server(starttls=trusted.server("127.0.0.1"), login=True) as server:
        result = transport(server.port, security="starttls", password="pässword").send(mail(), ONE)

    assert result.outcome is Outcome.NO_SERVICE
    assert "SENDER_PASSWORD must be ASCII" in result.detail
    assert "pässword" not in result.detail
