"""The alert outbox: alerts that wait, the mails made of them, and who may send a mail now.

The batch's transaction writes an `alerts` row, `waiting`, for each flagged transaction. A claim makes
mails of waiting alerts in one transaction; from then on a mail's members and Message-ID never change.
A claim is a lease by the server's clock: while it runs no other sender gets the mail, and when it has
run out unmarked (its sender died) the next claim hands out the same mail again. `attempts` and the
lease's end together are the fencing token: a mark by a sender whose lease was taken over changes
nothing and says so.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import ClassVar

from sqlalchemy import Connection, Engine, func, insert, literal_column, or_, select, update
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random

from fraudstream.store.clock import SERVER_NOW
from fraudstream.store.errors import LOCK_TROUBLE, errno
from fraudstream.store.status import State, set_status
from fraudstream.store.tables import alert_holds, alerts, clean_data, mails

COMPONENT = "alerts"

# With more users than this to write about at once, one digest replaces their mails.
MAX_SEPARATE_MAILS = 5
# Mails whose lease ran out or whose retry is due, handed out in one claim beside the new ones.
MAX_DUE_MAILS = 5

_MAX_ERROR_LENGTH = 1000


@dataclass(frozen=True)
class ClaimedMail:
    """A mail that this sender may send until its lease ends.

    `created_at` is aware (UTC). `recipients` is whom the mail is addressed to, `remaining` those of them
    who have not accepted it yet. `lease_until` is the stored value (UTC, naive).
    """

    mail_id: int
    message_id: str
    created_at: datetime
    recipients: tuple[str, ...]
    remaining: tuple[str, ...]
    attempts: int
    lease_until: datetime


@dataclass(frozen=True)
class Member:
    """One flagged transaction of a mail; `time` is local time in the setting TZ, `reasons` JSON text."""

    transaction_id: str
    user_id: str
    amount: Decimal
    location: str | None
    time: datetime
    device: str | None
    merchant: str | None
    score: float
    reasons: str


@dataclass(frozen=True)
class Counts:
    """Alerts that are ready or held back by the cool-down; mails on their way, sent, and given up."""

    waiting: int
    held: int
    sending: int
    sent: int
    failed: int

    @property
    def unsent(self) -> int:
        """What is still to be sent: alerts without a mail, and mails on their way."""
        return self.waiting + self.held + self.sending


class _LostRace(Exception):
    """Another sender claimed some of the same alerts first; the transaction is rolled back."""

    def __str__(self) -> str:
        return "other senders were faster at claiming the same alerts"


def _may_succeed_again(error: BaseException) -> bool:
    if isinstance(error, DBAPIError):
        return errno(error) in LOCK_TROUBLE
    return isinstance(error, _LostRace)


# Each decorated function is one transaction, which the error has rolled back as a whole.
_again_after_lock_trouble = retry(
    retry=retry_if_exception(_may_succeed_again),
    wait=wait_random(0, 0.1),
    stop=stop_after_attempt(20),
    reraise=True,
)


@_again_after_lock_trouble
def claim(
    engine: Engine,
    *,
    digest_size: int,
    cooldown_s: float,
    lease_s: float,
    recipients: Sequence[str],
    message_id_domain: str,
    flush: bool = False,
) -> list[ClaimedMail]:
    """Take mails to send: due ones again as they are, and new ones made of waiting alerts.

    One transaction. Alerts of a user who is on hold stay waiting, unless `flush`. Up to
    MAX_SEPARATE_MAILS users get a mail each; more share one digest. No mail has more than `digest_size`
    alerts. A user is put on hold for `cooldown_s` once all of his ready alerts are in mails.
    The lease ends `lease_s` after the server read its clock, which is after this call began.
    """
    with engine.begin() as connection:
        now: datetime = connection.execute(select(SERVER_NOW)).scalar_one()
        lease_until = now + timedelta(seconds=lease_s)
        claimed = _claim_due(connection, now, lease_until)
        ready = _ready_users(
            connection, None if flush else now, limit=max(digest_size, MAX_SEPARATE_MAILS + 1)
        )
        for group in _group(connection, ready, digest_size):
            claimed.append(_write_mail(connection, group, recipients, message_id_domain, now, lease_until))
            _hold(connection, group.completed_users, now + timedelta(seconds=cooldown_s))
        return claimed


def _claim_due(connection: Connection, now: datetime, lease_until: datetime) -> list[ClaimedMail]:
    """Mails whose lease or delay has passed, each taken by an update on the very values that were read."""
    due = (
        select(mails)
        .where(mails.c.state == "sending", mails.c.next_attempt_at <= now)
        .order_by(mails.c.next_attempt_at)
        .limit(MAX_DUE_MAILS)
    )
    claimed = []
    for row in connection.execute(due).all():
        taken = connection.execute(
            update(mails)
            .where(
                mails.c.mail_id == row.mail_id,
                mails.c.state == "sending",
                mails.c.attempts == row.attempts,
                mails.c.next_attempt_at == row.next_attempt_at,
            )
            .values(attempts=row.attempts + 1, next_attempt_at=lease_until)
        )
        if taken.rowcount == 1:
            claimed.append(
                ClaimedMail(
                    mail_id=row.mail_id,
                    message_id=row.message_id,
                    created_at=row.created_at.replace(tzinfo=UTC),
                    recipients=_addresses(row.recipients),
                    remaining=_addresses(row.remaining),
                    attempts=row.attempts + 1,
                    lease_until=lease_until,
                )
            )
    return claimed


@dataclass(frozen=True)
class _ReadyUser:
    user_id: str
    oldest_alert: int


@dataclass(frozen=True)
class _Group:
    """The alerts of one new mail, and the users of whom none is left to claim."""

    alert_ids: tuple[int, ...]
    completed_users: tuple[str, ...]


def _ready_users(connection: Connection, not_held_at: datetime | None, *, limit: int) -> list[_ReadyUser]:
    """Users with waiting alerts, the longest waiting first; the index is read once a user, not an alert."""
    waiting = (
        select(alerts.c.UserID, func.min(alerts.c.alert_id).label("oldest"))
        .where(alerts.c.state == "waiting")
        # With the constant `state` in front the index is skipped through, user by user.
        .group_by(alerts.c.state, alerts.c.UserID)
        .subquery()
    )
    query = select(waiting.c.UserID, waiting.c.oldest).order_by(waiting.c.oldest).limit(limit)
    if not_held_at is not None:
        query = query.outerjoin_from(waiting, alert_holds, alert_holds.c.UserID == waiting.c.UserID).where(
            or_(alert_holds.c.held_until.is_(None), alert_holds.c.held_until <= not_held_at)
        )
    return [_ReadyUser(row.UserID, row.oldest) for row in connection.execute(query)]


def _group(connection: Connection, ready: Sequence[_ReadyUser], digest_size: int) -> Iterator[_Group]:
    waiting = _oldest_waiting(connection, [user.user_id for user in ready], digest_size + 1) if ready else {}
    if any(waiting.get(user.user_id, [])[:1] != [user.oldest_alert] for user in ready):
        # Claimed since the users were read, so a hold may have begun that this claim has not seen.
        raise _LostRace
    together = 1 if len(ready) <= MAX_SEPARATE_MAILS else len(ready)
    for first in range(0, len(ready), together):
        group = ready[first : first + together]
        yield _fill({user.user_id: waiting[user.user_id] for user in group}, digest_size)


def _oldest_waiting(connection: Connection, users: Sequence[str], most: int) -> dict[str, list[int]]:
    """Of each user at most so many waiting alerts, the oldest first."""
    place = func.row_number().over(partition_by=alerts.c.UserID, order_by=alerts.c.alert_id)
    numbered = (
        select(alerts.c.UserID, alerts.c.alert_id, place.label("place"))
        .where(alerts.c.state == "waiting", alerts.c.UserID.in_(users))
        .subquery("numbered")
    )
    found: dict[str, list[int]] = {}
    oldest = select(numbered.c.UserID, numbered.c.alert_id).where(numbered.c.place <= most)
    for user, alert in connection.execute(oldest.order_by(numbered.c.alert_id)):
        found.setdefault(user, []).append(alert)
    return found


def _fill(waiting: Mapping[str, Sequence[int]], size: int) -> _Group:
    """The oldest alerts of one user after the other, `size` at most."""
    taken: list[int] = []
    completed: list[str] = []
    for user, ids in waiting.items():
        room = size - len(taken)
        if room == 0:
            break
        taken += ids[:room]
        if len(ids) <= room:
            completed.append(user)
    return _Group(tuple(taken), tuple(completed))


def _write_mail(
    connection: Connection,
    group: _Group,
    recipients: Sequence[str],
    message_id_domain: str,
    now: datetime,
    lease_until: datetime,
) -> ClaimedMail:
    message_id = f"<{uuid.uuid4().hex}@{message_id_domain}>"
    addressed = json.dumps(list(recipients))
    written = connection.execute(
        insert(mails).values(
            message_id=message_id,
            state="sending",
            recipients=addressed,
            remaining=addressed,
            attempts=1,
            created_at=now,
            next_attempt_at=lease_until,
        )
    )
    mail_id = written.lastrowid
    claimed = connection.execute(
        update(alerts)
        # Through any other index this would wait for the rows of a batch that is just being written.
        .with_hint("FORCE INDEX (PRIMARY)")
        .where(alerts.c.alert_id.in_(group.alert_ids), alerts.c.state == "waiting")
        .values(state="mailed", mail_id=mail_id)
    )
    if claimed.rowcount != len(group.alert_ids):
        raise _LostRace
    everyone = tuple(recipients)
    return ClaimedMail(mail_id, message_id, now.replace(tzinfo=UTC), everyone, everyone, 1, lease_until)


def _hold(connection: Connection, users: Sequence[str], held_until: datetime) -> None:
    if users:
        rows = [{"UserID": user, "held_until": held_until} for user in sorted(users)]
        connection.execute(
            mysql.insert(alert_holds).values(rows).on_duplicate_key_update(held_until=held_until)
        )


def members(engine: Engine, mail_id: int) -> list[Member]:
    """The flagged transactions of a mail with their details, a user's together, oldest alert first."""
    query = (
        select(
            *(clean_data.c[name] for name in ("TransactionID", "UserID", "Amount", "Location", "Time")),
            *(clean_data.c[name] for name in ("Device", "Merchant", "score", "reasons")),
        )
        .join_from(alerts, clean_data, clean_data.c.TransactionID == alerts.c.TransactionID)
        .where(alerts.c.mail_id == mail_id)
        .order_by(alerts.c.UserID, alerts.c.alert_id)
    )
    with engine.connect() as connection:
        return [Member(*row) for row in connection.execute(query)]


