"""What becomes of each cleaned row: stored with a verdict, a duplicate, or a conflicting duplicate."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraudstream.executors import find_clashes
from fraudstream.feature_record import unpack
from fraudstream.features import FEATURE_NAMES, transaction_features
from fraudstream.history import time_s, wide_name_codes
from fraudstream.merchant_risk import Outcomes, no_outcomes
from fraudstream.model import Model, Sample, Scorer, fit
from fraudstream.rules import load_rules
from fraudstream.schema import CLEANED_ARROW, FIELD_NAMES, JUDGED_ARROW, TRANSACTION_ARROW, Outcome, Rejection
from fraudstream.scoring import Claims, FindStored, Judge, Known, judge_partition
from tests.support.models import about

KAFKA_TIME = datetime(2026, 1, 1, tzinfo=UTC)
TIME = datetime.fromisoformat("2025-01-02 03:04:05")
CONFLICT = Rejection.CONFLICTING_DUPLICATE.value
RULES_ALONE = Judge(load_rules(), None)

Row = dict[str, Any]


def row(offset: int, transaction_id: str = "T1", **changed: Any) -> Row:
    """A usable row of CLEANED_ARROW."""
    usual = {
        "partition_id": 0,
        "offset": offset,
        "kafka_time": KAFKA_TIME,
        "key": None,
        "value": None,
        "rejection": None,
        "detail": None,
        "TransactionID": transaction_id,
        "UserID": "U1",
        "Amount": Decimal("12.50"),
        "Location": "Cairo",
        "Time": TIME,
        "Device": "iOS",
        "Merchant": "Amazon",
    }
    return {**usual, **changed}


def refused(offset: int, **changed: Any) -> Row:
    """A row that cleaning has refused, with its original bytes."""
    bytes_kept = {"key": b"\xff", "value": b"{", "rejection": Rejection.NOT_JSON.value, "detail": "why"}
    return row(offset, **{**dict.fromkeys(FIELD_NAMES), **bytes_kept, **changed})


def values(stored: Row) -> tuple[Any, ...]:
    return tuple(stored[name] for name in FIELD_NAMES)


def holding(*rows: Row) -> FindStored:
    """A database in which these rows are stored."""
    by_id = {each["TransactionID"]: values(each) for each in rows}
    return lambda ids: {
        transaction_id: by_id[transaction_id] for transaction_id in ids if transaction_id in by_id
    }


def table(*rows: Row) -> pa.Table:
    return pa.Table.from_pylist(list(rows), CLEANED_ARROW)


def judge_all(
    *rows: Row,
    by: Judge = RULES_ALONE,
    stored: FindStored = holding(),  # noqa: B008
    histories: Mapping[str, bytes] | None = None,
    outcomes: Outcomes | None = None,
    claims: Claims | None = None,
) -> pa.Table:
    known = Known(stored, lambda _users: histories or {}, outcomes or no_outcomes())
    judged = judge_partition(table(*rows), judge=by, known=known, claims=claims)
    assert judged.schema == JUDGED_ARROW
    return judged


def judge(*rows: Row, **options: Any) -> pa.Table:
    """The judged rows; the users' new histories are left out."""
    judged = judge_all(*rows, **options)
    return judged.filter(pc.not_equal(judged["outcome"], Outcome.HISTORY.value))


def histories_of(judged: pa.Table) -> dict[str, bytes]:
    rows = judged.filter(pc.equal(judged["outcome"], Outcome.HISTORY.value))
    for name in set(JUDGED_ARROW.names) - {"outcome", "UserID", "history"}:
        assert rows[name].null_count == len(rows)
    found = dict(zip(rows["UserID"].to_pylist(), rows["history"].to_pylist(), strict=True))
    assert len(found) == len(rows)
    return found


def feature(judged_row: Row, name: str) -> float:
    return float(unpack(judged_row["features"])[FEATURE_NAMES.index(name)])


def outcomes(judged: pa.Table) -> dict[int, str]:
    """offset -> outcome; each offset must have come out once."""
    found = dict(zip(judged["offset"].to_pylist(), judged["outcome"].to_pylist(), strict=True))
    assert len(found) == len(judged)
    return found


def test_nothing_comes_of_nothing() -> None:
    assert len(judge_all()) == 0
    assert find_clashes(judge()) is None


def test_a_usable_row_is_stored_as_it_came() -> None:
    (judged,) = judge(row(7)).to_pylist()
    assert feature(judged, "Amount") == 12.5
    assert judged == {
        **row(7),
        "outcome": Outcome.STORED.value,
        "Is_Fraud": "NO",
        "score": 0.0,
        "reasons": None,
        "features": judged["features"],
        "history": None,
    }


