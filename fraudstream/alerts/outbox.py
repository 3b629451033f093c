"""The sender: takes mails from the outbox, hands them to the mail server, records what became of them.

Guarantee: each mail of the outbox is accepted at least once by each recipient that the server takes,
with the same Message-ID and members each time; exactly once wherever the server's answer was heard and
the record of it committed before another sender could take the mail over. Transient trouble, of the
server or of the database, is never given up on; a permanent refusal is recorded and waits for
`python -m fraudstream alerts retry`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from typing import Generic, Literal, Protocol, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_when_event_set, wait_exponential
from tenacity.nap import sleep_using_event

from fraudstream.alerts.compose import FlaggedTransaction, MailContent
from fraudstream.alerts.smtp import Outcome, SendResult

log = logging.getLogger(__name__)

Compose = Callable[[MailContent, Sequence[str]], EmailMessage]


class ClaimedMail(Protocol):
    """A mail under this sender's lease; `remaining` are the recipients who have not accepted it yet."""

    @property
    def mail_id(self) -> int: ...
    @property
    def message_id(self) -> str: ...
    @property
    def created_at(self) -> datetime: ...
    @property
    def recipients(self) -> Sequence[str]: ...
    @property
    def remaining(self) -> Sequence[str]: ...
    @property
    def attempts(self) -> int: ...


Mail = TypeVar("Mail", bound=ClaimedMail)


class Outbox(Protocol[Mail]):
    """The stored outbox. A mark returns False when the lease was lost, having changed nothing.

    `trouble` is what any of these raises while the database cannot be used, or is used by too many.
    """

    @property
    def trouble(self) -> tuple[type[Exception], ...]: ...
    def claim(self, *, lease_s: float, flush: bool) -> Sequence[Mail]: ...
    def members(self, mail: Mail) -> Sequence[FlaggedTransaction]: ...
    def mark_sent(self, mail: Mail) -> bool: ...
    def mark_partially_sent(
        self, mail: Mail, remaining: Sequence[str], error: str, delay_s: float
    ) -> bool: ...
    def mark_retry(self, mail: Mail, error: str | None, delay_s: float) -> bool: ...
    def mark_failed(self, mail: Mail, remaining: Sequence[str], error: str) -> bool: ...
    def unsent(self) -> int: ...
    def report(self, state: Literal["ok", "warning", "error"], message: str) -> None: ...


class Transport(Protocol):
    """The way to the mail server; `send` hands nothing over after `timeout_s`."""

    @property
    def timeout_s(self) -> float: ...
    def send(self, message: EmailMessage, recipients: Sequence[str]) -> SendResult: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Pace:
    """Seconds: between looks into an empty outbox, of a lease, and of the growing delays after trouble."""

    poll_s: float = 0.2
    lease_s: float = 60.0
    first_delay_s: float = 1.0
    longest_service_delay_s: float = 30.0
    longest_mail_delay_s: float = 300.0

    def service_delay(self, failures: int) -> float:
        """Before the server (or database) is tried again after `failures` in a row, 1 or more."""
        return _doubled(self.first_delay_s, failures, self.longest_service_delay_s)

    def mail_delay(self, attempts: int) -> float:
        """Before one mail is offered again that the server has put off `attempts` times, 1 or more."""
        return _doubled(self.first_delay_s, attempts, self.longest_mail_delay_s)


def _doubled(first: float, times: int, longest: float) -> float:
    return min(longest, first * 2.0 ** min(times - 1, 30))


