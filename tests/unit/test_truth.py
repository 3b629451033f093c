"""A CSV of which transactions were fraud: read whole or refused, and laid beside the transactions."""

from __future__ import annotations

import csv
import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraudstream.labels import (
    LabelFileError,
    outcomes_of,
    read_truth,
    scenarios_of,
    without_transaction,
)
from fraudstream.model import FRAUD, LEGITIMATE, UNKNOWN

HEADER = "TransactionID,is_fraud,scenario\n"


def read(text: str) -> pd.DataFrame:
    return read_truth(io.StringIO(text, newline=""))


def rows(truth: pd.DataFrame) -> list[tuple[object, ...]]:
    return list(truth.itertuples(index=False, name=None))


def ids(*names: str) -> pa.ChunkedArray:
    """In two chunks, as a table has them that was put together."""
    half = len(names) // 2
    return pa.chunked_array([list(names[:half]), list(names[half:])], pa.string())


def test_each_row_says_whether_a_transaction_is_fraud_and_of_what_kind() -> None:
    truth = read(f"{HEADER}T1,1,leaked\n\n T2 , 0 ,normal\nT3,True,\nT4,FALSE, \n")
    assert rows(truth) == [
        ("T1", True, "leaked"),
        ("T2", False, "normal"),
        ("T3", True, None),
        ("T4", False, None),
    ]
    assert truth["is_fraud"].to_numpy().dtype == np.bool_


def test_the_scenario_may_be_missing_and_columns_come_in_any_order() -> None:
    assert rows(read("note,is_fraud,TransactionID\nx,1,T1\n")) == [("T1", True, None)]


def test_a_file_without_rows_has_no_labels() -> None:
    truth = read(HEADER)
    assert list(truth) == ["TransactionID", "is_fraud", "scenario"] and len(truth) == 0
    assert outcomes_of(truth, ids("T1")).tolist() == [UNKNOWN]
    assert scenarios_of(truth, ids("T1")).tolist() == [None]


def test_a_row_may_be_repeated() -> None:
    assert rows(read(f"{HEADER}T1,1,leaked\nT2,0,\nT1,true,leaked\n")) == [
        ("T1", True, "leaked"),
        ("T2", False, None),
    ]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (",1,leaked", "TransactionID is missing"),
        (f"{'x' * 65},1,leaked", "TransactionID has more than 64 characters"),
        ("T1,,leaked", "is_fraud '' is neither 0 nor 1 (or false, true)"),
        ("T1,2,leaked", "is_fraud '2' is neither 0 nor 1 (or false, true)"),
        ("T1,fraud,leaked", "is_fraud 'fraud' is neither 0 nor 1 (or false, true)"),
        (
            "A,0,leaked",
            "'A' contradicts an earlier line; each TransactionID must have one is_fraud and scenario",
        ),
        (
            "A,1,other",
            "'A' contradicts an earlier line; each TransactionID must have one is_fraud and scenario",
        ),
        ("T1,1", "the row has 2 cells, another number than the header"),
    ],
)
def test_a_bad_row_is_named_by_its_line(row: str, problem: str) -> None:
    with pytest.raises(LabelFileError) as caught:
        read(f"{HEADER}A,1,leaked\n{row}\nB,0,normal\n")
    assert str(caught.value) == f"line 3: {problem}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty; it must begin with TransactionID,is_fraud"),
        (
            "TransactionID,label\nT1,1\n",
            "line 1: column is_fraud is missing; the header has TransactionID, label",
        ),
        ("TransactionID,is_fraud,scenario,scenario\n", "line 1: column scenario is named twice"),
        (f'{HEADER}T1,1,a\n"T2,1,a\n', "line 3: not a CSV from here on"),
    ],
)
def test_what_is_no_file_of_labels_is_refused(text: str, message: str) -> None:
    with pytest.raises(LabelFileError) as caught:
        read(text)
    assert message in str(caught.value)


def test_labels_are_laid_beside_the_transactions_in_their_order() -> None:
    truth = read(f"{HEADER}T1,1,leaked\nT2,0,normal\nstray,1,leaked\n")
    transactions = ids("T2", "T9", "T1", "t1", "T2")
    outcome = outcomes_of(truth, transactions)
    assert outcome.dtype == np.int8
    assert outcome.tolist() == [LEGITIMATE, UNKNOWN, FRAUD, UNKNOWN, LEGITIMATE]
    assert scenarios_of(truth, transactions).tolist() == ["normal", None, "leaked", None, "normal"]
    assert without_transaction(truth, transactions) == ["stray"]


def test_without_transactions_every_label_is_left_over() -> None:
    truth = read(f"{HEADER}T1,1,leaked\n")
    assert outcomes_of(truth, ids()).tolist() == []
    assert without_transaction(truth, ids()) == ["T1"]


@given(st.lists(st.lists(st.text(max_size=70), max_size=4), max_size=10))
def test_whatever_the_cells_hold_the_file_is_read_or_refused(cells: list[list[str]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([["TransactionID", "is_fraud", "scenario"], *cells])
    try:
        truth = read(text.getvalue())
    except LabelFileError as error:
        assert str(error).startswith("line ")
    else:
        assert len(truth) <= len(cells)
