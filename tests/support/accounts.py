"""The database accounts, made as the project's documents say."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from sqlalchemy import Engine

from fraudstream.config import PROJECT_DIR

PIPELINE, DASHBOARD = "fraudstream", "fraudstream_dashboard"


def statements_of_readme() -> list[str]:
    """The SQL that the README gives to who has a server of their own."""
    (block,) = re.findall(r"^```sql\n(CREATE DATABASE.*?)^```", _readme(), re.MULTILINE | re.DOTALL)
    return _statements(block)


def statements_of_compose(
    folder: Path, database: str, *, pipeline: tuple[str, str], dashboard: tuple[str, str]
) -> list[str]:
    """What docker/mysql-accounts.sh gives to MySQL for these (name, password), caught by a stand-in."""
    stand_in = folder / "mysql"
    stand_in.write_text('#!/bin/sh\ncat > "$CAUGHT"\n')
    stand_in.chmod(0o755)
    caught = folder / "caught.sql"
    environment = {
        "PATH": f"{folder}{os.pathsep}{os.defpath}",
        "CAUGHT": str(caught),
        "MYSQL_ROOT_PASSWORD": "root",
        "MYSQL_DATABASE": database,
        "PIPELINE_USER": pipeline[0],
        "PIPELINE_PASSWORD": pipeline[1],
        "DASHBOARD_USER": dashboard[0],
        "DASHBOARD_PASSWORD": dashboard[1],
    }
    subprocess.run(
        ["bash", PROJECT_DIR / "docker" / "mysql-accounts.sh"], env=environment, check=True, timeout=30
    )
    return _statements(caught.read_text())


def create_accounts(
    admin: Engine,
    database: str,
    *,
    pipeline: str,
    dashboard: str,
    users: tuple[str, str] = (PIPELINE, DASHBOARD),
) -> None:
    """Run the README's statements for this database, these passwords and users; the database is made anew."""
    execute(admin, f"DROP DATABASE IF EXISTS `{database}`")
    meant = {
        "'choose one'": f"'{pipeline}'",
        "'choose another'": f"'{dashboard}'",
        f"'{PIPELINE}'": f"'{users[0]}'",
        f"'{DASHBOARD}'": f"'{users[1]}'",
    }
    names = re.compile("|".join(meant))
    for statement in statements_of_readme():
        in_database = re.sub(r"\btransactions\b", database, statement)
        execute(admin, names.sub(lambda found: meant[found[0]], in_database))


def execute(engine: Engine, *statements: str) -> None:
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
        connection.commit()


def _readme() -> str:
    return (PROJECT_DIR / "README.md").read_text(encoding="utf-8")


def _statements(block: str) -> list[str]:
    code = "\n".join(line for line in block.splitlines() if not line.startswith("--"))
    return [statement.strip() for statement in code.split(";") if statement.strip()]
