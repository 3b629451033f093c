"""Who may review, under which name, and which word on a transaction counts."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta
from typing import Any

import pytest

from fraudstream.reviews import NAME_LENGTH, NotAllowed, Word, last_word, reviewer_of

NOON = datetime.fromisoformat("2026-03-01 12:00:00")
SIGNED_IN: dict[str, Any] = {
    "is_logged_in": True,
    "email": "ann@example.com",
    "email_verified": True,
    "sub": "17",
}


def name(**other: Any) -> str:
    session: dict[str, Any] = {"login": True, "user": SIGNED_IN, "declared": ""}
    return reviewer_of(**{**session, **other}).name


def test_without_login_the_name_is_what_the_person_says_and_marked_as_such() -> None:
    assert name(login=False, user={}, declared="  Ann \n Lee ") == "Ann Lee (name not checked)"
    assert len(name(login=False, user={}, declared="x" * 500)) < NAME_LENGTH + 20


def test_a_name_that_nobody_checks_is_not_enough_where_analysts_are_named() -> None:
    with pytest.raises(NotAllowed, match="DASHBOARD_ANALYSTS"):
        name(login=False, user={}, declared="ann@example.com", allowed=("ann@example.com",))


@pytest.mark.parametrize("declared", ["", "   ", "\n\t"])
def test_nobody_reviews_without_a_name(declared: str) -> None:
    with pytest.raises(NotAllowed, match="Enter your name"):
        name(login=False, user={}, declared=declared)


@pytest.mark.parametrize(
    "user", [{}, {"is_logged_in": False}, {"email": "ann@example.com"}, {"is_logged_in": "no"}]
)
def test_with_login_nobody_reviews_who_is_not_signed_in_whatever_name_is_given(user: dict[str, Any]) -> None:
    with pytest.raises(NotAllowed, match="Sign in first"):
        name(user=user, declared="ann@example.com")


def test_with_login_the_name_is_the_providers_whatever_is_declared() -> None:
    assert name(declared="Bob") == "ann@example.com"


def test_a_mail_address_that_the_provider_has_not_verified_is_no_name() -> None:
    assert name(user={**SIGNED_IN, "email_verified": False}) == "17"
    with pytest.raises(NotAllowed, match="neither"):
        name(user={"is_logged_in": True})


def test_only_those_who_are_named_may_review_where_any_are() -> None:
    assert name(allowed=("Ann@Example.com", "bob@example.com")) == "ann@example.com"
    for user in (
        {**SIGNED_IN, "email": "eve@example.com"},
        {**SIGNED_IN, "email_verified": False},
        {"is_logged_in": True, "sub": "17"},
    ):
        with pytest.raises(NotAllowed, match="DASHBOARD_ANALYSTS"):
            name(user=user, allowed=("ann@example.com",))


def test_the_word_known_last_counts_and_at_the_same_time_fraud() -> None:
    early = Word("bank", "fraud", NOON - timedelta(days=1))
    late, same = Word("review", "legitimate", NOON), Word("shop", "fraud", NOON)
    for words in itertools.permutations([early, late]):
        assert last_word(words) == late
    for words in itertools.permutations([early, late, same]):
        assert last_word(words) == same
    assert last_word([]) is None
