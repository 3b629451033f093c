"""Real SMTP servers that do as a test tells them: accept, refuse, put off, delay, drop, speak slowly."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import MISSING, SMTP, AuthResult, Envelope, LoginPassword, Session

from fraudstream.stack.ports import choose
from tests.support.relay import Relay


@dataclass(frozen=True)
class Received:
    """One mail that the server took, for the recipients that it had accepted."""

    recipients: tuple[str, ...]
    content: bytes

    @property
    def message(self) -> EmailMessage:
        message = message_from_bytes(self.content, policy=default)
        assert isinstance(message, EmailMessage)
        return message


@dataclass
class MailServer:
    """What the server answers, to be changed at any time, and what it has seen.

    `on_rcpt` maps an address to a reply; `drop_at` names the command ("RCPT", "DATA") after whose work
    the connection is cut without an answer; a mail cut off at DATA counts as received. With a `greylist`
    who is not in it is put off, and then in it. Each command takes `command_delay_s`, DATA also
    `data_delay_s`. Where a login is needed, `password` is anybody's, unless all get the reply `on_auth`.
    """

    on_mail: str = "250 OK"
    on_rcpt: dict[str, str] = field(default_factory=dict)
    on_data: str = "250 OK"
    drop_at: str | None = None
    greylist: set[str] | None = None
    password: str = "right"
    on_auth: object = MISSING
    command_delay_s: float = 0.0
    data_delay_s: float = 0.0
    port: int = 0
    received: list[Received] = field(default_factory=list)
    offered: list[str] = field(default_factory=list)
    logins: list[tuple[str, str]] = field(default_factory=list)
    connections: set[object] = field(default_factory=set)
    before_data_reply: Callable[[], object] = lambda: None

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        await asyncio.sleep(self.command_delay_s)
        self.connections.add(session.peer)
        reply = self.on_mail
        if reply.startswith("250"):
            envelope.mail_from = address
        return reply

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        await asyncio.sleep(self.command_delay_s)
        self.offered.append(address)
        if self.drop_at == "RCPT":
            _cut(server)
        reply = self._greylisted(address) or self.on_rcpt.get(address, "250 OK")
        if reply.startswith("250"):
            envelope.rcpt_tos.append(address)
        return reply

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        await asyncio.sleep(self.command_delay_s + self.data_delay_s)
        # Read once: a test may change it meanwhile, and what is answered must be what was done.
        reply = self.on_data
        if reply.startswith("250"):
            assert isinstance(envelope.content, bytes)
            self.received.append(Received(tuple(envelope.rcpt_tos), envelope.content))
        await asyncio.get_running_loop().run_in_executor(None, self.before_data_reply)
        if self.drop_at == "DATA":
            _cut(server)
        return reply

    async def handle_AUTH(
        self, server: SMTP, session: Session, envelope: Envelope, args: list[str]
    ) -> object:
        return self.on_auth

    def _greylisted(self, address: str) -> str | None:
        if self.greylist is None or address in self.greylist:
            return None
        self.greylist.add(address)
        return "451 greylisted, come back later"

    def authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.logins.append((data.login.decode(), data.password.decode()))
        if data.password.decode() == self.password:
            return AuthResult(success=True)
        echo = f"535 wrong: {data.password.decode()}"
        return AuthResult(success=False, handled=False, message=echo)


def _cut(server: SMTP) -> None:
    assert server.transport is not None
    server.transport.abort()


class MailDoor(Relay):
    """The way to a mail server of 127.0.0.1: open, shut, or breaking down in the middle of a mail.

    With `cut_after` a connection ends as soon as so many bytes of it have reached the server.
    """

    def __init__(self, server_port: int) -> None:
        super().__init__("127.0.0.1", server_port)
        self.cut_after: int | None = None

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        forwarded = 0

        def count(data: bytes) -> None:
            nonlocal forwarded
            if self.cut_after is not None and forwarded + len(data) > self.cut_after:
                server.sendall(data[: self.cut_after - forwarded])
                raise ConnectionAbortedError
            forwarded += len(data)

        self._pump_in_background(client, server, count)
        self._pump_in_background(server, client)


@contextmanager
def mail_server(
    server: MailServer | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    starttls: ssl.SSLContext | None = None,
    login: bool = False,
    utf8: bool = False,
) -> Iterator[MailServer]:
    """Run the server on its port (a free one by default) of 127.0.0.1 during the block."""
    server = server or MailServer()
    server.port = server.port or choose()
    options: dict[str, Any] = {"authenticator": server.authenticate, "auth_required": True} if login else {}
    controller = Controller(
        server,
        hostname="127.0.0.1",
        port=server.port,
        ssl_context=tls,
        tls_context=starttls,
        require_starttls=starttls is not None,
        auth_require_tls=starttls is not None,
        enable_SMTPUTF8=utf8,
        **options,
    )
    controller.start()
    try:
        yield server
    finally:
        controller.stop()


@contextmanager
def endless_banner() -> Iterator[int]:
    """A server that greets a byte at a time and never comes to the end; gives its port."""
    done = threading.Event()

    def drip(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while not done.wait(0.05):
                connection.sendall(b"2")

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=drip, args=[connection], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            done.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
