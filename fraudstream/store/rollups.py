"""What is counted beforehand, so that the dashboard's reads do not grow with the rows stored.

Each batch adds its stored rows in its own transaction: the sums always equal those over all of `clean_data`.
A missing name is "" here. Months, days and hours are those of Time, local time in the setting TZ.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection

from fraudstream.schema import KNOWN_NAMES
from fraudstream.store.bulk import add_to_counters
from fraudstream.store.tables import HOURS_OF_DAY, rollup_daily, rollup_hourly, rollup_monthly, rollup_total

_WHO = (*KNOWN_NAMES, "Is_Fraud")


def add_to_rollups(connection: Connection, stored: pa.Table) -> None:
    """Count the rows of a batch that are stored: columns Time, Amount, Location, Device, Merchant and
    Is_Fraud of JUDGED_ARROW. In the batch's transaction, once."""
    hourly = _hourly(stored)
    hours = hourly["hour"]
    days = {"day": pc.floor_temporal(hours, unit="day")}
    months = {"month": pc.floor_temporal(hours, unit="month"), "weekday": pc.day_of_week(hours)}
    daily = _with_hours_of_day(hourly, days)
    add_to_counters(connection, rollup_hourly, hourly)
    add_to_counters(connection, rollup_daily, daily)
    add_to_counters(connection, rollup_monthly, _with_hours_of_day(hourly, months))
    nameless = daily.drop_columns(list(KNOWN_NAMES))
    add_to_counters(connection, rollup_total, _added_up(nameless, ["day", "Is_Fraud"]))


def _hourly(stored: pa.Table) -> pa.Table:
    """hour, Location, Device, Merchant, Is_Fraud -> transactions, amount."""
    keyed = stored.append_column("hour", pc.floor_temporal(stored["Time"], unit="hour"))
    for name in KNOWN_NAMES:
        column = pc.fill_null(keyed[name], "")
        keyed = keyed.set_column(keyed.column_names.index(name), name, column)
    sums = keyed.group_by(["hour", *_WHO]).aggregate([("Amount", "sum"), ("Amount", "count")])
    return sums.rename_columns({"Amount_sum": "amount", "Amount_count": "transactions"})


def _with_hours_of_day(hourly: pa.Table, when: dict[str, pa.ChunkedArray]) -> pa.Table:
    """The columns of `when`, Location, Device, Merchant, Is_Fraud -> transactions, amount and those of the 24
    counts, by hour of the day, that the batch has any of."""
    hour_of_day = pc.hour(hourly["hour"])
    present = {HOURS_OF_DAY[hour]: hour for hour in pc.unique(hour_of_day).to_pylist()}
    columns = when | {
        name: pc.if_else(pc.equal(hour_of_day, hour), hourly["transactions"], 0)
        for name, hour in present.items()
    }
    keyed = hourly.drop_columns(["hour"])
    for name, column in columns.items():
        keyed = keyed.append_column(name, column)
    return _added_up(keyed, [*when, *_WHO])


def _added_up(rows: pa.Table, key: list[str]) -> pa.Table:
    """A row for each key; all other columns are added up."""
    added = [name for name in rows.column_names if name not in key]
    sums = rows.group_by(key).aggregate([(name, "sum") for name in added])
    return sums.rename_columns({f"{name}_sum": name for name in added})
