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
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraudstream.features import row_features
from fraudstream.model import Model, train
from fraudstream.rules import load_rules
from fraudstream.schema import CLEANED_ARROW, FIELD_NAMES, JUDGED_ARROW, Outcome, Rejection
from fraudstream.scoring import Claims, FindStored, Judge, amount_cents, judge_partition, time_s
from fraudstream.streaming import find_clashes

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


def judge(
    *rows: Row,
    by: Judge = RULES_ALONE,
    stored: FindStored = holding(),  # noqa: B008
    claims: Claims | None = None,
) -> pa.Table:
    judged = judge_partition(table(*rows), judge=by, find_stored=stored, claims=claims)
    assert judged.schema == JUDGED_ARROW
    return judged


def outcomes(judged: pa.Table) -> dict[int, str]:
    """offset -> outcome; each offset must have come out once."""
    found = dict(zip(judged["offset"].to_pylist(), judged["outcome"].to_pylist(), strict=True))
    assert len(found) == len(judged)
    return found


def test_nothing_comes_of_nothing() -> None:
    assert len(judge()) == 0
    assert find_clashes(judge()) is None


def test_a_usable_row_is_stored_as_it_came() -> None:
    (judged,) = judge(row(7)).to_pylist()
    assert judged == {
        **row(7),
        "outcome": Outcome.STORED.value,
        "Is_Fraud": "NO",
        "score": 0.0,
        "reasons": None,
        "history": None,
    }


def test_a_refused_row_keeps_its_bytes_and_reason_and_gets_no_verdict() -> None:
    judged = {each["offset"]: each for each in judge(row(1), refused(2), row(3, "T3")).to_pylist()}
    nothing = {"Is_Fraud": None, "score": None, "reasons": None, "history": None}
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


@pytest.fixture(scope="module")
def with_model() -> Callable[[float], Judge]:
    """A judge whose model flags from the given score on."""
    chance = np.random.default_rng(1)
    seconds = chance.integers(0, 10**7, 300)
    features = row_features(chance.integers(1, 100_000, 300), seconds, np.zeros(300, dtype=bool))
    model = train(features, seconds, data_sha256="0" * 64, trees=5)

    def judge_from(threshold: float) -> Judge:
        changed = Model(model.estimator, replace(model.metadata, threshold=threshold))
        return Judge(load_rules(), changed)

    return judge_from


def test_a_models_flag_says_its_score_and_threshold(with_model: Callable[[float], Judge]) -> None:
    judged = judge(row(1), row(2, "T2", Amount=Decimal(2001)), by=with_model(0.0)).to_pylist()
    for each in judged:
        assert each["Is_Fraud"] == "YES"
        reason = orjson.loads(each["reasons"])[-1]
        assert reason == {"code": "MODEL", "score": round(each["score"], 4), "threshold": 0.0}
    assert [reason["code"] for reason in orjson.loads(judged[1]["reasons"])] == ["AMOUNT_OVER_2000", "MODEL"]


def test_a_score_at_the_threshold_is_flagged_and_one_below_is_not(
    with_model: Callable[[float], Judge],
) -> None:
    (free,) = judge(row(1), by=with_model(1.1)).to_pylist()
    assert 0 < free["score"] <= 1
    assert (free["Is_Fraud"], free["reasons"]) == ("NO", None)
    (at,) = judge(row(1), by=with_model(free["score"])).to_pylist()
    (above,) = judge(row(1), by=with_model(np.nextafter(free["score"], 2))).to_pylist()
    assert (at["Is_Fraud"], above["Is_Fraud"]) == ("YES", "NO")


def test_a_flag_has_a_reason_and_a_reason_a_flag(with_model: Callable[[float], Judge]) -> None:
    rows = [row(number, f"T{number}", Amount=Decimal(number * 40)) for number in range(100)]
    median = float(np.median(judge(*rows, by=with_model(1.1))["score"].to_numpy()))
    judged = judge(*rows, by=with_model(median)).to_pylist()
    assert {each["Is_Fraud"] for each in judged} == {"YES", "NO"}
    assert all((each["Is_Fraud"] == "YES") == (each["reasons"] is not None) for each in judged)


def test_cents_are_exact_up_to_the_largest_amount() -> None:
    amounts = pa.chunked_array(
        [pa.array([Decimal("0.01"), Decimal("999999999999.99")], pa.decimal128(18, 2))]
    )
    assert amount_cents(amounts).tolist() == [1, 99_999_999_999_999]


def test_seconds_count_from_1970_in_local_time() -> None:
    times = pa.chunked_array([pa.array([TIME], pa.timestamp("us"))])
    assert time_s(times).tolist() == [1_735_787_045]
