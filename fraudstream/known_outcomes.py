"""What the running job knows of confirmed outcomes: the labels, joined with their transactions.

It follows the labels table by its changes and the batches by what they store, so that merchant risk costs
a batch no join. Values are immutable: each step gives a new one, or the same where nothing changed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fraudstream.history import NO_NAME, wide_name_codes
from fraudstream.merchant_risk import Outcomes

# One label as it was changed: `fraud` and `withdrawn` (the source says nothing any more) are booleans,
# `known_at` and `Time` are local time; Merchant and Time are missing while its transaction is not stored.
CHANGE_COLUMNS = (
    "TransactionID",
    "source",
    "change_id",
    "fraud",
    "withdrawn",
    "known_at",
    "Merchant",
    "Time",
)


@dataclass(frozen=True)
class KnownOutcomes:
    """The labels so far, one row for each transaction and source.

    Columns TransactionID, source, change_id, fraud, withdrawn, known_at_s, and of the transaction: `stored`,
    and where that is true `merchant` (its wide code) and `time_s`. Times in seconds since 1970-01-01, local
    time.
    """

    labels: pd.DataFrame

    @staticmethod
    def none() -> KnownOutcomes:
        return KnownOutcomes(_coded(pd.DataFrame(columns=list(CHANGE_COLUMNS))))

    @property
    def last_change(self) -> int:
        return int(self.labels["change_id"].max()) if len(self.labels) else -1

    @property
    def some_wait(self) -> bool:
        """Whether there are labels whose transaction is not stored."""
        return not (self.labels["stored"] | self.labels["withdrawn"]).all()

    def followed(self, changes: pd.DataFrame, last_batch: pa.Table) -> KnownOutcomes:
        """With `changed`, and then `arrived`.

        In this order: the commit of the last batch may not have ended when the changes were read, which then
        hold a label and not yet its transaction.
        """
        known = self.changed(changes)
        return known.arrived(last_batch) if known.some_wait else known

    def changed(self, changes: pd.DataFrame) -> KnownOutcomes:
        """With the labels that were added or changed since: rows of CHANGE_COLUMNS."""
        if changes.empty:
            return self
        joined = pd.concat([self.labels, _coded(changes)], ignore_index=True)
        return KnownOutcomes(
            joined.drop_duplicates(["TransactionID", "source"], keep="last", ignore_index=True)
        )

    def arrived(self, stored: pa.Table) -> KnownOutcomes:
        """With the transactions that a batch is storing (columns TransactionID, Merchant, Time)."""
        waiting = self.labels.loc[~self.labels["stored"], "TransactionID"]
        met = stored.filter(pc.is_in(stored["TransactionID"], value_set=pa.array(waiting, pa.string())))
        if len(met) == 0:
            return self
        facts = pd.DataFrame(
            {"merchant": wide_name_codes(met["Merchant"]), "time_s": _seconds(met["Time"].to_pandas())},
            index=met["TransactionID"].to_pandas(),
        )
        labels = self.labels.copy()
        rows = labels["TransactionID"].isin(facts.index)
        ids = labels.loc[rows, "TransactionID"]
        for column in facts.columns:
            labels.loc[rows, column] = facts[column].loc[ids].to_numpy()
        labels.loc[rows, "stored"] = True
        return KnownOutcomes(labels)

    def outcomes(self) -> Outcomes:
        """One outcome for each labelled transaction that is stored and names its merchant."""
        said = self.labels[self.labels["stored"] & ~self.labels["withdrawn"]]
        usable = last_words(said[said["merchant"] != NO_NAME])
        return Outcomes.of(
            usable["merchant"].to_numpy(np.uint64),
            usable["time_s"].to_numpy(np.int64),
            usable["known_at_s"].to_numpy(np.int64),
            usable["fraud"].to_numpy(np.bool_),
        )


def last_words(labels: pd.DataFrame) -> pd.DataFrame:
    """One row for each TransactionID: of several sources the word that became known last; where two did at
    the same time, fraud. Columns TransactionID, known_at_s, fraud and any others."""
    in_order = labels.sort_values(["TransactionID", "known_at_s", "fraud"], kind="stable")
    return in_order.drop_duplicates("TransactionID", keep="last")


def _coded(changes: pd.DataFrame) -> pd.DataFrame:
    stored = changes["Time"].notna().to_numpy(np.bool_)
    merchants = pa.array(changes["Merchant"], pa.string(), from_pandas=True)
    return pd.DataFrame(
        {
            "TransactionID": changes["TransactionID"].astype(object),
            "source": changes["source"].astype(object),
            "change_id": changes["change_id"].astype(np.int64),
            "fraud": changes["fraud"].astype(np.bool_),
            "withdrawn": changes["withdrawn"].astype(np.bool_),
            "known_at_s": _seconds(changes["known_at"]),
            "stored": stored,
            "merchant": wide_name_codes(pa.chunked_array([merchants])),
            "time_s": np.where(stored, _seconds(changes["Time"]), 0),
        }
    )


def _seconds(times: pd.Series) -> NDArray[np.int64]:
    return pd.to_datetime(times).to_numpy(dtype="datetime64[s]").astype(np.int64)
