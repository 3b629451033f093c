"""Reviews on a page: who reviews, the buttons with their keys, and what a press stores.

Who may review is decided by `reviewer` where the review is written; what a page shows only follows it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import streamlit as st
from streamlit.errors import StreamlitSecretNotFoundError

from fraudstream.dashboard.process import engine_of_this_process, settings_of_this_process
from fraudstream.labels import Outcome
from fraudstream.reviews import NAME_LENGTH, NOTE_LENGTH, NotAllowed, Reviewer, reviewer_of
from fraudstream.store import reviews as store
from fraudstream.store.reads.queue import Known
from fraudstream.store.reads.snapshot import DatabaseProblem
from fraudstream.store.reviews import NOT_REVIEWED, Seen
from fraudstream.views.queue import STATES, word_text

_NAME, _TOLD, _DECIDED = "analyst", "told_by_reviewing", "decided_by_this_session"
_NOTE_PX = 76
_DECISIONS: tuple[tuple[Outcome, str, str], ...] = (
    ("fraud", "Fraud", "F"),
    ("legitimate", "Legitimate", "L"),
)
_UNDO_KEY = "U"
KEYS = (*(key for _, _, key in _DECISIONS), _UNDO_KEY)


@dataclass(frozen=True)
class Told:
    """What the last press did, until the next one; a refusal concerns only where it was pressed.

    `text` may have texts of the data in it.
    """

    kind: Literal["done", "refused"]
    transaction_id: str
    text: str


def login_is_on() -> bool:
    """Whether Streamlit's login is configured. Raises NotAllowed where its file cannot be read: that nobody
    can tell must not open the door."""
    try:
        return "auth" in st.secrets
    except StreamlitSecretNotFoundError:
        files = [Path(each) for each in st.get_option("secrets.files")]
        if any(file.exists() for file in files):
            raise NotAllowed("secrets.toml cannot be read, so nobody can sign in.") from None
        return False


def reviewer() -> Reviewer:
    """Who reviews in this session. Raises NotAllowed."""
    login = login_is_on()
    return reviewer_of(
        login=login,
        user=dict(st.user.to_dict()) if login else {},
        declared=str(st.session_state.get(_NAME) or ""),
        allowed=settings_of_this_process().dashboard_analysts,
    )


After = Callable[[str], None]
"""What a page does once a review is stored, given the transaction's id."""


def stay(_transaction_id: str) -> None:
    pass


def show_review(
    transaction_id: str, known: Known, *, after_decision: After = stay, after_undo: After = stay
) -> None:
    """What is known of the transaction, and buttons to say more."""
    st.text(word_text(known.word))
    problem = None
    try:
        reviewer()
    except NotAllowed as refused:
        problem = str(refused)
    if problem is None or _asks_for() == "name":
        _show_buttons(transaction_id, known, after_decision, after_undo, disabled=problem is not None)
    _show_told(transaction_id)
    _show_reviewer(problem)


def _asks_for() -> Literal["name", "login", "nothing"]:
    """By what somebody becomes a reviewer here; nothing helps where the login's file cannot be read."""
    try:
        return "login" if login_is_on() else "name"
    except NotAllowed:
        return "nothing"


def _show_buttons(
    transaction_id: str, known: Known, after_decision: After, after_undo: After, *, disabled: bool
) -> None:
    seen = Seen(transaction_id, known.review.version if known.review else NOT_REVIEWED)
    note_key = f"note {seen.transaction_id} {seen.version}"
    present = known.review.note if known.review else None
    st.text_area(
        "Note",
        present or "",
        key=note_key,
        max_chars=NOTE_LENGTH,
        height=_NOTE_PX,
        persist_state="page",  # a draft waits for who looks at another alert meanwhile
    )
    with st.container(horizontal=True, gap="small"):
        for outcome, label, key in _DECISIONS:
            st.button(
                label,
                # A press is about what was on the screen, also where the server is already further.
                key=f"decide {outcome} {seen.transaction_id} {seen.version}",
                shortcut=key,
                disabled=disabled,
                on_click=decide,
                args=(seen, outcome, note_key, after_decision),
            )
        _show_undo(transaction_id, after_undo)