class Sender(Generic[Mail]):
    """One sender; any number may run on the same outbox, each in one thread."""

    def __init__(
        self, outbox: Outbox[Mail], compose: Compose, transport: Transport, pace: Pace | None = None
    ) -> None:
        self._outbox = outbox
        self._compose = compose
        self._transport = transport
        self._pace = pace or Pace()
        if transport.timeout_s >= self._pace.lease_s:
            raise ValueError("the lease must be longer than one mail may take, or two senders send it")
        self._service_failures = 0
        self._database_failures = 0
        self._stumbled = False
        self._reported: str | None = None

    def run(self, stop: threading.Event) -> None:
        """Send until `stop` is set; then returns within one mail's timeout, mails not begun handed back."""
        while not stop.is_set():
            stop.wait(self._unfailing_round(stop))
        self._transport.close()

    def drain(self, timeout_s: float) -> int:
        """Send everything, alerts held back by the cool-down too; returns how many alerts and mails are
        still unsent after `timeout_s`, 0 when all is done. Raises the outbox's trouble."""
        never = threading.Event()
        deadline = time.monotonic() + timeout_s
        while (left := self._outbox.unsent()) and time.monotonic() < deadline:
            pause = self._round(never, flush=True)
            never.wait(min(pause, max(0.0, deadline - time.monotonic())))
        self._transport.close()
        return left

    def _unfailing_round(self, stop: threading.Event) -> float:
        """As `_round`, whatever it raises: the thread must not end while alerts come in."""
        try:
            pause = self._round(stop, flush=False)
        except self._outbox.trouble as error:
            return self._after_database_trouble(error)
        except Exception as error:
            # What was claimed is handed out again when its lease has run out.
            log.exception("the sender failed")
            self._stumbled = True
            return self._after_mistake(_mistake(error))
        self._database_failures = 0
        if self._stumbled:
            self._stumbled, self._reported = False, None
        return pause

    def _round(self, stop: threading.Event, *, flush: bool) -> float:
        """Claim and send once; returns how long to wait before the next round."""
        # Read before the claim, so that the lease is never thought to last longer than it does.
        lease_ends = time.monotonic() + self._pace.lease_s
        mails = self._outbox.claim(lease_s=self._pace.lease_s, flush=flush)
        if not mails:
            self._transport.close()
            self._report_ok_at_first()
            return self._pace.poll_s
        pause = 0.0
        for mail in mails:
            if pause or stop.is_set() or time.monotonic() + self._transport.timeout_s > lease_ends:
                self._hand_back(stop, mail, pause)
            else:
                pause = self._deliver_or_put_off(stop, mail)
        return pause

    def _hand_back(self, stop: threading.Event, mail: Mail, delay_s: float) -> None:
        self._mark(stop, mail, lambda: self._outbox.mark_retry(mail, None, delay_s))

    def _deliver_or_put_off(self, stop: threading.Event, mail: Mail) -> float:
        """As `_deliver`; a mail at which this program fails is put off for longer than the others, which
        would else wait behind it for ever."""
        try:
            return self._deliver(stop, mail)
        except self._outbox.trouble:
            raise
        except Exception as error:
            log.exception("the sender failed at mail %d", mail.mail_id)
            self._transport.close()
            mistake = _mistake(error)
            pause = self._after_mistake(mistake)
            delay_s = pause + self._pace.mail_delay(mail.attempts)
            self._mark(stop, mail, lambda: self._outbox.mark_retry(mail, mistake, delay_s))
            return pause

    def _deliver(self, stop: threading.Event, mail: Mail) -> float:
        """Send one mail and record the outcome; returns how long the server should be left alone."""
        message = self._composed(stop, mail)
        if message is None:
            return 0.0
        result = self._transport.send(message, mail.remaining)
        if result.outcome in {Outcome.NO_SERVICE, Outcome.UNKNOWN}:
            return self._after_service_trouble(stop, mail, result)
        self._service_failures = 0
        self._record_answer(stop, mail, result)
        self._report("ok", "Alerts are mailed.")
        return 0.0

    def _composed(self, stop: threading.Event, mail: Mail) -> EmailMessage | None:
        """The mail, or None after marking it failed when it cannot be made."""
        content = MailContent(mail.message_id, mail.created_at, self._outbox.members(mail))
        try:
            return self._compose(content, mail.recipients)
        except Exception as error:
            # One mail with, say, reasons that this version cannot read must not stop the others.
            log.exception("mail %d cannot be composed", mail.mail_id)
            reason = f"cannot be composed: {error!r}"
            self._mark(stop, mail, lambda: self._outbox.mark_failed(mail, mail.remaining, reason))
            return None

    def _record_answer(self, stop: threading.Event, mail: Mail, result: SendResult) -> None:
        """Record what the server answered for this mail."""
        outbox, delay_s = self._outbox, self._pace.mail_delay(mail.attempts)
        refused = [refusal.recipient for refusal in result.refusals]
        if result.outcome is Outcome.ACCEPTED:
            log.info("mail %d sent to %d recipients", mail.mail_id, len(mail.remaining))
            self._mark(stop, mail, lambda: outbox.mark_sent(mail))
        elif result.outcome is Outcome.MAIL_DEFERRED:
            log.warning("mail %d put off, again in %.0f s: %s", mail.mail_id, delay_s, result.detail)
            self._mark(stop, mail, lambda: outbox.mark_retry(mail, result.detail, delay_s))
        elif result.outcome is Outcome.MAIL_REFUSED:
            self._log_failed(mail, result)
            self._mark(stop, mail, lambda: outbox.mark_failed(mail, mail.remaining, result.detail))
        elif all(refusal.permanent for refusal in result.refusals):
            self._log_failed(mail, result)
            self._mark(stop, mail, lambda: outbox.mark_failed(mail, refused, result.detail))
        else:
            log.warning(
                "mail %d refused for %d of %d recipients, again in %.0f s: %s",
                mail.mail_id, len(refused), len(mail.remaining), delay_s, result.detail,
            )  # fmt: skip
            self._mark(stop, mail, lambda: outbox.mark_partially_sent(mail, refused, result.detail, delay_s))

    def _log_failed(self, mail: Mail, result: SendResult) -> None:
        log.error(
            "mail %d refused for good (`python -m fraudstream alerts retry` sends it again): %s",
            mail.mail_id,
            result.detail,
        )

    def _after_service_trouble(self, stop: threading.Event, mail: Mail, result: SendResult) -> float:
        self._service_failures += 1
        pause = self._pace.service_delay(self._service_failures)
        log.warning("mail %d not sent, again in %.0f s: %s", mail.mail_id, pause, result.detail)
        self._mark(stop, mail, lambda: self._outbox.mark_retry(mail, result.detail, pause))
        self._report("error", f"Alerts wait, the mail server cannot be used: {result.detail}")
        return pause

    def _after_database_trouble(self, error: Exception) -> float:
        self._database_failures += 1
        pause = self._pace.service_delay(self._database_failures)
        log.warning("the alert outbox cannot be read, again in %.0f s: %s", pause, _first_line(error))
        return pause

    def _after_mistake(self, mistake: str) -> float:
        self._service_failures += 1
        pause = self._pace.service_delay(self._service_failures)
        log.error("alerts wait, again in %.0f s: %s", pause, mistake)
        try:
            self._report("error", f"Alerts wait, {mistake}")
        except Exception:
            # Reached while another error is dealt with: what became of the mail has still to be noted.
            log.exception("the dashboard could not be told")
        return pause

    def _mark(self, stop: threading.Event, mail: Mail, mark: Callable[[], bool]) -> None:
        """Record an outcome, however long the database is away: it is known, and is lost with this call.
        Gives up, raising the trouble, only when `stop` is set."""
        kept = _insist(mark, self._outbox.trouble, stop)
        if not kept:
            log.warning(
                "the lease of mail %d had run out: another sender may have sent it again", mail.mail_id
            )

    def _report_ok_at_first(self) -> None:
        if self._reported is None:
            self._report("ok", "Alerts are mailed.")

    def _report(self, state: Literal["ok", "error"], message: str) -> None:
        if message != self._reported:
            self._outbox.report(state, message)
            self._reported = message


