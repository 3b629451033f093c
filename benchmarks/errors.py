"""Why the bench could not measure."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

_TOLD_CHARACTERS = 600


class BenchFailed(Exception):
    """A phase could not be measured; the text says why."""


@contextmanager
def told_in_a_line() -> Iterator[None]:
    """What a program or the database answers in place of its work is raised as BenchFailed."""
    try:
        yield
    except subprocess.CalledProcessError as error:
        raise BenchFailed(f"{error} {_end(error.stderr)}".rstrip()) from error
    except SQLAlchemyError as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        first_line = str(cause).partition("\n")[0]
        raise BenchFailed(f"the bench's database: {first_line}") from error


def _end(stderr: bytes | None) -> str:
    """The end of what a program said, in one line."""
    words = (stderr or b"").decode(errors="replace").split()
    return " ".join(words)[-_TOLD_CHARACTERS:]
