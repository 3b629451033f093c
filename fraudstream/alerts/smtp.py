"""Hands mails to an SMTP server, and says exactly what is known of the outcome.

The only module that talks SMTP. Nothing here waits or retries: who gets the result decides.
"""

from __future__ import annotations

import base64
import enum
import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email import policy
from email.message import EmailMessage
from pathlib import Path
from typing import Literal

Security = Literal["none", "starttls", "tls"]

_LONGEST_REPLY = 300
_CUT_AGAIN_S = 0.2


@dataclass(frozen=True)
class Account:
    """Where and as whom to send. Without a password there is no login.

    Certificates and host names are checked: against the authorities in the PEM file `ca_file`, or without
    one against the system's. After `timeout_s` nothing more is said in one mail's conversation, however
    slowly the server speaks.
    """

    host: str
    port: int
    security: Security
    sender: str
    password: str | None = field(default=None, repr=False)
    timeout_s: float = 20.0
    ca_file: Path | None = None


class Outcome(enum.Enum):
    """What became of one mail."""

    ACCEPTED = "accepted for all recipients"
    SOME_REFUSED = "refused for some or all recipients, accepted for the others"
    MAIL_REFUSED = "refused for good"
    MAIL_DEFERRED = "not accepted for now"
    NO_SERVICE = "not offered: the server cannot be used now"
    UNKNOWN = "the connection was lost before the server's answer: it may have been accepted"


@dataclass(frozen=True)
class Refusal:
    """The server's answer for one recipient; `permanent` for 5xx."""

    recipient: str
    permanent: bool
    reply: str


@dataclass(frozen=True)
class SendResult:
    """`refusals` is for SOME_REFUSED only; `detail` is for people and never holds the password."""

    outcome: Outcome
    detail: str = ""
    refusals: tuple[Refusal, ...] = ()


class _NoService(Exception):
    """The server cannot be used now; the text says why."""


class Transport:
    """One sender's connection to the server: opened when needed, kept for the mails that follow.

    Not for several threads at once.
    """

    def __init__(self, account: Account) -> None:
        self._account = account
        self._client: smtplib.SMTP | None = None

    @property
    def timeout_s(self) -> float:
        """After this long `send` hands nothing more to the server."""
        return self._account.timeout_s

    def send(self, message: EmailMessage, recipients: Sequence[str]) -> SendResult:
        """Offer the mail to `recipients` (the envelope; the headers stay as they are). Never raises for
        what a server or network does: that is the result."""
        deadline = time.monotonic() + self._account.timeout_s
        try:
            client = self._ready_client(deadline)
        except _NoService as trouble:
            self.close()
            return SendResult(Outcome.NO_SERVICE, self._without_secrets(str(trouble)))
        with _cut_off_at(client, deadline):
            result = _offer(client, message, self._account.sender, recipients)
        if result.outcome in {Outcome.NO_SERVICE, Outcome.UNKNOWN}:
            self.close()
        return SendResult(result.outcome, self._without_secrets(result.detail), result.refusals)

    def close(self) -> None:
        """End the connection; the next `send` opens another."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _ready_client(self, deadline: float) -> smtplib.SMTP:
        """The kept connection if it still answers, else a new one. Raises _NoService."""
        if self._client is not None and not _answers(self._client, deadline):
            self.close()
        if self._client is None:
            self._client = _new_client(self._account)
            with _cut_off_at(self._client, deadline):
                _open(self._client, self._account)
        if time.monotonic() >= deadline:
            raise _NoService(
                f"{_address(self._account)} took longer than {self._account.timeout_s:g} s to connect"
            )
        return self._client

    def _without_secrets(self, text: str) -> str:
        password = self._account.password
        if not password:
            return text
        for secret in (password, *_encodings(self._account.sender, password)):
            text = text.replace(secret, "***")
        return text


def _new_client(account: Account) -> smtplib.SMTP:
    """Not connected yet."""
    name = _own_name()
    if account.security == "tls":
        context = _tls_context(account)
        return smtplib.SMTP_SSL(local_hostname=name, timeout=account.timeout_s, context=context)
    return smtplib.SMTP(local_hostname=name, timeout=account.timeout_s)


def _tls_context(account: Account) -> ssl.SSLContext:
    """Raises _NoService."""
    try:
        return ssl.create_default_context(cafile=account.ca_file)
    except OSError as error:
        raise _NoService(f"the file of SMTP_SSL_CA cannot be used: {_in_words(error)}") from None


def _own_name() -> str:
    """What EHLO says; smtplib's own default asks the name server, which may take seconds."""
    name = socket.gethostname()
    return name if "." in name and name.isascii() else "[127.0.0.1]"


