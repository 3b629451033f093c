"""What the server's error numbers mean for the pipeline: try again, or stop and say what to mend."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError

NO_SUCH_THREAD = 1094

# Numbers are those of the MySQL Server Error Reference; MariaDB's own follow where they differ.
ACCESS_DENIED = {1044, 1045, 1130, 1142, 1143, 1227, 1370, 1698, 1820, 1862, 3118}
MISSING = {1049, 1054, 1146, 1305}
_UNFIT_VALUE = {1048, 1264, 1265, 1292, 1366, 1406, 3819, 4025}


def errno(error: DBAPIError) -> int | None:
    return getattr(error.orig, "errno", None)


def permanent_cause(error: DBAPIError) -> str | None:
    """What must be mended before trying again makes sense, or None when time may help.

    Access that is denied, a database, table or column that is missing, and a value that does not fit its
    column stay as they are; a lost connection, a deadlock, a full disk or a read-only server may pass.
    """
    number = errno(error)
    if number in ACCESS_DENIED:
        return f"the database denies access: check MYSQL_USER, MYSQL_PASSWORD and their rights ({error.orig})"
    if number in MISSING:
        return f"the database lacks something: check MYSQL_URL and the tables ({error.orig})"
    if number in _UNFIT_VALUE:
        return f"a value does not fit its column ({error.orig})"
    return None