class NoSender:
    """Stands in for a sender that cannot be: alerts stay in the outbox, and everyone is told why."""

    def __init__(self, outbox: Outbox, reason: str) -> None:
        self._outbox = outbox
        self._message = f"Alerts wait in the outbox and are not mailed: {reason}"

    def run(self, stop: threading.Event) -> None:
        """Say so once, in the log and to the dashboard, and wait for `stop`."""
        log.warning(self._message)
        try:
            _insist(lambda: self._outbox.report("warning", self._message), self._outbox.trouble, stop)
        except self._outbox.trouble as error:
            log.warning("the dashboard could not be told: %s", _first_line(error))
        stop.wait()

    def drain(self, timeout_s: float) -> int:
        """Sends nothing; returns how many alerts and mails are unsent. Raises the outbox's trouble."""
        return self._outbox.unsent()


@contextmanager
def sending(sender: Sender | NoSender, *, once: threading.Event | None = None) -> Iterator[threading.Thread]:
    """Run the sender in a thread of its own during the block, from when `once` is set if it is given;
    afterwards wait until it has stopped."""
    begin, stop = once or threading.Event(), threading.Event()
    if once is None:
        begin.set()

    def run() -> None:
        begin.wait()
        sender.run(stop)

    thread = threading.Thread(target=run, name="alerts", daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        stop.set()
        begin.set()
        thread.join()


T = TypeVar("T")


def _insist(action: Callable[[], T], trouble: tuple[type[Exception], ...], stop: threading.Event) -> T:
    """Repeat `action` while it raises `trouble`, which is raised only once `stop` is set."""
    attempts = Retrying(
        retry=retry_if_exception_type(trouble),
        wait=wait_exponential(multiplier=0.1, max=2.0),
        stop=stop_when_event_set(stop),
        sleep=sleep_using_event(stop),
        before_sleep=_log_trouble,
        reraise=True,
    )
    return attempts(action)


def _log_trouble(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.warning("the alert outbox cannot be written, trying again: %s", _first_line(error))


def _mistake(error: Exception) -> str:
    """Without the error's own text, which may hold anything."""
    return f"the sender failed ({type(error).__name__}, see its log)"


def _first_line(error: BaseException | None) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
