"""What an analyst finds of a transaction, and who that analyst is; nothing of SQL or Streamlit.

A review is a label of the source REVIEW, so training, merchant risk and precision see it as any other.
Nobody reviews without a name: with login the one that the provider vouches for, else one that the person
gives, and the record then says that nobody checked it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fraudstream.labels import Outcome

REVIEW = "review"
WITHDRAWN = "withdrawn"
NOTE_LENGTH = 2_000
NAME_LENGTH = 100
_NOT_CHECKED = " (name not checked)"


class NotAllowed(Exception):
    """This session may not review; the text says what it lacks."""


@dataclass(frozen=True)
class Reviewer:
    """Who reviews, as it is recorded. `reviewer_of` alone makes one for a session."""

    name: str


@dataclass(frozen=True)
class Review:
    """A transaction's review as it is stored: `version` counts its changes, from 1.

    `outcome` None means that it was taken back. `known_at` is local time in TZ, `recorded_at` UTC.
    """

    version: int
    outcome: Outcome | None
    note: str | None
    reviewer: str
    known_at: datetime
    recorded_at: datetime


@dataclass(frozen=True)
class Word:
    """What one source says of a transaction; `known_at` is local time in TZ."""

    source: str
    outcome: Outcome
    known_at: datetime
    by: str | None = None


def reviewer_of(
    *, login: bool, user: Mapping[str, Any], declared: str, allowed: Collection[str] = ()
) -> Reviewer:
    """Who reviews in this session. Raises NotAllowed.

    With `login`, `user` is what the provider said of the session: its `is_logged_in` must be true, and where
    `allowed` names mail addresses, a verified one of them. Without login it is the `declared` name, and
    nobody's where `allowed` asks for more.
    """
    if not login:
        if allowed:
            raise NotAllowed(
                "DASHBOARD_ANALYSTS says who may review, and without a login nobody can show who they are."
            )
        name = " ".join(declared.split())[:NAME_LENGTH]
        if not name:
            raise NotAllowed("Enter your name first: a review is never without one.")
        return Reviewer(name + _NOT_CHECKED)
    if user.get("is_logged_in") is not True:
        raise NotAllowed("Sign in first: only a signed-in analyst can review.")
    mail = str(user.get("email") or "")
    # Google leaves the claim out of nothing, others leave it out altogether: only a plain no is one.
    verified = user.get("email_verified") not in (False, "false")
    if allowed and not (verified and mail.casefold() in {each.casefold() for each in allowed}):
        raise NotAllowed(f"{mail or 'This account'} is not among those who may review (DASHBOARD_ANALYSTS).")
    name = mail if mail and verified else str(user.get("sub") or "")
    if not name:
        raise NotAllowed("The login says neither a verified mail address nor an id of this account.")
    return Reviewer(name[:NAME_LENGTH])


def last_word(words: Iterable[Word]) -> Word | None:
    """Of several sources the word that became known last; of two at the same time, fraud."""
    return max(words, key=lambda word: (word.known_at, word.outcome == "fraud"), default=None)