def test_a_refused_row_keeps_its_bytes_and_reason_and_gets_no_verdict() -> None:
    judged = {each["offset"]: each for each in judge(row(1), refused(2), row(3, "T3")).to_pylist()}
    nothing = {"Is_Fraud": None, "score": None, "reasons": None, "features": None, "history": None}
    assert judged[2] == {**refused(2), "outcome": Outcome.REJECTED.value, **nothing}
    assert judged[1]["outcome"] == judged[3]["outcome"] == Outcome.STORED.value


def test_an_equal_row_is_a_duplicate_and_another_one_conflicts() -> None:
    rows = judge(row(1), row(2), row(3, Amount=Decimal("12.51")), row(4))
    assert outcomes(rows) == {
        1: Outcome.STORED,
        2: Outcome.DUPLICATE,
        3: Outcome.REJECTED,
        4: Outcome.DUPLICATE,
    }
    (conflict,) = (each for each in rows.to_pylist() if each["outcome"] == Outcome.REJECTED)
    assert (conflict["rejection"], conflict["detail"]) == (CONFLICT, "T1")
    assert conflict["Is_Fraud"] is conflict["score"] is conflict["reasons"] is None


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("UserID", "U2"),
        ("Amount", Decimal("12.51")),
        ("Location", None),
        ("Location", "cairo"),
        ("Time", TIME + timedelta(seconds=1)),
        ("Device", None),
        ("Merchant", "Noon"),
    ],
)
def test_any_other_value_conflicts(name: str, other: Any) -> None:
    assert outcomes(judge(row(1), row(2, **{name: other})))[2] == Outcome.REJECTED
    assert outcomes(judge(row(2, **{name: other}), stored=holding(row(1))))[2] == Outcome.REJECTED


def test_null_equals_null() -> None:
    bare: Row = {"Location": None, "Device": None, "Merchant": None}
    assert outcomes(judge(row(1, **bare), row(2, **bare)))[2] == Outcome.DUPLICATE
    assert outcomes(judge(row(2, **bare), stored=holding(row(1, **bare))))[2] == Outcome.DUPLICATE


def test_ids_are_compared_to_the_letter() -> None:
    ids = ["txn1", "TXN1", "txn1\u0301", "t\u0078n\u00e9", "txne\u0301", "txn 1"]
    judged = judge(*(row(offset, each) for offset, each in enumerate(ids)))
    assert set(outcomes(judged).values()) == {Outcome.STORED}


def test_what_is_stored_already_wins_whatever_arrives() -> None:
    stored = holding(row(0), row(0, "T2"))
    judged = judge(row(5), row(6, Merchant="Noon"), row(7, "T2"), row(8, "T3"), stored=stored)
    assert outcomes(judged) == {
        5: Outcome.DUPLICATE,
        6: Outcome.REJECTED,
        7: Outcome.DUPLICATE,
        8: Outcome.STORED,
    }


@pytest.mark.parametrize(
    "earliest_first",
    [
        [row(9, kafka_time=KAFKA_TIME - timedelta(microseconds=1), partition_id=3), row(1), row(2)],
        [row(9, partition_id=0), row(1, partition_id=1), row(2, partition_id=2)],
        [row(1, partition_id=2), row(2, partition_id=2), row(9, partition_id=2)],
    ],
    ids=["Kafka's time", "then the partition", "then the offset"],
)
def test_the_earliest_arrival_takes_the_id(earliest_first: list[Row]) -> None:
    different = [{**each, "Device": str(number)} for number, each in enumerate(earliest_first)]
    for order in itertools.permutations(different):
        (stored,) = (each for each in judge(*order).to_pylist() if each["outcome"] == Outcome.STORED)
        assert stored["Device"] == "0"


USERS = {"U1": 1, "U2": 2}


@st.composite
def arrivals(draw: st.DrawFn) -> list[Row]:
    """Few ids, values and instants, so that they meet often; some rows are refused by cleaning."""
    count = draw(st.integers(0, 12))
    return [
        refused(offset)
        if draw(st.integers(0, 5)) == 0
        else row(
            offset,
            draw(st.sampled_from("ABC")),
            UserID=draw(st.sampled_from(sorted(USERS))),
            Location=draw(st.sampled_from([None, "Cairo"])),
            partition_id=draw(st.integers(0, 1)),
            kafka_time=KAFKA_TIME + timedelta(seconds=draw(st.integers(0, 1))),
        )
        for offset in range(count)
    ]


