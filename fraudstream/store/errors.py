"""What the server's error numbers mean for the pipeline: try again, or stop and say what to mend."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from mysql.connector import errorcode
from sqlalchemy.exc import DBAPIError

NO_SUCH_THREAD = errorcode.ER_NO_SUCH_THREAD
LOCK_TROUBLE = {errorcode.ER_LOCK_WAIT_TIMEOUT, errorcode.ER_LOCK_DEADLOCK}

# The numbers up to 1899 are common to MySQL and MariaDB. These are MariaDB's own.
_TABLE_NOT_IN_ENGINE = 1932
_CONSTRAINT_FAILED = 4025
_USER_IS_BLOCKED = 4150
_ACCOUNT_IS_LOCKED = 4151

ACCESS_DENIED = {
    errorcode.ER_DBACCESS_DENIED_ERROR,
    errorcode.ER_ACCESS_DENIED_ERROR,
    errorcode.ER_HOST_NOT_PRIVILEGED,
    errorcode.ER_TABLEACCESS_DENIED_ERROR,
    errorcode.ER_COLUMNACCESS_DENIED_ERROR,
    errorcode.ER_SPECIFIC_ACCESS_DENIED_ERROR,
    errorcode.ER_PROCACCESS_DENIED_ERROR,
    errorcode.ER_ACCESS_DENIED_NO_PASSWORD_ERROR,
    errorcode.ER_MUST_CHANGE_PASSWORD,
    errorcode.ER_MUST_CHANGE_PASSWORD_LOGIN,
    errorcode.ER_ACCOUNT_HAS_BEEN_LOCKED,
    errorcode.ER_DB_ACCESS_DENIED,
    errorcode.ER_USER_ACCESS_DENIED_FOR_USER_ACCOUNT_BLOCKED_BY_PASSWORD_LOCK,
    _USER_IS_BLOCKED,
    _ACCOUNT_IS_LOCKED,
}
MISSING = {
    errorcode.ER_BAD_DB_ERROR,
    errorcode.ER_BAD_FIELD_ERROR,
    errorcode.ER_NO_SUCH_TABLE,
    errorcode.ER_SP_DOES_NOT_EXIST,
    errorcode.ER_KEY_DOES_NOT_EXITS,
    errorcode.ER_TABLESPACE_MISSING,
    errorcode.ER_TABLESPACE_DISCARDED,
    _TABLE_NOT_IN_ENGINE,
}
_UNFIT_VALUE = {
    errorcode.ER_BAD_NULL_ERROR,
    errorcode.ER_NO_DEFAULT_FOR_FIELD,
    errorcode.ER_WARN_DATA_OUT_OF_RANGE,
    errorcode.ER_DATA_OUT_OF_RANGE,
    errorcode.WARN_DATA_TRUNCATED,
    errorcode.ER_TRUNCATED_WRONG_VALUE,
    errorcode.ER_TRUNCATED_WRONG_VALUE_FOR_FIELD,
    errorcode.ER_DATA_TOO_LONG,
    errorcode.ER_CHECK_CONSTRAINT_VIOLATED,
    _CONSTRAINT_FAILED,
}
_ENCRYPTION_REQUIRED = {errorcode.ER_SECURE_TRANSPORT_REQUIRED}
_UNFIT_STATEMENT = {errorcode.ER_NET_PACKET_TOO_LARGE, errorcode.CR_NET_PACKET_TOO_LARGE}
_UNFIT_SERVER = {
    errorcode.ER_PARSE_ERROR,
    errorcode.ER_UNKNOWN_CHARACTER_SET,
    errorcode.ER_UNKNOWN_SYSTEM_VARIABLE,
    errorcode.ER_WRONG_VALUE_FOR_VAR,
    errorcode.ER_NOT_SUPPORTED_YET,
    errorcode.ER_NOT_SUPPORTED_AUTH_MODE,
    errorcode.ER_UNKNOWN_COLLATION,
    errorcode.ER_UNKNOWN_STORAGE_ENGINE,
    errorcode.ER_PLUGIN_IS_NOT_LOADED,
    errorcode.CR_AUTH_PLUGIN_CANNOT_LOAD,
    errorcode.CR_AUTH_PLUGIN_ERR,
}
_WHAT_TO_MEND = (
    (ACCESS_DENIED, "the database denies access: check MYSQL_USER, MYSQL_PASSWORD and their rights"),
    (_ENCRYPTION_REQUIRED, "the database takes encrypted connections only: set MYSQL_SSL_CA"),
    (MISSING, "the database lacks something: check MYSQL_URL and the tables"),
    (_UNFIT_VALUE, "a value does not fit its column"),
    (_UNFIT_STATEMENT, "a statement is longer than the server takes: raise its max_allowed_packet"),
    (_UNFIT_SERVER, "the database server cannot do what it is asked: check its kind and version"),
)
# The driver's two forms have no number of their own for it.
_TLS_REFUSED = re.compile("certificate.verify.failed|SSL is required|Invalid CA Certificate", re.IGNORECASE)


def errno(error: DBAPIError) -> int | None:
    return getattr(error.orig, "errno", None)


def tls_refused(error: DBAPIError) -> bool:
    """Whether the server has no TLS, or no certificate that holds, where MYSQL_SSL_CA asks for both."""
    return _TLS_REFUSED.search(str(error.orig)) is not None


def permanent_cause(error: DBAPIError) -> str | None:
    """What must be mended before trying again makes sense, or None when time may help.

    Access that is denied, a certificate that does not hold, a database, table or column that is missing, a
    value that does not fit its column, and a server of the wrong kind stay as they are. A lost connection, a
    deadlock, a lock that was not free in time, a full disk or a read-only server may pass.
    """
    if tls_refused(error):
        return (
            "the connection to the database is not safe: check MYSQL_SSL_CA, and that MYSQL_URL has the name "
            f"for which the server's certificate was made ({error.orig})"
        )
    number = errno(error)
    causes = (sentence for numbers, sentence in _WHAT_TO_MEND if number in numbers)
    return next((f"{sentence} ({error.orig})" for sentence in causes), None)


class Permanent(Exception):
    """A permanent cause, met while a batch is judged. Of an executor's, the driver gets only the text."""


# A stored history of another version is as permanent.
_TOLD_BY_SPARK = re.compile(rf"\b(?:{Permanent.__name__}|HistoryError): (.+)")
_UNREADABLE_TIMESTAMP = re.compile(
    r"KafkaIllegalStateException: .*?Record at (.+?) has timestamp value (\S+)"
)


@contextmanager
def telling_the_driver() -> Iterator[None]:
    """For the block: an error of the database that only a person can mend becomes Permanent, which
    `permanent_cause_on_executors` finds again in what Spark tells of an executor."""
    try:
        yield
    except DBAPIError as error:
        if cause := permanent_cause(error):
            raise Permanent(" ".join(cause.split())) from None
        raise


def permanent_cause_on_executors(told_by_spark: Exception) -> str | None:
    """As `permanent_cause`, of what Spark raises when an executor has failed."""
    if found := _UNREADABLE_TIMESTAMP.search(str(told_by_spark)):
        return (
            f"Spark cannot read the record at {found[1]}: its timestamp {found[2]} is not in milliseconds. "
            "Mend its producer; start the job with MAX_RECORDS_PER_BATCH=1 until it stops here again, which "
            "takes what comes before; delete the partition's records up to and with this one "
            "(kafka-delete-records); then `python -m fraudstream offsets accept`"
        )
    found = _TOLD_BY_SPARK.search(str(told_by_spark))
    return found[1] if found else None