def _open(client: smtplib.SMTP, account: Account) -> None:
    """Connect, encrypt and log in as the account says. Raises _NoService."""
    try:
        # The certificate is checked against this name, which the constructor alone would set.
        client._host = account.host  # type: ignore[attr-defined]
        code, reply = client.connect(account.host, account.port)
        if code != 220:
            raise smtplib.SMTPConnectError(code, reply)
        if account.security == "starttls":
            client.starttls(context=_tls_context(account))
        client.ehlo_or_helo_if_needed()
        if account.password:
            _log_in(client, account.sender, account.password)
    except ssl.SSLCertVerificationError as error:
        raise _NoService(
            f"{_address(account)} has a certificate that does not hold (SMTP_HOST, SMTP_SSL_CA): "
            f"{error.verify_message}"
        ) from None
    except smtplib.SMTPAuthenticationError as error:
        raise _NoService(
            f"{_address(account)} refused the login of {account.sender} "
            f"(SENDER_EMAIL, SENDER_PASSWORD): {_reply(error.smtp_code, error.smtp_error)}"
        ) from None
    except smtplib.SMTPResponseException as error:
        raise _NoService(f"{_address(account)}: {_reply(error.smtp_code, error.smtp_error)}") from None
    except (smtplib.SMTPException, OSError, UnicodeError) as error:
        raise _NoService(
            f"{_address(account)} (SMTP_HOST, SMTP_PORT, SMTP_SECURITY): {_in_words(error)}"
        ) from None
    except ValueError as error:
        # As of a challenge at the login that is not base64.
        raise _NoService(f"{_address(account)} said what nobody can read: {_in_words(error)}") from None


def _log_in(client: smtplib.SMTP, user: str, password: str) -> None:
    if not (user.isascii() and password.isascii()):
        raise _NoService("SENDER_EMAIL and SENDER_PASSWORD must be ASCII for the login")
    client.login(user, password)


def _answers(client: smtplib.SMTP, deadline: float) -> bool:
    """Whether a kept connection can carry another mail."""
    try:
        with _cut_off_at(client, deadline):
            return client.rset()[0] == 250
    except (smtplib.SMTPException, OSError):
        return False


def _offer(client: smtplib.SMTP, message: EmailMessage, sender: str, recipients: Sequence[str]) -> SendResult:
    """One mail transaction on an open connection."""
    try:
        envelope = _offer_envelope(client, sender, recipients)
    except (smtplib.SMTPException, OSError) as error:
        return SendResult(Outcome.NO_SERVICE, f"the connection was lost: {_in_words(error)}")
    if isinstance(envelope, SendResult):
        return envelope
    accepted = len(recipients) - len(envelope)
    if accepted == 0:
        return _some_refused(envelope)
    code: int
    reply: bytes | str
    try:
        code, reply = client.data(_as_bytes(message, sender, recipients))
    except smtplib.SMTPDataError as error:
        code, reply = error.smtp_code, error.smtp_error
    except (smtplib.SMTPException, OSError) as error:
        return SendResult(Outcome.UNKNOWN, f"{Outcome.UNKNOWN.value} ({_in_words(error)})")
    if not _is_positive(code):
        return _mail_refused(code, reply)
    return _some_refused(envelope) if envelope else SendResult(Outcome.ACCEPTED)