def mark_sent(engine: Engine, mail: ClaimedMail) -> bool:
    """All recipients have accepted the mail. False: the claim was no longer ours, nothing changed."""
    return _mark(engine, mail, state="sent", sent_at=SERVER_NOW, remaining="[]", last_error=None)


def mark_partially_sent(
    engine: Engine, mail: ClaimedMail, remaining: Sequence[str], error: str, delay_s: float
) -> bool:
    """Some accepted it: send it to `remaining` only, after `delay_s`. False as for `mark_sent`."""
    return _mark(
        engine,
        mail,
        remaining=json.dumps(list(remaining)),
        last_error=error[:_MAX_ERROR_LENGTH],
        next_attempt_at=_after(delay_s),
    )


def mark_retry(engine: Engine, mail: ClaimedMail, error: str | None, delay_s: float) -> bool:
    """Nobody is known to have accepted it: send it again after `delay_s`. False as for `mark_sent`.

    Without an error the mail is handed back unsent; its last error stays.
    """
    noted = {} if error is None else {"last_error": error[:_MAX_ERROR_LENGTH]}
    return _mark(engine, mail, next_attempt_at=_after(delay_s), **noted)


def mark_failed(engine: Engine, mail: ClaimedMail, remaining: Sequence[str], error: str) -> bool:
    """`remaining` will never accept it as it is; `retry_failed` tries again. False as for `mark_sent`."""
    return _mark(
        engine,
        mail,
        state="failed",
        remaining=json.dumps(list(remaining)),
        last_error=error[:_MAX_ERROR_LENGTH],
    )


