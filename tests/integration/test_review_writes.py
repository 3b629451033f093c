"""An analyst's reviews: labels like any other, which two analysts do not overwrite unseen."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from decimal import Decimal
from threading import Barrier
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, text

from fraudstream.known_outcomes import KnownOutcomes
from fraudstream.labels import Label
from fraudstream.reviews import Reviewer
from fraudstream.store import reviews
from fraudstream.store.labels import import_labels, only_writer_of_labels, read_label_changes
from fraudstream.store.reads.cases import Case, read_case
from fraudstream.store.reads.snapshot import snapshot
from fraudstream.store.reviews import NotReviewed, ReviewConflict, Seen, review, undo
from fraudstream.store.training_data import read_training_data
from tests.support.transactions import Judged, store

CAIRO = ZoneInfo("Africa/Cairo")
NOON = datetime.fromisoformat("2026-03-01 12:00:00")
ANN, BOB = Reviewer("ann"), Reviewer("bob")


@pytest.fixture
def alert(engine: Engine) -> str:
    store(engine, [Judged("T1", "U1", Decimal(2500), NOON), Judged("T2", "U1", Decimal(10), NOON)])
    return "T1"


def case_of(engine: Engine, transaction_id: str = "T1") -> Case:
    with snapshot(engine) as connection:
        case = read_case(connection, transaction_id)
    assert case is not None
    return case


def learned(engine: Engine) -> list[tuple[str, bool]]:
    """What training is told: TransactionID, fraud."""
    _, labels = read_training_data(engine)
    return list(labels[["TransactionID", "fraud"]].itertuples(index=False, name=None))


def test_a_review_is_a_label_known_from_now_on(engine: Engine, alert: str) -> None:
    before = datetime.now(CAIRO).replace(tzinfo=None, microsecond=0)
    stored = review(engine, Seen(alert, 0), "fraud", " seen it before ", by=ANN, zone=CAIRO)
    assert (stored.version, stored.outcome, stored.note, stored.reviewer) == (
        1,
        "fraud",
        "seen it before",
        "ann",
    )
    assert before <= stored.known_at <= before + timedelta(minutes=1)
    assert learned(engine) == [("T1", True)]
    case = case_of(engine)
    assert (case.known.state, case.known.review, case.reviews) == ("fraud", stored, [stored])


def test_what_counts_is_what_became_known_last_whoever_says_it(engine: Engine, alert: str) -> None:
    now = datetime.now(CAIRO).replace(tzinfo=None, microsecond=0)
    import_labels(engine, [Label(alert, "legitimate", now - timedelta(days=1))], source="bank")
    assert case_of(engine).known.state == "legitimate"
    review(engine, Seen(alert, 0), "fraud", "", by=ANN, zone=CAIRO)
    assert case_of(engine).known.state == "fraud"
    import_labels(engine, [Label(alert, "legitimate", now + timedelta(hours=1))], source="bank")
    assert case_of(engine).known.state == "legitimate"


def test_the_second_of_two_analysts_is_told_what_the_first_decided(engine: Engine, alert: str) -> None:
    seen = Seen(alert, 0)
    first = review(engine, seen, "fraud", "mine", by=ANN, zone=CAIRO)
    with pytest.raises(
        ReviewConflict, match="ann has reviewed this transaction meanwhile and says: fraud"
    ) as told:
        review(engine, seen, "legitimate", "", by=BOB, zone=CAIRO)
    assert told.value.present == first
    assert case_of(engine).reviews == [first]

    second = review(engine, Seen(alert, first.version), "legitimate", "", by=BOB, zone=CAIRO)
    with pytest.raises(ReviewConflict, match="bob"):
        undo(engine, Seen(alert, first.version), by=ANN)
    assert case_of(engine).reviews == [second, first]


def test_of_many_at_the_same_moment_exactly_one_decides(engine: Engine, alert: str) -> None:
    analysts, together = 8, Barrier(8)

    def decide(number: int) -> str:
        together.wait(30)
        try:
            return review(engine, Seen(alert, 0), "fraud", "", by=Reviewer(f"a{number}"), zone=CAIRO).reviewer
        except ReviewConflict as conflict:
            return f"refused, {conflict.present.reviewer} was first"

    with ThreadPoolExecutor(analysts) as pool:
        ended = list(pool.map(decide, range(analysts)))
    (winner,) = [each for each in ended if not each.startswith("refused")]
    assert ended.count(f"refused, {winner} was first") == analysts - 1
    assert [each.reviewer for each in case_of(engine).reviews] == [winner]


def test_undo_says_again_what_was_said_before_and_keeps_all_of_it(engine: Engine, alert: str) -> None:
    first = review(engine, Seen(alert, 0), "fraud", "first", by=ANN, zone=CAIRO)
    second = review(engine, Seen(alert, 1), "legitimate", "second", by=BOB, zone=CAIRO)
    third = undo(engine, Seen(alert, 2), by=BOB)
    assert (third.outcome, third.note, third.known_at, third.reviewer) == (
        "fraud",
        "first",
        first.known_at,
        "bob",
    )
    assert case_of(engine).reviews == [third, second, first]


def test_a_first_review_undone_leaves_no_word(engine: Engine, alert: str) -> None:
    review(engine, Seen(alert, 0), "fraud", "", by=ANN, zone=CAIRO)
    taken_back = undo(engine, Seen(alert, 1), by=ANN)
    assert taken_back.outcome is None
    assert case_of(engine).known.state == "new"
    assert learned(engine) == []
    again = review(engine, Seen(alert, 2), "legitimate", "", by=BOB, zone=CAIRO)
    assert [each.outcome for each in case_of(engine).reviews] == ["legitimate", None, "fraud"]
    assert again.version == 3


def test_a_running_job_learns_of_a_review_and_of_its_undoing(engine: Engine, alert: str) -> None:
    def follow(known: KnownOutcomes) -> KnownOutcomes:
        with engine.connect() as connection:
            return known.changed(read_label_changes(connection, known.last_change))

    def frauds(known: KnownOutcomes) -> int:
        return int(known.outcomes().fraud.sum())

    nothing = follow(KnownOutcomes.none())
    review(engine, Seen(alert, 0), "fraud", "", by=ANN, zone=CAIRO)
    reviewed = follow(nothing)
    undo(engine, Seen(alert, 1), by=ANN)
    undone = follow(reviewed)
    assert [frauds(known) for known in (nothing, reviewed, undone)] == [0, 1, 0]
    assert len(undone.outcomes().fraud) == 0


def test_a_transaction_that_was_not_flagged_can_be_reviewed_one_that_is_not_there_cannot(
    engine: Engine, alert: str
) -> None:
    review(engine, Seen("T2", 0), "fraud", "missed", by=ANN, zone=CAIRO)
    assert case_of(engine, "T2").known.state == "fraud"
    with pytest.raises(NotReviewed, match="There is no transaction nowhere"):
        review(engine, Seen("nowhere", 0), "fraud", "", by=ANN, zone=CAIRO)
    with pytest.raises(NotReviewed, match="no review of this transaction to undo"):
        undo(engine, Seen(alert, 0), by=ANN)


def test_a_review_does_not_wait_for_a_long_import(
    engine: Engine, alert: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reviews, "_LOCK_TIMEOUT_S", 0.2)
    with (
        only_writer_of_labels(engine, timeout_s=5),
        pytest.raises(NotReviewed, match="Try again in a minute"),
    ):
        review(engine, Seen(alert, 0), "fraud", "", by=ANN, zone=CAIRO)
    assert case_of(engine).known.state == "new"


def test_an_import_cannot_pass_for_a_review(engine: Engine, alert: str) -> None:
    with pytest.raises(ValueError, match="reviews in the dashboard"):
        import_labels(engine, [Label(alert, "fraud", NOON)], source="review")


def test_changes_are_ordered_with_those_of_imports(engine: Engine, alert: str) -> None:
    steps: list[Callable[[], object]] = [
        lambda: import_labels(engine, [Label("T2", "fraud", NOON)], source="bank"),
        lambda: review(engine, Seen(alert, 0), "fraud", "", by=ANN, zone=CAIRO),
        lambda: import_labels(engine, [Label("T3", "fraud", NOON)], source="bank"),
        lambda: undo(engine, Seen(alert, 1), by=ANN),
    ]
    last = []
    for step in steps:
        step()
        with engine.connect() as connection:
            last.append(connection.scalar(text("SELECT MAX(change_id) FROM labels")))
    assert last == [1, 2, 3, 4]
