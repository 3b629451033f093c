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
    add_to_counters(connection, rollup_hourly, hourly)
    add_to_counters(connection, rollup_daily, _with_hours_of_day(hourly, days, _WHO))
    add_to_counters(connection, rollup_monthly, _with_hours_of_day(hourly, months, _WHO))
    add_to_counters(connection, rollup_total, _with_hours_of_day(hourly, days, ("Is_Fraud",)))


def _hourly(stored: pa.Table) -> pa.Table:
    """hour, Location, Device, Merchant, Is_Fraud -> transactions, amount."""
    keyed = stored.append_column("hour", pc.floor_temporal(stored["Time"], unit="hour"))
    for name in KNOWN_NAMES:
        column = pc.fill_null(keyed[name], "")
        keyed = keyed.set_column(keyed.column_names.index(name), name, column)
    sums = keyed.group_by(["hour", *_WHO]).aggregate([("Amount", "sum"), ("Amount", "count")])
    return sums.rename_columns({"Amount_sum": "amount", "Amount_count": "transactions"})


def _with_hours_of_day(hourly: pa.Table, when: dict[str, pa.ChunkedArray], who: tuple[str, ...]) -> pa.Table:
    """The columns of `when` and those named in `who` -> transactions, amount and those of the 24 counts, by
    hour of the day, that the batch has any of."""
    hour_of_day = pc.hour(hourly["hour"])
    present = {HOURS_OF_DAY[hour]: hour for hour in pc.unique(hour_of_day).to_pylist()}
    columns = when | {
        name: pc.if_else(pc.equal(hour_of_day, hour), hourly["transactions"], 0)
        for name, hour in present.items()
    }
    keyed = hourly
    for name, column in columns.items():
        keyed = keyed.append_column(name, column)
    added = ["transactions", "amount", *present]
    sums = keyed.group_by([*when, *who]).aggregate([(name, "sum") for name in added])
    return sums.rename_columns({f"{name}_sum": name for name in added})
