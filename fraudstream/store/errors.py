"""What the server's error numbers mean for the pipeline: try again, or stop and say what to mend."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError

NO_SUCH_THREAD = 1094

# Numbers are those of the MySQL Server Error Reference; MariaDB's own follow where they differ.
ACCESS_DENIED = {1044, 1045, 1130, 1142, 1143, 1227, 1370, 1698, 1820, 1862, 3118}
MISSING = {1049, 1054, 1146, 1305}
# The driver's two forms have no number of their own for it.
_TLS_REFUSED = re.compile("certificate.verify.failed|SSL is required|Invalid CA Certificate", re.IGNORECASE)
_UNFIT_VALUE = {1048, 1264, 1265, 1292, 1366, 1406, 3819, 4025}


def errno(error: DBAPIError) -> int | None:
    return getattr(error.orig, "errno", None)


def tls_refused(error: DBAPIError) -> bool:
    """Whether the server has no TLS, or no certificate that holds, where MYSQL_SSL_CA asks for both."""
    return _TLS_REFUSED.search(str(error.orig)) is not None


def permanent_cause(error: DBAPIError) -> str | None:
    """What must be mended before trying again makes sense, or None when time may help.

    Access that is denied, a certificate that does not hold, a database, table or column that is missing, and
    a value that does not fit its column stay as they are; a lost connection, a deadlock, a full disk or a
    read-only server may pass.
    """
    number = errno(error)
    if tls_refused(error):
        return (
            "the connection to the database is not safe: check MYSQL_SSL_CA, and that MYSQL_URL has the name "
            f"for which the server's certificate was made ({error.orig})"
        )
    if number in ACCESS_DENIED:
        return f"the database denies access: check MYSQL_USER, MYSQL_PASSWORD and their rights ({error.orig})"
    if number in MISSING:
        return f"the database lacks something: check MYSQL_URL and the tables ({error.orig})"
    if number in _UNFIT_VALUE:
        return f"a value does not fit its column ({error.orig})"
    return None


class OnExecutors(Exception):
    """A permanent cause, met by an executor. Spark gives the driver no more than its text."""


# A stored history of another version is as permanent.
_TOLD_BY_SPARK = re.compile(rf"\b(?:{OnExecutors.__name__}|HistoryError): (.+)")


@contextmanager
def telling_the_driver() -> Iterator[None]:
    """For the block, on an executor: an error of the database that only a person can mend can be told from
    others by `permanent_cause_on_executors`."""
    try:
        yield
    except DBAPIError as error:
        if cause := permanent_cause(error):
            raise OnExecutors(" ".join(cause.split())) from None
        raise


def permanent_cause_on_executors(told_by_spark: Exception) -> str | None:
    """As `permanent_cause`, of what Spark raises when an executor has failed."""
    found = _TOLD_BY_SPARK.search(str(told_by_spark))
    return found[1] if found else None