@_again_after_lock_trouble
def _mark(engine: Engine, mail: ClaimedMail, **values: object) -> bool:
    still_ours = (
        mails.c.mail_id == mail.mail_id,
        mails.c.state == "sending",
        mails.c.attempts == mail.attempts,
        mails.c.next_attempt_at == mail.lease_until,
    )
    with engine.begin() as connection:
        return connection.execute(update(mails).where(*still_ours).values(**values)).rowcount == 1


def _after(delay_s: float) -> object:
    return func.timestampadd(literal_column("MICROSECOND"), round(delay_s * 1_000_000), SERVER_NOW)


@_again_after_lock_trouble
def retry_failed(engine: Engine, recipients: Sequence[str]) -> int:
    """Send failed mails again, at once; returns how many.

    They go to those of `recipients` (the present setting) who have not accepted them: a mistyped
    address, once corrected, gets what it missed, and an address taken off the list is left alone.
    A mail that all of them have accepted is done.
    """
    failed = select(mails).where(mails.c.state == "failed").with_for_update()
    with engine.begin() as connection:
        rows = connection.execute(failed).all()
        for row in rows:
            accepted = set(_addresses(row.recipients)) - set(_addresses(row.remaining))
            missing = [address for address in recipients if address not in accepted]
            connection.execute(
                update(mails)
                .where(mails.c.mail_id == row.mail_id)
                .values(
                    state="sending" if missing else "sent",
                    recipients=json.dumps([*sorted(accepted - set(recipients)), *recipients]),
                    remaining=json.dumps(missing),
                    attempts=0,
                    next_attempt_at=SERVER_NOW,
                    sent_at=None if missing else SERVER_NOW,
                )
            )
        return len(rows)


