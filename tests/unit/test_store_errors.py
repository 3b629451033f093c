"""Which errors of the database stop the job, on MySQL and on MariaDB, and which it waits out."""

from __future__ import annotations

import mysql.connector
import pytest
from mysql.connector import errorcode
from sqlalchemy.exc import DBAPIError

from fraudstream.store.errors import (
    Permanent,
    permanent_cause,
    permanent_cause_on_executors,
    telling_the_driver,
)


def failed(number: int | None, said: str = "what the server says") -> DBAPIError:
    """What SQLAlchemy raises when the driver reports this number."""
    error = mysql.connector.Error(msg=said, errno=number)
    return DBAPIError("SELECT 1", {}, error)


STAYS = [
    ("the database denies access", errorcode.ER_DBACCESS_DENIED_ERROR),
    ("the database denies access", errorcode.ER_ACCESS_DENIED_ERROR),
    ("the database denies access", errorcode.ER_HOST_NOT_PRIVILEGED),
    ("the database denies access", errorcode.ER_TABLEACCESS_DENIED_ERROR),
    ("the database denies access", errorcode.ER_ACCOUNT_HAS_BEEN_LOCKED),
    ("the database denies access", 4151),  # MariaDB's number for the same
    ("the database denies access", errorcode.ER_MUST_CHANGE_PASSWORD_LOGIN),
    ("takes encrypted connections only", errorcode.ER_SECURE_TRANSPORT_REQUIRED),
    ("the database lacks something", errorcode.ER_BAD_DB_ERROR),
    ("the database lacks something", errorcode.ER_NO_SUCH_TABLE),
    ("the database lacks something", errorcode.ER_BAD_FIELD_ERROR),
    ("the database lacks something", 1932),  # MariaDB: the table is not in the engine
    ("a value does not fit its column", errorcode.ER_DATA_TOO_LONG),
    ("a value does not fit its column", errorcode.ER_WARN_DATA_OUT_OF_RANGE),
    ("a value does not fit its column", errorcode.ER_BAD_NULL_ERROR),
    ("a value does not fit its column", errorcode.ER_CHECK_CONSTRAINT_VIOLATED),
    ("a value does not fit its column", 4025),  # MariaDB's number for the same
    ("raise its max_allowed_packet", errorcode.ER_NET_PACKET_TOO_LARGE),
    ("check its kind and version", errorcode.ER_PARSE_ERROR),
    ("check its kind and version", errorcode.ER_UNKNOWN_COLLATION),
]
PASSES = {
    "deadlock": errorcode.ER_LOCK_DEADLOCK,
    "lock wait": errorcode.ER_LOCK_WAIT_TIMEOUT,
    "disk full": errorcode.OBSOLETE_ER_DISK_FULL,
    "disk full, without waiting": errorcode.ER_DISK_FULL_NOWAIT,
    "table full": errorcode.ER_RECORD_FILE_FULL,
    "error of the storage": errorcode.ER_GET_ERRNO,
    "read-only server": errorcode.ER_OPTION_PREVENTS_STATEMENT,
    "read-only mode": errorcode.ER_READ_ONLY_MODE,
    "read-only engine": errorcode.ER_INNODB_READ_ONLY,
    "read-only transaction": errorcode.ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION,
    "too many connections": errorcode.ER_CON_COUNT_ERROR,
    "too many of this user": errorcode.ER_TOO_MANY_USER_CONNECTIONS,
    "host blocked for a while": errorcode.ER_HOST_IS_BLOCKED,
    "shutting down": errorcode.ER_SERVER_SHUTDOWN,
    "statement interrupted": errorcode.ER_QUERY_INTERRUPTED,
    "connection killed, MariaDB": 1927,
    "statement took too long, MariaDB": 1969,
    "nobody listens": errorcode.CR_CONN_HOST_ERROR,
    "no such host yet": errorcode.CR_UNKNOWN_HOST,
    "server gone": errorcode.CR_SERVER_GONE_ERROR,
    "connection lost": errorcode.CR_SERVER_LOST,
}


@pytest.mark.parametrize(("sentence", "number"), STAYS)
def test_what_stays_as_it_is_stops_the_job_with_what_to_mend_and_the_servers_words(
    sentence: str, number: int
) -> None:
    cause = permanent_cause(failed(number, "Table 't.clean_data' says so"))
    assert cause is not None
    assert sentence in cause
    assert "Table 't.clean_data' says so" in cause


@pytest.mark.parametrize("number", PASSES.values(), ids=PASSES.keys())
def test_what_may_pass_is_tried_again(number: int) -> None:
    assert permanent_cause(failed(number)) is None


def test_an_error_without_a_number_is_tried_again() -> None:
    assert permanent_cause(failed(None)) is None


@pytest.mark.parametrize("said", ["SSL is required but the server does not support it",
                                  "error:0A000086:certificate verify failed"])  # fmt: skip
def test_a_connection_that_is_not_safe_names_the_setting(said: str) -> None:
    cause = permanent_cause(failed(errorcode.CR_SSL_CONNECTION_ERROR, said))
    assert cause is not None and "MYSQL_SSL_CA" in cause


def test_a_permanent_cause_on_an_executor_comes_through_the_text_that_spark_gives() -> None:
    with pytest.raises(Permanent) as raised, telling_the_driver():
        raise failed(errorcode.ER_NO_SUCH_TABLE, "Table 'user_history'\ndoesn't exist")
    trace = f"Traceback\n  File x\nfraudstream.store.errors.Permanent: {raised.value}\n\tat org.apache"
    cause = permanent_cause_on_executors(Exception(trace))
    assert cause is not None and cause.startswith("the database lacks something")
    assert "Table 'user_history' doesn't exist" in cause


def test_a_timestamp_that_spark_cannot_read_says_where_it_is_and_how_to_get_past_it() -> None:
    told = (
        "Job aborted\nCaused by: org.apache.spark.sql.kafka010.KafkaIllegalStateException: Record at "
        "topic t-1 partition 0 offset 7 has timestamp value 1764200000000000000 that overflows"
    )
    cause = permanent_cause_on_executors(Exception(told))
    assert cause is not None and "topic t-1 partition 0 offset 7: its timestamp 1764200000000000000" in cause
    assert "MAX_RECORDS_PER_BATCH=1" in cause and "offsets accept" in cause


def test_what_may_pass_stays_the_drivers_error_on_an_executor() -> None:
    with pytest.raises(DBAPIError), telling_the_driver():
        raise failed(errorcode.ER_LOCK_DEADLOCK)
    assert permanent_cause_on_executors(Exception("anything else")) is None
