"""What the pipeline is measured against: the same stream, done the obvious way.

Each batch becomes a pandas frame; each of its rows is compared, in a Python loop, with all that is stored of
its user; the result is appended with `to_sql`. No model, no outbox, nothing exactly once.

Run as `python -m benchmarks.naive`, with the pipeline's settings in the environment, until it is killed.
"""

from __future__ import annotations

import fraudstream  # noqa: F401  # before pandas: see there

import pandas as pd  # isort: skip
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from sqlalchemy import Engine, text

from fraudstream.config import child_environment, export, load_settings
from fraudstream.schema import FIELD_NAMES
from fraudstream.stack.spark import connector_jars, spark_variables
from fraudstream.store.engine import make_engine
from fraudstream.streaming import build_session

_MESSAGE = ", ".join(f"{name} {'double' if name == 'Amount' else 'string'}" for name in FIELD_NAMES)
_NEW_TABLE = (
    "CREATE TABLE naive (TransactionID VARCHAR(64), UserID VARCHAR(64), Amount DOUBLE, "
    "Location VARCHAR(128), Time DATETIME, Device VARCHAR(128), Merchant VARCHAR(128), "
    "Is_Fraud VARCHAR(3), INDEX (UserID))"
)
_PAST = "SELECT Amount, Time FROM naive WHERE UserID = :user"
_BATCH = 1_000


def judge(row: pd.Series, past: pd.DataFrame) -> str:
    """YES for a large amount, a burst, or an amount far from the user's own."""
    before = past[past["Time"] < row["Time"]]
    recent = before[before["Time"] >= row["Time"] - pd.Timedelta(minutes=5)]
    usual = before["Amount"].mean() if len(before) else row["Amount"]
    spread = before["Amount"].std() if len(before) > 2 else 0.0
    far = spread > 0 and (row["Amount"] - usual) / spread > 4
    return "YES" if row["Amount"] > 2000 or len(recent) > 4 or far else "NO"


def store_batch(engine: Engine, batch: DataFrame) -> None:
    rows = batch.toPandas().dropna(subset=["TransactionID", "UserID", "Amount", "Time"])
    if rows.empty:
        return
    rows["Time"] = pd.to_datetime(rows["Time"])
    verdicts = []
    pasts: dict[str, pd.DataFrame] = {}
    for _, row in rows.iterrows():
        user = str(row["UserID"])
        if user not in pasts:
            pasts[user] = pd.read_sql(text(_PAST), engine, params={"user": user}, parse_dates=["Time"])
        verdicts.append(judge(row, pasts[user]))
        pasts[user] = pd.concat(
            [pasts[user], row[["Amount", "Time"]].to_frame().T], ignore_index=True
        ).astype({"Amount": float, "Time": "datetime64[ns]"})
    rows.assign(Is_Fraud=verdicts).to_sql("naive", engine, if_exists="append", index=False)


def main() -> None:
    settings = load_settings()
    export(**spark_variables(child_environment(), settings.cache_dir, local=True))
    engine = make_engine(settings.database_url)
    with engine.begin() as connection:
        connection.execute(text(_NEW_TABLE))
    session = build_session(
        master="local[*]",
        driver_memory=settings.spark_driver_memory,
        jars=connector_jars(child_environment(), settings.cache_dir),
    )
    messages = (
        session.readStream.format("kafka")
        .options(**settings.kafka.spark_options())
        .option("subscribe", settings.kafka_topic)
        .option("startingOffsets", "earliest")
        .option("maxOffsetsPerTrigger", _BATCH)
        .load()
        .select(F.from_json(F.col("value").cast("string"), _MESSAGE).alias("row"))
        .select("row.*")
    )
    messages.writeStream.foreachBatch(lambda batch, _: store_batch(engine, batch)).start().awaitTermination()


if __name__ == "__main__":
    main()