def pending(engine: Engine) -> Counts:
    """How the outbox stands, at one moment: an alert that is just being claimed counts once."""
    by_state = select(mails.c.state, func.count().label("mails")).group_by(mails.c.state)
    waiting = select(func.count()).select_from(alerts).where(alerts.c.state == "waiting")
    held = waiting.join(alert_holds, alert_holds.c.UserID == alerts.c.UserID).where(
        alert_holds.c.held_until > SERVER_NOW
    )
    with engine.connect() as opened:
        connection = opened.execution_options(isolation_level="REPEATABLE READ")
        count = {row.state: row.mails for row in connection.execute(by_state)}
        unmailed, on_hold = connection.execute(
            select(waiting.scalar_subquery(), held.scalar_subquery())
        ).one()
    return Counts(
        waiting=unmailed - on_hold,
        held=on_hold,
        sending=count.get("sending", 0),
        sent=count.get("sent", 0),
        failed=count.get("failed", 0),
    )


@dataclass(frozen=True)
class TroubledMail:
    """A mail that some recipient has not accepted so far, and what the server said last."""

    mail_id: int
    state: str
    attempts: int
    last_error: str


def troubled_mails(engine: Engine, *, limit: int) -> list[TroubledMail]:
    """Mails that were given up or put off, the newest first."""
    query = (
        select(mails.c.mail_id, mails.c.state, mails.c.attempts, mails.c.last_error)
        .where(mails.c.state.in_(["sending", "failed"]), mails.c.last_error.is_not(None))
        .order_by(mails.c.mail_id.desc())
        .limit(limit)
    )
    with engine.connect() as connection:
        return [TroubledMail(*row) for row in connection.execute(query)]


def _addresses(stored: str) -> tuple[str, ...]:
    return tuple(json.loads(stored))


@dataclass(frozen=True)
class Outbox:
    """The outbox of one database as one sender uses it: the functions above with their policy."""

    trouble: ClassVar[tuple[type[Exception], ...]] = (SQLAlchemyError, _LostRace)

    engine: Engine
    digest_size: int
    cooldown_s: float
    recipients: tuple[str, ...]
    message_id_domain: str

    def claim(self, *, lease_s: float, flush: bool) -> list[ClaimedMail]:
        return claim(
            self.engine,
            digest_size=self.digest_size,
            cooldown_s=self.cooldown_s,
            lease_s=lease_s,
            recipients=self.recipients,
            message_id_domain=self.message_id_domain,
            flush=flush,
        )

    def members(self, mail: ClaimedMail) -> list[Member]:
        return members(self.engine, mail.mail_id)

    def mark_sent(self, mail: ClaimedMail) -> bool:
        return mark_sent(self.engine, mail)

    def mark_partially_sent(
        self, mail: ClaimedMail, remaining: Sequence[str], error: str, delay_s: float
    ) -> bool:
        return mark_partially_sent(self.engine, mail, remaining, error, delay_s)

    def mark_retry(self, mail: ClaimedMail, error: str | None, delay_s: float) -> bool:
        return mark_retry(self.engine, mail, error, delay_s)

    def mark_failed(self, mail: ClaimedMail, remaining: Sequence[str], error: str) -> bool:
        return mark_failed(self.engine, mail, remaining, error)

    def unsent(self) -> int:
        return pending(self.engine).unsent

    def report(self, state: State, message: str) -> None:
        set_status(self.engine, COMPONENT, state, message)
