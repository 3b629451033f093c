"""A writer in a process of its own, frozen and killed: `python -m tests.support.frozen_writer URL LOCK`.

It says `writer` once it holds the lock; then, for each line that it reads, it commits a row and says so.
"""

from __future__ import annotations

import sys

from sqlalchemy import text
from sqlalchemy.engine import make_url

from fraudstream.store.engine import make_engine
from fraudstream.store.writer import WriterLost, become_writer


def main(url: str, lock_name: str) -> None:
    engine = make_engine(make_url(url), pooled=False)
    writer = become_writer(engine, lock_name, holder="the frozen one", stopped=lambda: False)
    assert writer is not None
    with writer:
        print("writer", flush=True)
        for _ in sys.stdin:
            try:
                with writer.transaction() as connection:
                    connection.execute(text("INSERT INTO written VALUES ('the frozen one')"))
                print("committed", flush=True)
            except WriterLost:
                print("lost", flush=True)
                return


if __name__ == "__main__":
    main(*sys.argv[1:])
