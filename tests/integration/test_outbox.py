"""Alert mails from the outbox of a real database through real SMTP, with deaths and refusals on the way."""

from __future__ import annotations

import itertools
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from email.message import EmailMessage
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.engine import make_url

from fraudstream.alerting import mail_sender
from fraudstream.alerts.compose import compose
from fraudstream.alerts.outbox import Pace, Sender, sending
from fraudstream.alerts.smtp import Account, SendResult, Transport
from fraudstream.config import PROJECT_DIR, child_environment
from fraudstream.store import outbox
from fraudstream.store.engine import make_engine
from fraudstream.store.migrate import migrate
from fraudstream.store.outbox import Outbox
from fraudstream.store.tables import alerts
from tests.support.mail_servers import MailServer, Received, mail_server
from tests.support.transactions import Judged, store
from tests.support.waiting import wait_until

TWO = ("analyst@example.org", "desk@example.org")
EVENT_TIME = datetime.fromisoformat("2025-01-15 10:20:30")
QUICK = Pace(
    poll_s=0.05, lease_s=30, first_delay_s=0.05, longest_service_delay_s=0.2, longest_mail_delay_s=0.2
)


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    engine = make_engine(make_url(database))
    migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def server() -> Iterator[MailServer]:
    with mail_server() as server:
        yield server


def flag(engine: Engine, *transactions: Judged) -> None:
    """Store flagged transactions with their alerts, as a batch does."""
    store(engine, transactions)


def flagged(identity: str, user: str, amount: str = "2410.00", **other: str) -> Judged:
    return Judged(identity, user, Decimal(amount), EVENT_TIME, **other)


def many(count: int, users: int, prefix: str = "TXN") -> list[Judged]:
    return [flagged(f"{prefix}{number:05}", f"U{number % users:03}") for number in range(count)]


def an_outbox(
    engine: Engine, *, digest_size: int = 50, cooldown_s: float = 600, to: tuple[str, ...] = TWO
) -> Outbox:
    return Outbox(engine, digest_size, cooldown_s, to, message_id_domain="example.com")


def a_sender(box: Outbox, server: MailServer, pace: Pace = QUICK, timeout_s: float = 10) -> Sender:
    account = Account("127.0.0.1", server.port, "none", "alerts@example.com", timeout_s=timeout_s)

    def composer(mail, recipients):  # type: ignore[no-untyped-def]
        return compose(
            mail,
            sender="alerts@example.com",
            recipients=recipients,
            dashboard_url="http://dashboard.example",
            tz=ZoneInfo("Africa/Cairo"),
        )

    return Sender(box, composer, Transport(account), pace)


def claim(box: Outbox, *, lease_s: float = 60, flush: bool = False) -> list[outbox.ClaimedMail]:
    return box.claim(lease_s=lease_s, flush=flush)


def identities(box: Outbox, mail: outbox.ClaimedMail) -> list[str]:
    return [member.transaction_id for member in box.members(mail)]


def listed(mail: Received) -> list[str]:
    """The transactions that a received mail tells of."""
    body = mail.message.get_body(("plain",))
    assert body is not None
    return re.findall(r"^  Transaction: (.*)$", body.get_content().replace("\r", ""), flags=re.MULTILINE)


def everything_sent(engine: Engine) -> Callable[[], bool]:
    return lambda: outbox.pending(engine).unsent == 0


