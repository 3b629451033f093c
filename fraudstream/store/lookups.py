"""Look-ups in `clean_data` that the executors make while they judge a batch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from sqlalchemy import Engine, select
from sqlalchemy.engine import URL

from fraudstream.schema import FIELD_NAMES
from fraudstream.store.engine import make_engine
from fraudstream.store.tables import clean_data

_IDS_PER_QUERY = 2_000


@dataclass(frozen=True)
class StoredTransactions:
    """Finds stored transactions by id. It is sent to the executors and connects there, once a process."""

    url: URL

    def __call__(self, ids: list[str]) -> dict[str, tuple[object, ...]]:
        """The seven stored values, in FIELD_NAMES' order, of those of `ids` that are stored."""
        unique = sorted(set(ids))
        query = select(*(clean_data.c[name] for name in FIELD_NAMES))
        found: dict[str, tuple[object, ...]] = {}
        with _engine(self.url).connect() as connection:
            for start in range(0, len(unique), _IDS_PER_QUERY):
                wanted = unique[start : start + _IDS_PER_QUERY]
                rows = connection.execute(query.where(clean_data.c.TransactionID.in_(wanted)))
                found.update((row.TransactionID, tuple(row)) for row in rows)
        return found


@lru_cache(maxsize=4)
def _engine(url: URL) -> Engine:
    return make_engine(url)
