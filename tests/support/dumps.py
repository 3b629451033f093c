"""Dumps of a database, kept as a second database on the same server, and restored from there."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url

from fraudstream.store.tables import metadata


@dataclass(frozen=True)
class Dump:
    """The rows of all tables of `engine`'s database as of one moment, in the empty database `kept_in`."""

    engine: Engine
    kept_in: str

    def __post_init__(self) -> None:
        with self.engine.begin() as connection:
            for table in metadata.sorted_tables:
                connection.execute(text(f"CREATE TABLE {self._copy(table.name)} LIKE `{table.name}`"))
        with self.engine.begin() as connection:
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            for table in metadata.sorted_tables:
                connection.execute(text(f"INSERT INTO {self._copy(table.name)} SELECT * FROM `{table.name}`"))

    def restore(self) -> None:
        """Put the rows back as they were, all at once."""
        with self.engine.begin() as connection:
            for table in metadata.sorted_tables:
                connection.execute(text(f"DELETE FROM `{table.name}`"))
                connection.execute(text(f"INSERT INTO `{table.name}` SELECT * FROM {self._copy(table.name)}"))

    def _copy(self, table: str) -> str:
        return f"`{make_url(self.kept_in).database}`.`{table}`"
