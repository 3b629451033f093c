"""The database driver, made to send each statement as it is.

mysql-connector-python 9.7 looks in every statement, its values included, for the word DELIMITER, which only
command line clients know, and takes the statement apart where it believes to have found it. So a text like
"delimiter x", with a line end behind it, would break the statement that stores it, many of them would take
hours to look through, and any large statement is read once more than it needs to be.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator

from mysql.connector import HAVE_CEXT, cursor
from mysql.connector._scripting import MySQLScriptPartition


def _whole(sql_code: bytes, map_results: bool = False) -> Generator[MySQLScriptPartition]:
    assert not map_results, "several statements at once are not sent"
    yield MySQLScriptPartition(single_stmts=deque(), mappable_stmt=sql_code)


def send_statements_whole() -> None:
    """Have all cursors of this process, in C and in Python, send what they are given."""
    cursor.split_multi_statement = _whole
    if HAVE_CEXT:
        from mysql.connector import cursor_cext

        cursor_cext.split_multi_statement = _whole
