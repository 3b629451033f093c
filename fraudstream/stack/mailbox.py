"""The inbox's mails: one .eml file each, in a folder, named so that sorting is by time of arrival."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.headerregistry import (
    ContentDispositionHeader,
    ContentTransferEncodingHeader,
    ContentTypeHeader,
    HeaderRegistry,
)
from email.message import EmailMessage
from email.parser import BytesHeaderParser
from email.policy import EmailPolicy
from functools import lru_cache
from pathlib import Path

_ID_FORMAT = "%Y%m%dT%H%M%S.%fZ"
_ID = re.compile(r"\d{8}T\d{6}\.\d{6}Z")


@lru_cache(maxsize=1)
def _policy() -> EmailPolicy[EmailMessage]:
    """How mails are parsed. Addresses and dates are shown, never used: read as plain text, they cannot be
    made badly enough to fail."""
    headers = HeaderRegistry(use_default_map=False)
    for name, kind in (
        ("content-type", ContentTypeHeader),
        ("content-disposition", ContentDispositionHeader),
        ("content-transfer-encoding", ContentTransferEncodingHeader),
    ):
        headers.map_to_type(name, kind)  # type: ignore[arg-type]
    return EmailPolicy(header_factory=headers)


@dataclass(frozen=True)
class Summary:
    """One line of the list. `received_at` is UTC; all other text came from the sender and is untrusted."""

    id: str
    received_at: datetime
    sender: str
    recipients: str
    subject: str
    message_id: str
    size: int


@dataclass(frozen=True)
class Mail:
    """One mail, decoded; `html` and `text` are None when it has no such part."""

    summary: Summary
    headers: Sequence[tuple[str, str]]
    html: str | None
    text: str | None
    attachments: Sequence[str]


class Mailbox:
    """The folder of mails. Safe for one writing process and any number of reading ones."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writing = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        for unfinished in folder.glob("*.unfinished"):
            unfinished.unlink()
        self._newest = max(self.ids(), default=None)

    def save(self, sender: str, recipients: Sequence[str], content: bytes) -> str:
        """Store a mail under a new id, which is returned once the mail is on the disk.

        Like a mail server it puts the envelope in front, as Return-Path and Delivered-To.
        """
        envelope = [f"Return-Path: <{sender}>", *(f"Delivered-To: {recipient}" for recipient in recipients)]
        head = "".join(f"{line}\r\n" for line in envelope).encode("utf-8", "surrogateescape")
        with self._writing:
            mail_id = self._next_id()
            unfinished = self._folder / f"{mail_id}.unfinished"
            with unfinished.open("wb") as file:
                file.write(head + content)
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(self._path(mail_id))
        return mail_id

    def ids(self) -> list[str]:
        """The ids of all mails, newest first."""
        return sorted((path.stem for path in self._folder.glob("*.eml")), reverse=True)

    def summaries(self, ids: Sequence[str]) -> list[Summary]:
        """The list's lines for the mails of these ids."""
        return [_summary(self._path(mail_id)) for mail_id in ids]

    def raw(self, mail_id: str) -> bytes | None:
        """The mail as stored, or None when there is none of that id."""
        if not _ID.fullmatch(mail_id) or not self._path(mail_id).exists():
            return None
        return self._path(mail_id).read_bytes()

    def read(self, mail_id: str) -> Mail | None:
        """The mail, decoded, or None when there is none of that id."""
        raw = self.raw(mail_id)
        if raw is None:
            return None
        message = message_from_bytes(raw, policy=_policy())
        assert isinstance(message, EmailMessage)
        return Mail(
            summary=_summary(self._path(mail_id)),
            headers=[(name, str(value)) for name, value in message.items()],
            html=_body(message, "html"),
            text=_body(message, "plain"),
            attachments=[
                part.get_filename() or part.get_content_type() for part in message.iter_attachments()
            ],
        )

    def _path(self, mail_id: str) -> Path:
        return self._folder / f"{mail_id}.eml"

    def _next_id(self) -> str:
        # Strictly after the newest, also when the clock was set back or did not move.
        now = datetime.now(UTC)
        if self._newest is not None and now <= received_at(self._newest):
            now = received_at(self._newest) + timedelta(microseconds=1)
        self._newest = now.strftime(_ID_FORMAT)
        return self._newest


def received_at(mail_id: str) -> datetime:
    """When the mail of that id arrived, in UTC."""
    return datetime.strptime(mail_id, _ID_FORMAT).replace(tzinfo=UTC)


@lru_cache(maxsize=10_000)
def _summary(path: Path) -> Summary:
    with path.open("rb") as file:
        headers = BytesHeaderParser(policy=_policy()).parse(file)
    return Summary(
        id=path.stem,
        received_at=received_at(path.stem),
        sender=str(headers.get("From", "")),
        recipients=str(headers.get("To", "")),
        subject=str(headers.get("Subject", "")),
        message_id=str(headers.get("Message-ID", "")),
        size=path.stat().st_size,
    )


def _body(message: EmailMessage, subtype: str) -> str | None:
    part = message.get_body(preferencelist=(subtype,))
    if part is None:
        return None
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    return _decode(content, part.get_content_charset("utf-8"))


def _decode(content: bytes, charset: str) -> str:
    try:
        return content.decode(charset, "replace")
    except LookupError:
        return content.decode("utf-8", "replace")