def expected_outcomes(rows: list[Row], stored: Mapping[str, Row]) -> dict[int, str]:
    """The rule, one row after the other."""
    taken = {transaction_id: values(each) for transaction_id, each in stored.items()}
    result: dict[int, str] = {}
    for each in sorted(rows, key=lambda each: (each["kafka_time"], each["partition_id"], each["offset"])):
        if each["rejection"]:
            result[each["offset"]] = Outcome.REJECTED
        elif each["TransactionID"] not in taken:
            taken[each["TransactionID"]] = values(each)
            result[each["offset"]] = Outcome.STORED
        else:
            same = taken[each["TransactionID"]] == values(each)
            result[each["offset"]] = Outcome.DUPLICATE if same else Outcome.REJECTED
    return result


@given(arrivals(), st.booleans())
def test_each_row_comes_out_once_with_the_outcome_of_the_rule(rows: list[Row], a_is_stored: bool) -> None:
    stored = {"A": row(0, "A")} if a_is_stored else {}
    judged = judge(*rows, stored=holding(*stored.values()))
    assert outcomes(judged) == expected_outcomes(rows, stored)


@given(arrivals())
def test_of_an_id_under_two_users_one_is_stored_and_no_row_is_lost(rows: list[Row]) -> None:
    def judge_apart(claims: Claims | None) -> pa.Table:
        return pa.concat_tables(
            judge(*(each for each in rows if each["UserID"] == user), claims=claims)
            for user in (*USERS, None)
        )

    judged = judge_apart(None)
    clashes = find_clashes(judged)
    if clashes:
        judged = judge_apart(clashes)
    assert find_clashes(judged) is None
    assert outcomes(judged) == expected_outcomes(rows, {})


def test_a_clash_names_the_earliest_row_of_each_id() -> None:
    one = judge(row(5), row(6, "T2"), row(7, "T3"))
    other = judge(
        row(4, UserID="U2", partition_id=1), row(3, "T2", UserID="U2", kafka_time=KAFKA_TIME - timedelta(1))
    )
    clashes = find_clashes(pa.concat_tables([one, other]))
    assert clashes == Claims({"T1": (0, 5), "T2": (0, 3)})
    assert find_clashes(one) is None


def test_a_claim_of_another_user_refuses_all_of_this_users_rows() -> None:
    claims = Claims({"T1": (3, 99)})
    judged = judge(row(1), row(2), row(3, "T2"), claims=claims)
    assert outcomes(judged) == {1: Outcome.REJECTED, 2: Outcome.REJECTED, 3: Outcome.STORED}
    assert outcomes(judge(row(99, partition_id=3), claims=claims)) == {99: Outcome.STORED}


@pytest.mark.parametrize(
    ("amount", "flag"),
    [
        ("0.00", "NO"),
        ("1999.99", "NO"),
        ("2000.00", "NO"),
        ("2000.01", "YES"),
        ("999999999999.99", "YES"),
    ],
)
def test_only_more_than_2000_is_flagged(amount: str, flag: str) -> None:
    (judged,) = judge(row(1, Amount=Decimal(amount))).to_pylist()
    assert judged["Is_Fraud"] == flag
    assert judged["score"] == (1.0 if flag == "YES" else 0.0)
    if flag == "YES":
        (reason,) = orjson.loads(judged["reasons"])
        assert reason == {"code": "AMOUNT_OVER_2000", "amount": float(amount), "limit": 2000.0}
    else:
        assert judged["reasons"] is None


def test_a_users_rows_are_behaviour_in_the_order_of_their_offsets() -> None:
    """Whatever Kafka's timestamps say: those of two producers need not agree within a partition."""
    earlier = row(5, "T1", Amount=Decimal(30), kafka_time=KAFKA_TIME + timedelta(1))
    later = row(6, "T2", Time=TIME + timedelta(seconds=9))
    for rows in ([earlier, later], [later, earlier]):
        judged = {each["TransactionID"]: each for each in judge(*rows).to_pylist()}
        assert feature(judged["T1"], "tx_count_5m") == 0
        assert (feature(judged["T2"], "tx_count_5m"), feature(judged["T2"], "amount_sum_5m")) == (1, 30)


def test_the_stored_history_goes_before_the_batch_and_comes_back_with_it() -> None:
    one, other = row(1), row(2, "T2", Time=TIME + timedelta(minutes=2))
    together = judge_all(one, other)
    first = judge_all(one)
    second = judge_all(other, stored=holding(one), histories=histories_of(first))
    assert histories_of(second) == histories_of(together)
    packed = {each["TransactionID"]: each["features"] for each in together.to_pylist() if each["features"]}
    assert packed == {
        each["TransactionID"]: each["features"]
        for each in [*first.to_pylist(), *second.to_pylist()]
        if each["features"]
    }


def test_duplicates_and_refused_rows_are_no_behaviour() -> None:
    plain = judge_all(row(1), row(9, "T9", Time=TIME + timedelta(minutes=1)))
    noisy = judge_all(
        row(1), row(2), row(3, Amount=Decimal(7)), refused(4), row(9, "T9", Time=TIME + timedelta(minutes=1))
    )
    assert histories_of(noisy) == histories_of(plain)
    assert histories_of(judge_all(row(1), stored=holding(row(0)))) == {}