def _offer_envelope(
    client: smtplib.SMTP, sender: str, recipients: Sequence[str]
) -> tuple[Refusal, ...] | SendResult:
    """The recipients that the server refuses, or the result when it does not take the sender."""
    options = []
    if not _is_ascii(sender, recipients):
        if not client.has_extn("smtputf8"):
            return SendResult(Outcome.MAIL_REFUSED, "the server does not take addresses beyond ASCII")
        options = ["SMTPUTF8", "BODY=8BITMIME"]
    code, reply = client.mail(sender, options)
    if not _is_positive(code):
        return _mail_refused(code, reply)
    refusals = []
    for recipient in recipients:
        code, reply = client.rcpt(recipient)
        if code == 421:
            return _mail_refused(code, reply)
        if not _is_positive(code):
            refusals.append(Refusal(recipient, _is_permanent(code), _reply(code, reply)))
    return tuple(refusals)


def _mail_refused(code: int, reply: bytes | str) -> SendResult:
    if code == 421:
        return SendResult(Outcome.NO_SERVICE, _reply(code, reply))
    outcome = Outcome.MAIL_REFUSED if _is_permanent(code) else Outcome.MAIL_DEFERRED
    return SendResult(outcome, _reply(code, reply))


def _some_refused(refusals: tuple[Refusal, ...]) -> SendResult:
    detail = "; ".join(f"{refusal.recipient}: {refusal.reply}" for refusal in refusals)
    return SendResult(Outcome.SOME_REFUSED, detail, refusals)


def _is_positive(code: int) -> bool:
    return 200 <= code < 300


def _is_permanent(code: int) -> bool:
    return 500 <= code < 600


def _is_ascii(sender: str, recipients: Sequence[str]) -> bool:
    return sender.isascii() and all(recipient.isascii() for recipient in recipients)


def _as_bytes(message: EmailMessage, sender: str, recipients: Sequence[str]) -> bytes:
    rules = policy.SMTP if _is_ascii(sender, recipients) else policy.SMTPUTF8
    return message.as_bytes(policy=rules)


def _reply(code: int, reply: bytes | str) -> str:
    """The server's answer on one line, of bounded length."""
    text = reply.decode("utf-8", errors="replace") if isinstance(reply, bytes) else reply
    return f"{code} {' '.join(text.split())}"[:_LONGEST_REPLY]


def _in_words(error: Exception) -> str:
    return " ".join(str(error).split())[:_LONGEST_REPLY] or type(error).__name__


def _address(account: Account) -> str:
    return f"mail server {account.host}:{account.port}"


def _encodings(sender: str, password: str) -> Iterator[str]:
    """The forms in which AUTH PLAIN and AUTH LOGIN carry the password."""
    for plain in (f"\0{sender}\0{password}", password):
        yield base64.b64encode(plain.encode()).decode()


@contextmanager
def _cut_off_at(client: smtplib.SMTP, deadline: float) -> Iterator[None]:
    """Shut the connection down from `deadline` (monotonic) on, so that a server that speaks a byte at a
    time cannot hold the block: its next read or write then fails."""
    done = threading.Event()

    def watch() -> None:
        wait_s = deadline - time.monotonic()
        while not done.wait(max(wait_s, 0.0)):
            _shut_down(client)
            wait_s = _CUT_AGAIN_S

    watcher = threading.Thread(target=watch, name="smtp-deadline", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _shut_down(client: smtplib.SMTP) -> None:
    connection = client.sock
    if connection is not None:
        # The other end or the block itself may have closed it in the meantime.
        with suppress(OSError):
            # Past SSLSocket.shutdown, which takes the TLS state from under a read that is under way.
            socket.socket.shutdown(connection, socket.SHUT_RDWR)
