"""A dashboard on a database of many transactions, and what its overview must say of them, by plain SQL."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, text

NOON = datetime.fromisoformat("2026-03-01 12:00:00")


@dataclass(frozen=True)
class Filled:
    """The dashboard's address, and its database to ask for the truth."""

    engine: Engine
    address: str

    def kpis(self, where: str = "TRUE", *, fraud_only: bool = False) -> dict[str, str]:
        """The five numbers by plain SQL over `clean_data`, as they must read; the rate is always of all."""
        location = "IF(Is_Fraud = 'YES', Location, NULL)" if fraud_only else "Location"
        statement = (
            "SELECT COUNT(*), COALESCE(SUM(Is_Fraud = 'YES'), 0), "
            "COALESCE(SUM(IF(Is_Fraud = 'YES', Amount, 0)), 0), "
            f"COUNT(DISTINCT {location}) FROM clean_data WHERE {where}"
        )
        with self.engine.connect() as connection:
            total, frauds, at_risk, locations = connection.execute(text(statement)).one()
        return {
            "total_transactions": f"{frauds if fraud_only else total:,}",
            "frauds": f"{frauds:,}",
            "fraud_rate": f"{100 * frauds / total:.1f}%",
            "amount_at_risk": f"{at_risk:,.2f}",
            "active_locations": f"{locations}",
        }

    def newest(self, where: str = "TRUE") -> list[str]:
        statement = (
            f"SELECT TransactionID FROM clean_data WHERE {where} ORDER BY Time DESC, TransactionID DESC"
        )
        with self.engine.connect() as connection:
            return list(connection.scalars(text(statement)))