def _show_reviewer(problem: str | None) -> None:
    """Who reviews, and the way to become somebody: a sign-in with login, else a name."""
    asks_for = _asks_for()
    if asks_for == "name":
        st.text_input(
            "Your name",
            key=_NAME,
            max_chars=NAME_LENGTH,
            placeholder="is recorded with each review",
            help="Without it nothing can be reviewed. Nobody checks it: that takes a login, see the README.",
            persist_state="session",
        )
        if problem and st.session_state.get(_NAME):
            st.text(problem)
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.text(problem or f"Signed in as {reviewer().name}", width="content")
        if asks_for == "nothing":
            return
        if problem is None or st.user.to_dict().get("is_logged_in"):
            st.button("Sign out", icon=":material/logout:", on_click=st.logout)
        else:
            st.button("Sign in", icon=":material/login:", on_click=st.login)


def decide(seen: Seen, outcome: Outcome, note_key: str, after: After) -> None:
    """Store the review, or tell why not; `st.session_state[note_key]` is its note.

    Where this session has decided meanwhile, it was pressed twice, and the first press counts.
    """
    if any(own.transaction_id == seen.transaction_id and own.version > seen.version for own in _decided()):
        return
    note = str(st.session_state.get(note_key) or "")
    engine, zone = engine_of_this_process(), settings_of_this_process().zone
    try:
        stored = store.review(engine, seen, outcome, note, by=reviewer(), zone=zone)
    except (NotAllowed, store.NotReviewed, DatabaseProblem) as problem:
        _tell("refused", seen.transaction_id, str(problem))
        return
    # Of one transaction only the last decision: to undo it says again what an earlier one said.
    others = [each for each in _decided() if each.transaction_id != seen.transaction_id]
    st.session_state[_DECIDED] = [*others, Seen(seen.transaction_id, stored.version)]
    _tell("done", seen.transaction_id, f"{STATES[outcome]}: {seen.transaction_id}")
    after(seen.transaction_id)


def undo(seen: Seen, shown: str, after: After) -> None:
    """Take back this session's last review, or tell why not, on the page of the transaction `shown`.

    One that cannot be undone any more is forgotten. One that is undone already was pressed twice.
    """
    try:
        by = reviewer()
        if not _is_last(seen, shown):
            return
        stored = store.undo(engine_of_this_process(), seen, by=by)
    except (NotAllowed, store.LabelsBusy, DatabaseProblem) as problem:
        _tell("refused", shown, f"{seen.transaction_id}: {problem}")
        return
    except store.NotReviewed as problem:
        _tell("refused", shown, f"{seen.transaction_id}: {problem}")
        _forget(seen)
        return
    _forget(seen)
    said = STATES[stored.outcome] if stored.outcome else STATES["new"]
    _tell("done", seen.transaction_id, f"Undone, {seen.transaction_id} is again: {said}")
    after(seen.transaction_id)


def _is_last(seen: Seen, shown: str) -> bool:
    """Whether it is what Undo takes back; told where another review has been stored since the press."""
    decided = _decided()
    if seen in decided and seen != decided[-1]:
        last = decided[-1].transaction_id
        _tell("refused", shown, f"{seen.transaction_id}: not undone, your last review is that of {last} now.")
    return decided[-1:] == [seen]


def _forget(seen: Seen) -> None:
    st.session_state[_DECIDED] = [each for each in _decided() if each != seen]


def _show_undo(shown: str, after: After) -> None:
    """For the last review of this session, wherever the page is meanwhile."""
    last = _decided()[-1] if _decided() else None
    st.button(
        "Undo last",
        key=f"undo {last.transaction_id} {last.version}" if last else "undo",
        shortcut=_UNDO_KEY,
        disabled=last is None,
        on_click=undo,
        args=(last, shown, after) if last else None,
        help="Takes back your last review, also of another transaction",
    )


def _tell(kind: Literal["done", "refused"], transaction_id: str, text: str) -> None:
    st.session_state[_TOLD] = Told(kind, transaction_id, text)


def _show_told(shown: str) -> None:
    told: Told | None = st.session_state.get(_TOLD)
    if told is None or (told.kind == "refused" and told.transaction_id != shown):
        return
    with st.container(key="told", horizontal=True, vertical_alignment="center"):
        if told.kind == "done":
            st.badge("Stored", icon=":material/check:", color="green")
        else:
            st.badge("Not stored", icon=":material/error:", color="red")
        st.text(told.text)


def _decided() -> list[Seen]:
    return st.session_state.setdefault(_DECIDED, [])
