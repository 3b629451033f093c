"""The queue of alerts as a table and as a CSV, and what is known of an alert as a person reads it."""

from __future__ import annotations

import re
from datetime import datetime
from zoneinfo import ZoneInfo

import pandas as pd

from fraudstream.reviews import REVIEW, Review, Word
from fraudstream.rules import code_in_words, codes, each_in_words, in_words
from fraudstream.views.texts import local, name_or_missing

STATES = {"new": "New", "fraud": "Confirmed fraud", "legitimate": "Legitimate"}
NO_ALERTS = "**No alert yet.** A flagged transaction appears here by itself."
NONE_SO_FAR = "**None of the alerts looked at so far matches.** Older looks further back."
NO_MATCH = "**No alert matches.** Choose another state or reason, or search for something else."
ALL_REVIEWED = "**Nothing to review.** All alerts have an outcome; new ones appear here by themselves."

# Where a spreadsheet sees a formula begin: at a cell's start, and behind what separates cells in some
# countries, for quotes do not hold there. In the widths that East Asian ones accept, too.
_FORMULA_START = re.compile(r"(^|[;\t\r\n])(?=[ \"]*[=+\-@\t\r\n＝＋－＠])")


def queue_table(rows: pd.DataFrame) -> pd.DataFrame:
    """`rows` as of reads.queue, with headings; of the reasons what their codes stand for."""
    return pd.DataFrame(
        {
            "State": rows["state"].map(STATES),
            "Time": rows["Time"].astype("datetime64[s]"),
            "Amount": rows["Amount"].astype(float),
            "Score": rows["score"].astype(float),
            "User": rows["UserID"],
            "Reasons": [", ".join(map(code_in_words, codes(reasons))) for reasons in rows["reasons"]],
            "Location": rows["Location"].map(name_or_missing),
            "Transaction": rows["TransactionID"],
        }
    )


def queue_csv(rows: pd.DataFrame) -> bytes:
    """The rows with a header, UTF-8 with a byte order mark; no cell is a formula to a spreadsheet."""
    table = pd.DataFrame(
        {
            **{name: rows[name] for name in ("TransactionID", "UserID")},
            "Amount": [f"{amount:.2f}" for amount in rows["Amount"]],
            "Location": rows["Location"],
            "Time": rows["Time"].astype("datetime64[s]").astype(str),
            "Device": rows["Device"],
            "Merchant": rows["Merchant"],
            "Score": [f"{score:.4f}" for score in rows["score"]],
            "Reasons": [in_words(reasons) for reasons in rows["reasons"]],
            "State": rows["state"].map(STATES),
            "Said by": [said_by(source, by) for source, by in zip(rows["source"], rows["by"], strict=True)],
            "Note": rows["note"],
        }
    )
    return table.fillna("").map(no_formula).to_csv(index=False, lineterminator="\r\n").encode("utf-8-sig")


def no_formula(cell: str) -> str:
    """The cell with an apostrophe before all that a spreadsheet would compute."""
    return _FORMULA_START.sub(r"\1'", cell)


def said_by(source: str | None, by: str | None) -> str:
    """Who says it: the analyst, or the import's source."""
    if source is None:
        return ""
    return (by or "") if source == REVIEW else f"label source {source}"


def word_text(word: Word | None) -> str:
    """What is known of a transaction, and since when."""
    if word is None:
        return "New: nobody has reviewed it"
    return f"{STATES[word.outcome]}, says {said_by(word.source, word.by)}, {word.known_at:%Y-%m-%d %H:%M}"


def review_text(review: Review, zone: ZoneInfo) -> str:
    """One step of a review's history."""
    said = STATES[review.outcome] if review.outcome else "Review taken back"
    note = f": {review.note}" if review.note else ""
    return f"{local(review.recorded_at, zone):%Y-%m-%d %H:%M} {review.reviewer}: {said}{note}"


def alert_text(row: pd.Series) -> str:
    """One row of reads.queue: which transaction, when, whose, where, and its score."""
    places = ", ".join(name_or_missing(row[name]) for name in ("Location", "Device", "Merchant"))
    return (
        f"Transaction {row['TransactionID']}\n"
        f"{row['Time']:%Y-%m-%d %H:%M:%S}, user {row['UserID']}\n"
        f"{places}\n"
        f"Score {row['score']:.2f}"
    )


def reasons_text(reasons: str | None) -> str:
    """A line for each reason, with its numbers."""
    return "\n".join(f"• {reason}" for reason in each_in_words(reasons)) or "Not flagged"


def newer_text(number: int, most: int) -> str:
    if number == 0:
        return "No newer alerts"
    if number == 1:
        return "Show 1 newer alert"
    return f"Show {number:,}{' and more' if number >= most else ''} newer alerts"


def csv_name(now: datetime) -> str:
    return f"alerts-{now:%Y%m%d-%H%M%S}.csv"