def execute(engine: Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.execute(text(statement))


def let_leases_run_out(engine: Engine) -> None:
    """As if their time had passed."""
    execute(engine, "UPDATE mails SET next_attempt_at = UTC_TIMESTAMP(6) WHERE state = 'sending'")


def end_holds(engine: Engine) -> None:
    execute(engine, "UPDATE alert_holds SET held_until = UTC_TIMESTAMP(6)")


def status_of_alerts(engine: Engine) -> tuple[str, str] | None:
    with engine.connect() as connection:
        query = "SELECT state, message FROM component_status WHERE component = 'alerts'"
        row = connection.execute(text(query)).one_or_none()
    return None if row is None else (row.state, row.message)


# --- what a claim hands out


def test_each_user_gets_one_mail_of_all_his_alerts(engine: Engine):
    flag(engine, flagged("A1", "U1"), flagged("B1", "U2"), flagged("A2", "U1"))
    box = an_outbox(engine)

    mails = claim(box)

    assert [identities(box, mail) for mail in mails] == [["A1", "A2"], ["B1"]]
    assert len({mail.message_id for mail in mails}) == 2
    assert {mail.recipients for mail in mails} == {TWO}
    assert claim(box) == []


def test_up_to_five_users_get_separate_mails_and_six_a_digest(engine: Engine):
    flag(engine, *many(5, users=5, prefix="first"))
    box = an_outbox(engine, cooldown_s=0)
    assert len(claim(box)) == 5

    flag(engine, *many(12, users=6, prefix="second"))
    (digest,) = claim(box)

    assert len(identities(box, digest)) == 12


def test_no_mail_has_more_alerts_than_the_digest_size_and_none_is_held_for_want_of_room(engine: Engine):
    flag(engine, *many(100, users=8))
    box = an_outbox(engine, digest_size=15)

    rounds = []
    while mails := claim(box):
        rounds.append([identities(box, mail) for mail in mails])

    sizes = [len(members) for mails in rounds for members in mails]
    assert max(sizes) <= 15
    assert sum(sizes) == 100
    assert len({identity for mails in rounds for members in mails for identity in members}) == 100
    assert outbox.pending(engine).held == 0


def test_a_burst_of_one_user_leaves_in_full_mails_at_once(engine: Engine):
    flag(engine, *many(35, users=1))
    box = an_outbox(engine, digest_size=15)

    sizes = [len(identities(box, mail)) for _ in range(4) for mail in claim(box)]

    assert sizes == [15, 15, 5]


def test_alerts_within_the_cool_down_join_one_mail(engine: Engine):
    box = an_outbox(engine, cooldown_s=600)
    flag(engine, flagged("A1", "U1"))
    assert [identities(box, mail) for mail in claim(box)] == [["A1"]]
    flag(engine, flagged("A2", "U1"))
    flag(engine, flagged("A3", "U1"), flagged("B1", "U2"))

    assert [identities(box, mail) for mail in claim(box)] == [["B1"]]
    assert outbox.pending(engine) == outbox.Counts(waiting=0, held=2, sending=2, sent=0, failed=0)
    end_holds(engine)

    assert [identities(box, mail) for mail in claim(box)] == [["A2", "A3"]]


def test_users_whose_names_differ_in_case_or_accent_are_two(engine: Engine):
    flag(engine, flagged("1", "josé"), flagged("2", "jose"), flagged("3", "JOSE"))

    assert len(claim(an_outbox(engine))) == 3


def test_a_flush_does_not_wait_for_the_cool_down(engine: Engine):
    box = an_outbox(engine)
    flag(engine, flagged("A1", "U1"))
    claim(box)
    flag(engine, flagged("A2", "U1"))

    assert claim(box) == []
    assert [identities(box, mail) for mail in claim(box, flush=True)] == [["A2"]]


def test_members_carry_the_stored_transaction(engine: Engine):
    flag(engine, flagged("A1", "U1", "999999999999.99", location="Giza", device="Web", merchant="Noon"))
    box = an_outbox(engine)
    (mail,) = claim(box)

    (member,) = box.members(mail)

    assert (member.transaction_id, member.user_id, member.amount) == ("A1", "U1", Decimal("999999999999.99"))
    assert (member.location, member.device, member.merchant) == ("Giza", "Web", "Noon")
    assert (member.time, member.score) == (EVENT_TIME, 1.0)
    assert "AMOUNT_OVER_2000" in member.reasons


def test_a_mail_whose_sender_died_is_handed_out_again_as_it_was(engine: Engine):
    flag(engine, flagged("A1", "U1"), flagged("A2", "U1"))
    box = an_outbox(engine)
    (dead,) = claim(box)
    flag(engine, flagged("A3", "U1"))
    let_leases_run_out(engine)

    (again,) = claim(box)

    assert (again.mail_id, again.message_id, again.created_at) == (
        dead.mail_id,
        dead.message_id,
        dead.created_at,
    )
    assert identities(box, again) == ["A1", "A2"]
    assert again.attempts == 2


@pytest.mark.parametrize(
    "mark",
    [
        lambda box, mail: box.mark_sent(mail),
        lambda box, mail: box.mark_partially_sent(mail, TWO[:1], "450 later", 0),
        lambda box, mail: box.mark_retry(mail, "451 later", 0),
        lambda box, mail: box.mark_failed(mail, TWO, "550 no"),
    ],
)
def test_who_has_lost_his_lease_changes_nothing(engine: Engine, mark: Callable[[Outbox, object], bool]):
    flag(engine, flagged("A1", "U1"))
    box = an_outbox(engine)
    (late,) = claim(box)
    let_leases_run_out(engine)
    (present,) = claim(box)

    assert not mark(box, late)
    assert outbox.pending(engine).sending == 1
    assert mark(box, present)


@contextmanager
def just_before(engine: Engine, statement_start: str, action: Callable[[], object]) -> Iterator[None]:
    """Do `action` when the next statement that starts so is about to be executed on `engine`, once."""
    pending_actions = [action]

    def interrupt(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if pending_actions and " ".join(statement.split()).startswith(statement_start):
            pending_actions.pop()()

    event.listen(engine, "before_cursor_execute", interrupt)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", interrupt)
    assert not pending_actions, f"no statement started with {statement_start!r}"


def test_of_two_claims_of_the_same_alerts_one_wins(engine: Engine, database: str):
    flag(engine, flagged("A1", "U1"), flagged("A2", "U1"))
    other = an_outbox(make_engine(make_url(database)))
    won: list[outbox.ClaimedMail] = []

    with just_before(engine, "UPDATE alerts", lambda: won.extend(claim(other))):
        lost = claim(an_outbox(engine))

    assert lost == []
    assert [identities(other, mail) for mail in won] == [["A1", "A2"]]
    assert outbox.pending(engine) == outbox.Counts(waiting=0, held=0, sending=1, sent=0, failed=0)
    other.engine.dispose()


def test_a_claim_sees_the_hold_that_began_while_it_read(engine: Engine, database: str):
    flag(engine, flagged("A1", "U1"))
    other = an_outbox(make_engine(make_url(database)))

    def be_overtaken() -> None:
        assert [identities(other, mail) for mail in claim(other)] == [["A1"]]
        flag(engine, flagged("A2", "U1"))

    with just_before(engine, "SELECT numbered", be_overtaken):
        late = claim(an_outbox(engine))

    assert late == []
    assert outbox.pending(engine).held == 1
    other.engine.dispose()


def test_a_claim_does_not_wait_for_a_batch_that_is_being_written(engine: Engine):
    flag(engine, *many(20, users=10))
    box = an_outbox(engine)
    with engine.begin() as batch:
        batch.execute(
            alerts.insert().values(state="waiting", created_at=EVENT_TIME, Time=EVENT_TIME),
            [{"TransactionID": f"new{number}", "UserID": f"U{number % 10:03}"} for number in range(50)],
        )
        began = time.monotonic()
        (digest,) = claim(box)

        assert time.monotonic() - began < 5
        assert len(identities(box, digest)) == 20


def test_an_alert_claimed_while_the_outbox_is_counted_is_counted(engine: Engine, database: str):
    flag(engine, flagged("A1", "U1"))
    counting = make_engine(make_url(database))
    claims: list[list[outbox.ClaimedMail]] = []

    @event.listens_for(counting, "after_cursor_execute")
    def claim_after_the_first_read(_connection, _cursor, statement, *_rest):  # type: ignore[no-untyped-def]
        if not claims and "FROM mails" in statement:
            claims.append(claim(an_outbox(engine)))

    assert outbox.pending(counting).unsent == 1
    assert len(claims) == 1
    counting.dispose()


# --- sending


def test_mails_arrive_with_the_right_content(engine: Engine, server: MailServer):
    hostile = flagged("<b>1", "U\r\nBcc: x@example.com", merchant="<script>alert(1)</script>")
    flag(engine, flagged("A1", "U1"), flagged("A2", "U1", "2000.01"), hostile)

    assert a_sender(an_outbox(engine), server).drain(20) == 0

    first, second = sorted(server.received, key=lambda mail: len(listed(mail)), reverse=True)
    assert first.message["Subject"] == "Fraud alert: 2 transactions of U1, total 4,410.01"
    assert first.message["To"] == "analyst@example.org, desk@example.org"
    assert first.recipients == TWO
    assert listed(first) == ["A1", "A2"]
    assert listed(second) == ["<b>1"]
    assert second.message["Bcc"] is None
    html = second.message.get_body(("html",)).get_content()  # type: ignore[union-attr]
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "2025-01-15 10:20:30 Africa/Cairo" in html
    assert 'href="http://dashboard.example/transaction?id=%3Cb%3E1"' in html
    assert outbox.pending(engine) == outbox.Counts(waiting=0, held=0, sending=0, sent=2, failed=0)


def test_senders_side_by_side_send_each_alert_once(engine: Engine, server: MailServer, database: str):
    engines = [make_engine(make_url(database)) for _ in range(3)]
    senders = [a_sender(an_outbox(own, digest_size=4, cooldown_s=0), server) for own in engines]
    stop = threading.Event()
    threads = [threading.Thread(target=sender.run, args=[stop]) for sender in senders]
    for thread in threads:
        thread.start()
    try:
        for burst in range(15):
            flag(engine, *many(20, users=7 if burst % 2 else 3, prefix=f"burst{burst:02}-"))
        wait_until(everything_sent(engine), timeout=60, describe="all mails sent")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        for own in engines:
            own.dispose()

    assert outbox.pending(engine).failed == 0
    told = Counter(identity for mail in server.received for identity in listed(mail))
    assert len(told) == 300
    assert set(told.values()) == {1}
    assert max(Counter(mail.message["Message-ID"] for mail in server.received).values()) == 1


def test_a_slow_server_makes_no_sender_outlive_its_lease(engine: Engine):
    flag(engine, *many(5, users=5))
    pace = Pace(poll_s=0.05, lease_s=1.5, first_delay_s=0.05)
    with mail_server(MailServer(data_delay_s=0.4)) as server:
        senders = [a_sender(an_outbox(engine), server, pace, timeout_s=0.9) for _ in range(2)]
        with sending(senders[0]), sending(senders[1]):
            wait_until(everything_sent(engine), timeout=30, describe="all mails sent")

    assert Counter(identity for mail in server.received for identity in listed(mail)) == Counter(
        f"TXN{number:05}" for number in range(5)
    )


def test_only_who_refused_for_now_is_tried_again(engine: Engine, server: MailServer):
    flag(engine, flagged("A1", "U1"))
    server.on_rcpt = {"desk@example.org": "450 greylisted"}
    with sending(a_sender(an_outbox(engine), server)):
        wait_until(lambda: server.offered.count("desk@example.org") >= 3, timeout=20)
        assert outbox.pending(engine).sending == 1
        server.on_rcpt = {}
        wait_until(everything_sent(engine), timeout=20)

    assert [mail.recipients for mail in server.received] == [("analyst@example.org",), ("desk@example.org",)]
    assert server.offered.count("analyst@example.org") == 1
    first, second = (mail.message for mail in server.received)
    assert first["Message-ID"] == second["Message-ID"]
    assert first["To"] == second["To"]
    assert listed(server.received[0]) == listed(server.received[1]) == ["A1"]


def test_a_mail_put_off_is_never_given_up(engine: Engine, server: MailServer):
    flag(engine, flagged("A1", "U1"))
    server.on_data = "451 try later"
    with sending(a_sender(an_outbox(engine), server)):
        wait_until(lambda: len(server.offered) >= 2 * 8, timeout=30)
        assert outbox.troubled_mails(engine, limit=5)[0].last_error == "451 try later"
        server.on_data = "250 OK"
        wait_until(everything_sent(engine), timeout=20)

    assert len(server.received) == 1


def test_a_permanent_refusal_is_visible_and_can_be_sent_again(engine: Engine, server: MailServer):
    flag(engine, flagged("A1", "U1"))
    server.on_rcpt = {"desk@example.org": "550 no such user"}
    a_sender(an_outbox(engine), server).drain(20)
    assert outbox.pending(engine).failed == 1
    (troubled,) = outbox.troubled_mails(engine, limit=5)
    assert (troubled.state, troubled.last_error) == ("failed", "desk@example.org: 550 no such user")

    corrected = ("analyst@example.org", "helpdesk@example.org")
    assert outbox.retry_failed(engine, corrected) == 1
    assert a_sender(an_outbox(engine, to=corrected), server).drain(20) == 0

    assert [mail.recipients for mail in server.received] == [
        ("analyst@example.org",),
        ("helpdesk@example.org",),
    ]
    assert len({mail.message["Message-ID"] for mail in server.received}) == 1
    assert outbox.pending(engine) == outbox.Counts(waiting=0, held=0, sending=0, sent=1, failed=0)
    assert outbox.troubled_mails(engine, limit=5) == []
    assert outbox.retry_failed(engine, corrected) == 0


def test_a_mail_that_cannot_be_composed_fails_alone(engine: Engine, server: MailServer):
    flag(engine, flagged("A1", "U1", reasons='[{"code": "AMOUNT_OVER_2000"}]'), flagged("B1", "U2"))

    assert a_sender(an_outbox(engine), server).drain(20) == 0

    assert [listed(mail) for mail in server.received] == [["B1"]]
    assert outbox.pending(engine).failed == 1
    assert "cannot be composed" in outbox.troubled_mails(engine, limit=1)[0].last_error


def test_alerts_outlive_a_server_that_is_away(engine: Engine, server: MailServer):
    flag(engine, flagged("A1", "U1"))
    gone = MailServer()
    with mail_server(gone):
        pass
    with sending(a_sender(an_outbox(engine, cooldown_s=0), gone)):
        wait_until(lambda: (status_of_alerts(engine) or ("",))[0] == "error", timeout=20)
        flag(engine, *many(30, users=10))
        assert "the mail server cannot be used" in status_of_alerts(engine)[1]  # type: ignore[index]
        with mail_server(gone):
            wait_until(everything_sent(engine), timeout=20)
            wait_until(lambda: status_of_alerts(engine) == ("ok", "Alerts are mailed."), timeout=20)

    told = Counter(identity for mail in gone.received for identity in listed(mail))
    assert len(told) == 31
    assert set(told.values()) == {1}
    assert len(gone.received) < 31


def test_a_lost_answer_is_asked_for_again_with_the_same_mail(engine: Engine, server: MailServer):
    flag(engine, flagged("A1", "U1"))
    server.drop_at = "DATA"
    with sending(a_sender(an_outbox(engine), server)):
        wait_until(lambda: len(server.received) >= 2, timeout=20)
        server.drop_at = None
        wait_until(everything_sent(engine), timeout=20)

    assert len({mail.message["Message-ID"] for mail in server.received}) == 1
    assert {tuple(listed(mail)) for mail in server.received} == {("A1",)}


def test_an_answer_that_was_heard_is_kept_while_the_database_is_away(engine: Engine, server: MailServer):
    flag(engine, flagged("A1", "U1"))
    server.before_data_reply = lambda: execute(engine, "RENAME TABLE mails TO mails_away")
    with sending(a_sender(an_outbox(engine), server)):
        wait_until(lambda: len(server.received) == 1, timeout=20)
        server.before_data_reply = lambda: None
        execute(engine, "RENAME TABLE mails_away TO mails")
        wait_until(everything_sent(engine), timeout=20)

    assert len(server.received) == 1


def test_the_sender_goes_on_when_the_database_comes_back(
    engine: Engine, server: MailServer, caplog: pytest.LogCaptureFixture
):
    flag(engine, flagged("A1", "U1"))
    execute(engine, "RENAME TABLE alerts TO alerts_away")
    with sending(a_sender(an_outbox(engine), server)):
        wait_until(lambda: "the alert outbox cannot be read" in caplog.text, timeout=20)
        execute(engine, "RENAME TABLE alerts_away TO alerts")
        wait_until(lambda: len(server.received) == 1, timeout=20)


@contextmanager
def always_overtaken(engine: Engine, rival: Outbox) -> Iterator[threading.Event]:
    """Whatever is claimed on `engine` is claimed by `rival` first, and the user has a new alert; until the
    event is set."""
    enough, count = threading.Event(), itertools.count()

    def overtake(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("UPDATE alerts") and not enough.is_set():
            claim(rival)
            flag(rival.engine, flagged(f"A{next(count)}", "U1"))

    event.listen(engine, "before_cursor_execute", overtake)
    try:
        yield enough
    finally:
        event.remove(engine, "before_cursor_execute", overtake)


def test_a_sender_that_others_always_overtake_goes_on(
    engine: Engine, server: MailServer, database: str, caplog: pytest.LogCaptureFixture
):
    rival = an_outbox(make_engine(make_url(database)), cooldown_s=0)
    flag(engine, flagged("first", "U1"))
    with (
        always_overtaken(engine, rival) as enough,
        sending(a_sender(an_outbox(engine, cooldown_s=0), server)) as thread,
    ):
        wait_until(lambda: "other senders were faster" in caplog.text, timeout=30)
        enough.set()
        wait_until(lambda: server.received, timeout=20)
        assert thread.is_alive()
    rival.engine.dispose()

    (received,) = server.received
    assert len(listed(received)) == 1


def test_a_mail_at_which_the_sender_fails_does_not_stop_the_others(
    engine: Engine, server: MailServer, caplog: pytest.LogCaptureFixture
):
    flag(engine, flagged("A1", "U1"), flagged("B1", "U2"), flagged("C1", "U3"))
    # The bad mail is put off for longer and longer, so that the others come first on a slow machine, too.
    pace = replace(QUICK, longest_mail_delay_s=5)
    sender, mended = a_sender(an_outbox(engine), server, pace), threading.Event()
    transport: Any = sender._transport
    send = transport.send

    def fail_at_the_first(message: EmailMessage, recipients: Sequence[str]) -> SendResult:
        if "U1" in message["Subject"] and not mended.is_set():
            raise KeyError("s3cret")
        return send(message, recipients)

    transport.send = fail_at_the_first
    with sending(sender):
        wait_until(lambda: len(server.received) == 2, timeout=20)
        # Their order is that of the claim, in which the bad one was the first.
        assert [listed(mail) for mail in server.received] == [["B1"], ["C1"]]
        wait_until(lambda: outbox.pending(engine).sending == 1, timeout=20)
        (troubled,) = outbox.troubled_mails(engine, limit=5)
        assert troubled.last_error == "the sender failed (KeyError, see its log)"
        wait_until(lambda: (status_of_alerts(engine) or ("",))[0] == "error", timeout=20)
        assert status_of_alerts(engine) == ("error", f"Alerts wait, {troubled.last_error}")
        assert "Traceback" in caplog.text and "fail_at_the_first" in caplog.text
        mended.set()
        wait_until(everything_sent(engine), timeout=20)
        wait_until(lambda: status_of_alerts(engine) == ("ok", "Alerts are mailed."), timeout=20)

    assert [listed(mail) for mail in server.received] == [["B1"], ["C1"], ["A1"]]


def test_a_sender_that_fails_at_its_claims_says_so_and_goes_on(engine: Engine, server: MailServer):
    @dataclass(frozen=True)
    class Failing(Outbox):
        mended: threading.Event = field(default_factory=threading.Event)

        def claim(self, *, lease_s: float, flush: bool) -> list[outbox.ClaimedMail]:
            mails = super().claim(lease_s=lease_s, flush=flush)
            if mails and not self.mended.is_set():
                raise RuntimeError("the answer makes no sense")
            return mails

    box = Failing(engine, 50, 600, TWO, message_id_domain="example.com")
    flag(engine, flagged("A1", "U1"))
    with sending(a_sender(box, server)) as thread:
        wait_until(lambda: (status_of_alerts(engine) or ("",))[0] == "error", timeout=20)
        assert "RuntimeError" in status_of_alerts(engine)[1]  # type: ignore[index]
        # Nothing is left to claim: it works again, as far as anyone can tell.
        wait_until(lambda: status_of_alerts(engine) == ("ok", "Alerts are mailed."), timeout=20)
        assert thread.is_alive() and outbox.pending(engine).sending == 1
        box.mended.set()
        let_leases_run_out(engine)
        wait_until(lambda: [listed(mail) for mail in server.received] == [["A1"]], timeout=20)


def test_stopping_ends_after_the_mail_at_hand_and_hands_the_others_back(engine: Engine, server: MailServer):
    flag(engine, *many(5, users=5))
    box = an_outbox(engine)
    stop = threading.Event()
    server.before_data_reply = stop.set
    a_sender(box, server).run(stop)
    assert len(server.received) == 1
    assert outbox.pending(engine) == outbox.Counts(waiting=0, held=0, sending=4, sent=1, failed=0)

    server.before_data_reply = lambda: None
    assert a_sender(box, server).drain(10) == 0

    assert Counter(identity for mail in server.received for identity in listed(mail)) == Counter(
        f"TXN{number:05}" for number in range(5)
    )


def test_a_drain_sends_what_the_cool_down_holds_back(engine: Engine, server: MailServer):
    box = an_outbox(engine)
    flag(engine, flagged("A1", "U1"))
    with sending(a_sender(box, server)):
        wait_until(everything_sent(engine), timeout=20)
    flag(engine, flagged("A2", "U1"), flagged("A3", "U1"))

    assert a_sender(box, server).drain(20) == 0

    assert [listed(mail) for mail in server.received] == [["A1"], ["A2", "A3"]]


def test_a_drain_says_what_it_could_not_send(engine: Engine):
    flag(engine, flagged("A1", "U1"))
    gone = MailServer()
    with mail_server(gone):
        pass

    assert a_sender(an_outbox(engine), gone).drain(0.5) == 1


@pytest.mark.parametrize(("sender", "to"), [(None, TWO), ("alerts@example.com", ())])
def test_without_a_sender_or_recipient_alerts_wait_and_everyone_is_told_once(
    engine: Engine,
    server: MailServer,
    caplog: pytest.LogCaptureFixture,
    sender: str | None,
    to: tuple[str, ...],
):
    flag(engine, flagged("A1", "U1"))
    unset = mail_sender(
        engine,
        sender=sender,
        password=None,
        recipients=to,
        host="127.0.0.1",
        port=server.port,
        security="none",
        dashboard_url="http://dashboard.example",
        tz=ZoneInfo("UTC"),
        digest_size=50,
        cooldown_s=600,
    )
    with caplog.at_level(logging.WARNING), sending(unset):
        state, message = wait_until(lambda: status_of_alerts(engine), timeout=20)

    assert state == "warning"
    assert "SENDER_EMAIL, RECEIVER_EMAIL" in message
    assert [record.message for record in caplog.records] == [message]
    assert outbox.pending(engine).waiting == 1
    assert unset.drain(1) == 1
    assert server.offered == []


# --- the command line, in processes that can be killed


@dataclass
class CommandLine:
    """`python -m fraudstream alerts …` against the test's database and mail server."""

    environment: dict[str, str]

    def __call__(self, *words: str) -> str:
        result = subprocess.run(
            self._command(words), env=self.environment, cwd=PROJECT_DIR, stdout=subprocess.PIPE, check=True
        )
        return result.stdout.decode()

    @contextmanager
    def running(self, *words: str) -> Iterator[subprocess.Popen]:
        process = subprocess.Popen(
            self._command(words), env=self.environment, cwd=PROJECT_DIR, stderr=subprocess.PIPE, text=True
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    @staticmethod
    def _command(words: Sequence[str]) -> list[str]:
        return [sys.executable, "-m", "fraudstream", "alerts", *words]


@pytest.fixture
def alerts_command(database: str, server: MailServer) -> CommandLine:
    return CommandLine(
        child_environment(
            MYSQL_URL=database,
            SMTP_HOST="127.0.0.1",
            SMTP_PORT=str(server.port),
            SMTP_SECURITY="none",
            SENDER_EMAIL="alerts@example.com",
            SENDER_PASSWORD="",
            RECEIVER_EMAIL=",".join(TWO),
            TZ="Africa/Cairo",
        )
    )


def test_the_command_sends_until_it_is_told_to_stop(
    engine: Engine, server: MailServer, alerts_command: CommandLine
):
    flag(engine, flagged("A1", "U1"))
    with alerts_command.running() as process:
        wait_until(everything_sent(engine), timeout=30)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0

    (mail,) = server.received
    assert listed(mail) == ["A1"]
    assert alerts_command("status") == "waiting=0 held=0 sending=0 sent=1 failed=0\n"


def test_the_command_line_shows_and_repeats_what_was_refused(
    engine: Engine, server: MailServer, alerts_command: CommandLine
):
    flag(engine, flagged("A1", "U1"))
    server.on_data = "554 looks like spam"
    with alerts_command.running("run"):
        wait_until(lambda: outbox.pending(engine).failed == 1, timeout=30)
        counts, trouble = alerts_command("status").splitlines()
        assert counts == "waiting=0 held=0 sending=0 sent=0 failed=1"
        assert trouble.endswith("failed after 1 attempts: 554 looks like spam")

        server.on_data = "250 OK"
        assert alerts_command("retry") == "retried=1\n"
        wait_until(lambda: outbox.pending(engine).sent == 1, timeout=30)

    assert [listed(mail) for mail in server.received] == [["A1"]]


@pytest.mark.parametrize("moment", ["before the answer is sent", "before the answer is recorded"])
def test_a_sender_killed_after_the_server_accepted_sends_the_same_mail_again(
    engine: Engine, server: MailServer, alerts_command: CommandLine, moment: str
):
    flag(engine, flagged("A1", "U1"), flagged("A2", "U1"))
    with alerts_command.running() as process:
        if moment == "before the answer is sent":
            server.before_data_reply = lambda: os.kill(process.pid, signal.SIGKILL)
            assert process.wait(30) == -signal.SIGKILL
        else:
            _kill_while_the_mark_waits(engine, server, process)
    flag(engine, flagged("A3", "U1"))
    server.before_data_reply = lambda: None
    assert outbox.pending(engine).sending == 1
    let_leases_run_out(engine)

    with alerts_command.running():
        wait_until(lambda: outbox.pending(engine).sent == 1, timeout=30)

    first, second = server.received
    assert first.message["Message-ID"] == second.message["Message-ID"]
    assert first.message["Date"] == second.message["Date"]
    assert listed(first) == listed(second) == ["A1", "A2"]


def _kill_while_the_mark_waits(engine: Engine, server: MailServer, process: subprocess.Popen) -> None:
    with engine.connect() as blocker:

        def lock_the_mail() -> None:
            blocker.execute(text("SELECT * FROM mails FOR UPDATE")).all()

        server.before_data_reply = lock_the_mail
        wait_until(lambda: server.received, timeout=30)
        wait_until(lambda: _waits_for_a_lock(engine), timeout=30, describe="the mark waits for the row")
        process.kill()
        process.wait(10)
        _wait_for_its_connection_to_end(engine)
        blocker.rollback()


MARKS = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'UPDATE mails SET%'"


def _waits_for_a_lock(engine: Engine) -> bool:
    with engine.connect() as connection:
        return connection.scalar(text(MARKS)) == 1


def _wait_for_its_connection_to_end(engine: Engine) -> None:
    """The server notices a dead client only when it next speaks to it: end the waiting update for it."""
    with engine.connect() as connection:
        query = MARKS.replace("COUNT(*)", "id")
        for thread in connection.scalars(text(query)).all():
            connection.exec_driver_sql(f"KILL {int(thread)}")
    wait_until(lambda: not _waits_for_a_lock(engine), timeout=30)