def test_confirmed_frauds_of_a_merchant_reach_its_next_transactions() -> None:
    past = table(row(1), row(2, "T2", Merchant="Noon")).select(TRANSACTION_ARROW.names)
    times = time_s(past["Time"])
    outcomes = Outcomes.of(wide_name_codes(past["Merchant"]), times, times, np.array([True, False]))
    weeks_later = {"Time": TIME + timedelta(days=7, seconds=1)}
    judged = judge(
        row(3, "T3", **weeks_later), row(4, "T4", Merchant="Noon", **weeks_later), outcomes=outcomes
    )
    by_id = {each["TransactionID"]: each for each in judged.to_pylist()}
    assert feature(by_id["T3"], "merchant_frauds_1d") == 1
    assert feature(by_id["T4"], "merchant_frauds_1d") == 0


@pytest.fixture(scope="module")
def with_model() -> Callable[..., Judge]:
    """A judge whose model flags from the given score on."""
    scorer = small_scorer()

    def judge_from(threshold: float, *, delay_days: int = 7) -> Judge:
        metadata = replace(about("test"), threshold=threshold, label_delay_s=delay_days * 86_400)
        return Judge(load_rules(), Model(scorer, metadata))

    return judge_from


def small_scorer() -> Scorer:
    chance = np.random.default_rng(1)
    rows = [
        row(n, f"T{n}", UserID=f"U{n % 7}", Amount=Decimal(int(chance.integers(1, 100_000))) / 100,
            Time=TIME + timedelta(hours=n))
        for n in range(300)
    ]  # fmt: skip
    transactions = table(*rows).select(TRANSACTION_ARROW.names)
    return fit(Sample(transaction_features(transactions, no_outcomes()).features), trees=5)


def test_a_models_flag_says_its_score_threshold_and_what_it_saw(with_model: Callable[..., Judge]) -> None:
    rows = [row(1), row(2, "T2", Amount=Decimal(2001), Time=TIME + timedelta(minutes=1))]
    judged = judge(*rows, by=with_model(0.0)).to_pylist()
    for each in judged:
        assert each["Is_Fraud"] == "YES"
        reason = orjson.loads(each["reasons"])[-1]
        assert (reason["code"], reason["threshold"]) == ("MODEL", 0.0)
        assert reason["score"] == pytest.approx(each["score"], abs=5e-5)
    codes = [reason["code"] for reason in orjson.loads(judged[1]["reasons"])]
    assert (codes[0], codes[-1]) == ("AMOUNT_OVER_2000", "MODEL")
    assert "Amount" in reason["top"] and set(reason["top"]) <= set(FEATURE_NAMES)


def test_merchant_risk_looks_as_far_back_as_the_model_learned_it(with_model: Callable[..., Judge]) -> None:
    past = table(row(1)).select(TRANSACTION_ARROW.names)
    times = time_s(past["Time"])
    outcomes = Outcomes.of(wide_name_codes(past["Merchant"]), times, times, np.array([True]))
    later = row(3, "T3", Time=TIME + timedelta(days=2, seconds=1))
    for delay_days, frauds in ((2, 1.0), (7, 0.0)):
        (judged,) = judge(later, by=with_model(1.1, delay_days=delay_days), outcomes=outcomes).to_pylist()
        assert feature(judged, "merchant_frauds_1d") == frauds


def test_a_score_at_the_threshold_is_flagged_and_one_below_is_not(
    with_model: Callable[..., Judge],
) -> None:
    (free,) = judge(row(1), by=with_model(1.1)).to_pylist()
    assert 0 < free["score"] <= 1
    assert (free["Is_Fraud"], free["reasons"]) == ("NO", None)
    (at,) = judge(row(1), by=with_model(free["score"])).to_pylist()
    (above,) = judge(row(1), by=with_model(np.nextafter(free["score"], 2))).to_pylist()
    assert (at["Is_Fraud"], above["Is_Fraud"]) == ("YES", "NO")


def test_a_flag_has_a_reason_and_a_reason_a_flag(with_model: Callable[..., Judge]) -> None:
    rows = [row(number, f"T{number}", Amount=Decimal(number * 40)) for number in range(100)]
    median = float(np.median(judge(*rows, by=with_model(1.1))["score"].to_numpy()))
    judged = judge(*rows, by=with_model(median)).to_pylist()
    assert {each["Is_Fraud"] for each in judged} == {"YES", "NO"}
    assert all((each["Is_Fraud"] == "YES") == (each["reasons"] is not None) for each in judged)
