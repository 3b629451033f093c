"""The mail inbox: takes mail by SMTP from anyone on this machine, keeps it, and shows it in the browser.

`python -m fraudstream.stack.inbox FOLDER --smtp-port 1025 --http-port 8025` serves until SIGTERM.
It delivers nothing to anywhere. What a mail contains is hostile until shown otherwise: every field is
escaped, no page of ours runs a script, and a mail's HTML is shown in a frame that may do nothing.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, TypeVar

import typer
import uvicorn
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.templating import Jinja2Templates

from fraudstream.stack.mailbox import Mail, Mailbox
from fraudstream.stack.ports import HOST

T = TypeVar("T")

LISTED = 200
_LARGEST_MAIL = 32 * 1024 * 1024
_TEMPLATES = Path(__file__).with_name("templates")
_PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_MAIL_HTML_HEADERS = {
    **_PAGE_HEADERS,
    "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:",
}


class Receiver:
    """aiosmtpd's handler: each mail that is accepted is in the mailbox before the client hears so."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        content = envelope.original_content or b""
        mail_id = await asyncio.to_thread(
            self._mailbox.save, envelope.mail_from or "", envelope.rcpt_tos, content
        )
        return f"250 OK {mail_id}"


def accept_any_login(*_: object) -> AuthResult:
    """A password meant for a provider must not keep a mail from the inbox; it is neither checked nor kept."""
    return AuthResult(success=True)


def make_app(mailbox: Mailbox, *, smtp_port: int | None = None) -> Starlette:
    """The inbox's pages, and with `smtp_port` its SMTP server, which lives as long as the app does."""
    templates = Jinja2Templates(_TEMPLATES)

    def page(request: Request, template: str, **context: object) -> Response:
        return templates.TemplateResponse(request, template, context, headers=_PAGE_HEADERS)

    def list_page(request: Request) -> Response:
        ids = mailbox.ids()
        return page(request, "inbox.html", mails=mailbox.summaries(ids[:LISTED]), total=len(ids))

    def mail_page(request: Request) -> Response:
        return page(request, "mail.html", mail=_found(mailbox.read(request.path_params["mail_id"])))

    def mail_html(request: Request) -> Response:
        mail: Mail = _found(mailbox.read(request.path_params["mail_id"]))
        return HTMLResponse(_found(mail.html), headers=_MAIL_HTML_HEADERS)

    def mail_raw(request: Request) -> Response:
        raw = _found(mailbox.raw(request.path_params["mail_id"]))
        return Response(raw, media_type="text/plain; charset=utf-8", headers=_PAGE_HEADERS)

    def api_mails(request: Request) -> Response:
        summaries = [asdict(mail) for mail in mailbox.summaries(mailbox.ids())]
        return JSONResponse([{**mail, "received_at": mail["received_at"].isoformat()} for mail in summaries])

    def api_health(request: Request) -> Response:
        return JSONResponse({"pid": os.getpid()})

    def style(request: Request) -> Response:
        return FileResponse(_TEMPLATES / "inbox.css", media_type="text/css")

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        if smtp_port is None:
            yield
            return
        server = await asyncio.get_running_loop().create_server(
            lambda: _smtp_session(mailbox), HOST, smtp_port, start_serving=True
        )
        async with server:
            yield

    return Starlette(
        routes=[
            Route("/", list_page),
            Route("/inbox.css", style),
            Route("/mail/{mail_id}", mail_page),
            Route("/mail/{mail_id}/html", mail_html),
            Route("/mail/{mail_id}/raw", mail_raw),
            Route("/api/mails", api_mails),
            Route("/api/health", api_health),
        ],
        # A page of another site must not read the mails by pointing its own name at this machine.
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])],
        lifespan=lifespan,
    )


def _smtp_session(mailbox: Mailbox) -> SMTP:
    return SMTP(
        Receiver(mailbox),
        hostname="localhost",
        data_size_limit=_LARGEST_MAIL,
        enable_SMTPUTF8=True,
        authenticator=accept_any_login,
        auth_require_tls=False,
    )


def _found(value: T | None) -> T:
    if value is None:
        raise HTTPException(404, "There is no such mail.")
    return value


def main(
    folder: Path,
    smtp_port: Annotated[int, typer.Option()] = 1025,
    http_port: Annotated[int, typer.Option()] = 8025,
) -> None:
    """Serve the inbox of FOLDER on 127.0.0.1."""
    app = make_app(Mailbox(folder), smtp_port=smtp_port)
    uvicorn.run(app, host=HOST, port=http_port, log_level="warning")


if __name__ == "__main__":
    typer.run(main)
