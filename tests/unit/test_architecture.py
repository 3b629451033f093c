"""The rules of who may import what, held by reading the source. Each rule is shown to catch an offender."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fraudstream.config import PROJECT_DIR

PACKAGE = "fraudstream"
MIGRATIONS = f"{PACKAGE}.store.migrations"

ENTRIES = frozenset(
    {"producer_from_csv", "data_cleaning", "dashboard", "train_fraud_model", "__main__", "demo"}
)
EDGES = frozenset({"publisher", "topic", "store", "alerts", "stack"})
PURE = frozenset(
    {
        "parsing",
        "cleaning",
        "scoring",
        "uncommitted",
        "batch_limit",
        "labels",
        "reviews",
        "stored",
        "known_outcomes",
        "rules",
        "views",
        "simulator",
        "resume",
    }
    | {"features", "feature_record", "history", "merchant_risk", "geography", "kafka_access"}
    | {"model", "model_store", "training", "report", "evaluation", "periods"}
)
# Part -> the parts that it may import besides itself. A part is a module or a package of `fraudstream`,
# or an entry script. Imports point one way: entry -> streaming -> edges -> pure -> schema.
MAY_IMPORT: dict[str, frozenset[str]] = {
    "schema": frozenset(),
    "config": frozenset({"kafka_access"}),
    "stop_signals": frozenset(),
    "__init__": frozenset(),
    **dict.fromkeys(PURE, PURE | {"schema"}),
    **dict.fromkeys(EDGES, PURE | {"schema"}),
    "alerting": PURE | {"schema", "alerts", "store"},
    "executors": PURE | {"schema"},
    "executor_daemon": {"executors", "store"},
    "pending_commit": frozenset(),
    "streaming": PURE | EDGES | {"schema", "executors", "pending_commit"},
    "rehearsal": PURE | EDGES | {"schema", "config", "executors", "streaming"},
    "offline": PURE | {"schema", "publisher"},
    "training_history": PURE | {"schema", "store", "offline"},
    "training_run": PURE | {"training_history"},
    "cli": PURE | EDGES | {"schema", "config", "stop_signals", "alerting"},
    **dict.fromkeys(
        ENTRIES,
        PURE
        | EDGES
        | {
            "schema",
            "config",
            "stop_signals",
            "alerting",
            "cli",
            "streaming",
            "offline",
            "training_history",
            "training_run",
            "demo",
        },
    ),
}

# Library -> the parts, or modules where a dot is in it, that alone may import it.
ONLY_IN: dict[str, frozenset[str]] = {
    "pyspark": frozenset({"executor_daemon", "executors", "streaming"}),
    "py4j": frozenset({"streaming"}),
    "streamlit": frozenset({"dashboard"}),
    "smtplib": frozenset({"alerts.smtp"}),
    "alembic": frozenset({"store"}),
    "mysql": frozenset({"store", "stack.mysql"}),  # the stack asks only whether the server answers
    "_mysql_connector": frozenset({"__init__", "store"}),
    "kafka": frozenset({"publisher", "topic", "stack", "producer_from_csv"}),
}

# What others than the store may know of SQLAlchemy: addresses, types and errors, no statements.
SQLALCHEMY_TYPES = frozenset({"Connection", "Engine", "URL", "make_url", "ArgumentError", "DBAPIError"})
SQL = re.compile(
    r"\s*(SELECT|INSERT (INTO|IGNORE)|REPLACE INTO|UPDATE \S+ SET|DELETE FROM|KILL "
    r"|(CREATE|ALTER|DROP|TRUNCATE) TABLE)"
)

ENVIRONMENT = frozenset({"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"})
AT_WORK = frozenset(
    {
        "open",
        "print",
        "read_text",
        "read_bytes",
        "write_text",
        "mkdir",
        "connect",
        "create_engine",
        "make_engine",
        "load_settings",
        "Settings",
        "load_rules",
        "getOrCreate",
        "Popen",
        "run",
        "basicConfig",
        "now",
        "signal",
    }
)


@dataclass(frozen=True)
class Module:
    """A source file: `name` as it is imported."""

    name: str
    tree: ast.Module

    @property
    def part(self) -> str:
        return part_of(self.name)

    @property
    def within(self) -> str:
        """The dotted name inside the package; that of an entry script is its own."""
        return self.name.removeprefix(f"{PACKAGE}.")


def part_of(name: str) -> str:
    """`fraudstream.store.reads` -> `store`; the package itself is `__init__`.

    The script `dashboard` and the package of its pages are one part.
    """
    if name == PACKAGE:
        return "__init__"
    return name.removeprefix(f"{PACKAGE}.").partition(".")[0]


def imports(module: Module) -> Iterator[str]:
    """The dotted names of all that is imported anywhere in the module; `from a import b` gives `a.b`."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # A relative import hides what it points at: here it only shows up as what it is.
            source = "." * node.level + (node.module or "")
            yield from (f"{source}.{alias.name}" for alias in node.names)


def imports_point_one_way(module: Module) -> Iterator[str]:
    if module.part not in MAY_IMPORT:
        yield f"{module.part} has no place in the layers: give it one here and in docs/architecture.md"
        return
    for name in imports(module):
        if name.startswith("."):
            yield f"relative import {name}"
        top = name.partition(".")[0]
        if top != PACKAGE and top not in ENTRIES:
            continue
        part = part_of(name)
        if part not in {module.part, *MAY_IMPORT[module.part]}:
            yield f"imports {name}"


def libraries_stay_in_their_place(module: Module) -> Iterator[str]:
    for name in imports(module):
        places = ONLY_IN.get(name.partition(".")[0])
        if places is not None and not places & {module.part, module.within}:
            yield f"imports {name}"


def sql_stays_in_the_store(module: Module) -> Iterator[str]:
    if module.part == "store":
        return
    for name in imports(module):
        if name.partition(".")[0] == "sqlalchemy" and name.rpartition(".")[2] not in SQLALCHEMY_TYPES:
            yield f"imports {name}"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SQL.match(node.value):
            yield f"line {node.lineno} has SQL"


def only_config_reads_the_environment(module: Module) -> Iterator[str]:
    if module.part == "config":
        return
    for name in imports(module):
        if name in {f"os.{variable}" for variable in ENVIRONMENT}:
            yield f"imports {name}"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and node.attr in ENVIRONMENT and _names_os(node.value, module):
            yield f"line {node.lineno} uses {ast.unparse(node)}"


def _names_os(expression: ast.expr, module: Module) -> bool:
    """Also under another name; a psutil process has an `environ`, too, which is another process's."""
    aliases = {
        alias.asname or alias.name
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == "os"
    }
    return ast.unparse(expression) in aliases


def importing_only_defines(module: Module) -> Iterator[str]:
    if module.name.startswith(f"{MIGRATIONS}.env"):
        return  # Alembic runs this file; nobody imports it
    for statement in module.tree.body:
        yield from _what_it_does(statement)


def _what_it_does(statement: ast.stmt) -> Iterator[str]:
    match statement:
        case ast.Import() | ast.ImportFrom() | ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return
        case ast.Expr(value=ast.Constant(value=str())):
            return
        case ast.Expr(value=ast.Call(func=ast.Attribute(attr="add_typer"))):
            return
        case ast.If(test=test) if ast.unparse(test) in {"TYPE_CHECKING", "__name__ == '__main__'"}:
            return
        case ast.With(body=body) if all(isinstance(inner, ast.Import) for inner in body):
            return
        case ast.Assign() | ast.AnnAssign():
            called = {_called(node) for node in ast.walk(statement) if isinstance(node, ast.Call)}
            for name in sorted(called & AT_WORK):
                yield f"line {statement.lineno} calls {name} when imported"
        case _:
            yield f"line {statement.lineno} runs when imported: {ast.unparse(statement)[:40]}"


def _called(call: ast.Call) -> str:
    return ast.unparse(call.func).rpartition(".")[2]


Rule = Callable[[Module], Iterable[str]]
RULES: tuple[Rule, ...] = (
    imports_point_one_way,
    libraries_stay_in_their_place,
    sql_stays_in_the_store,
    only_config_reads_the_environment,
    importing_only_defines,
)


def parse(name: str, source: str) -> Module:
    return Module(name, ast.parse(source))


def source_files() -> list[Path]:
    return sorted([*PROJECT_DIR.glob("*.py"), *(PROJECT_DIR / PACKAGE).rglob("*.py")])


def module_name(path: Path) -> str:
    parts = path.relative_to(PROJECT_DIR).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = [parse(module_name(path), path.read_text(encoding="utf-8")) for path in source_files()]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_the_source_keeps_the_rules(module: Module, rule: Rule) -> None:
    assert list(rule(module)) == []


def test_all_of_the_source_is_looked_at() -> None:
    names = {module.name for module in MODULES}
    assert {
        "data_cleaning",
        "dashboard",
        f"{PACKAGE}",
        f"{PACKAGE}.__main__",
        f"{PACKAGE}.store.reads.overview",
        f"{PACKAGE}.dashboard.overview",
    } <= names
    assert {f"{PACKAGE}.{part}" for part in ("cleaning", "config", "alerts.smtp", "stack.kafka")} <= names


OFFENDERS: list[tuple[Rule, str, str]] = [
    # pure modules know nothing of edges, settings, entry scripts or the stream
    (imports_point_one_way, "fraudstream.features", "from fraudstream.store.reads import overview"),
    (
        imports_point_one_way,
        "fraudstream.scoring",
        "from fraudstream.store.lookups import StoredTransactions",
    ),
    (imports_point_one_way, "fraudstream.views.overview", "import fraudstream.config"),
    (imports_point_one_way, "fraudstream.rules", "from fraudstream import streaming"),
    (imports_point_one_way, "fraudstream.model", "import data_cleaning"),
    (imports_point_one_way, "fraudstream.schema", "from fraudstream.features import FEATURE_NAMES"),
    (imports_point_one_way, "fraudstream.config", "from fraudstream.schema import FIELD_NAMES"),
    # edges never know each other
    (imports_point_one_way, "fraudstream.alerts.outbox", "from fraudstream.store.outbox import Outbox"),
    (imports_point_one_way, "fraudstream.store.commit", "from fraudstream.alerts import compose"),
    (imports_point_one_way, "fraudstream.publisher.replay", "def f():\n    from fraudstream import topic"),
    (imports_point_one_way, "fraudstream.topic", "from fraudstream.stack import Stack"),
    (imports_point_one_way, "fraudstream.stack.mysql", "from fraudstream.store.engine import make_engine"),
    (
        imports_point_one_way,
        "fraudstream.store.reads.overview",
        "from fraudstream.config import load_settings",
    ),
    (imports_point_one_way, "fraudstream.store.reads.overview", "from ..alerts import smtp"),
    # only entry scripts wire
    (imports_point_one_way, "fraudstream.streaming", "from fraudstream.alerting import mail_sender"),
    (imports_point_one_way, "fraudstream.streaming", "from fraudstream.config import Settings"),
    (imports_point_one_way, "fraudstream.alerting", "from fraudstream.config import Settings"),
    (imports_point_one_way, "fraudstream.alerting", "from fraudstream.topic import ensure_topic"),
    (imports_point_one_way, "fraudstream.store.locks", "from fraudstream.demo import run"),
    (imports_point_one_way, "fraudstream.utils", ""),
    (libraries_stay_in_their_place, "fraudstream.scoring", "import pyspark"),
    (libraries_stay_in_their_place, "train_fraud_model", "from pyspark.sql import SparkSession"),
    (libraries_stay_in_their_place, "fraudstream.store.commit", "def f():\n    import pyspark.sql as s"),
    (libraries_stay_in_their_place, "fraudstream.views.overview", "import streamlit as st"),
    (libraries_stay_in_their_place, "fraudstream.store.reads.overview", "import streamlit as st"),
    (sql_stays_in_the_store, "fraudstream.dashboard.alerts", "from sqlalchemy import select"),
    (libraries_stay_in_their_place, "fraudstream.alerts.outbox", "import smtplib"),
    (libraries_stay_in_their_place, "fraudstream.alerting", "from smtplib import SMTP"),
    (libraries_stay_in_their_place, "dashboard", "import mysql.connector"),
    (libraries_stay_in_their_place, "fraudstream.streaming", "from kafka import KafkaConsumer"),
    (sql_stays_in_the_store, "fraudstream.streaming", "from sqlalchemy import Engine, text"),
    (sql_stays_in_the_store, "fraudstream.alerts.outbox", "import sqlalchemy"),
    (sql_stays_in_the_store, "dashboard", "from sqlalchemy.dialects.mysql import insert"),
    (sql_stays_in_the_store, "dashboard", "def f(run):\n    run('SELECT count(*) FROM clean_data')"),
    (sql_stays_in_the_store, "fraudstream.alerting", "def f(run, t):\n    run(f'DELETE FROM {t}')"),
    (
        only_config_reads_the_environment,
        "fraudstream.streaming",
        "import os\ndef f():\n    return os.environ['TZ']",
    ),
    (only_config_reads_the_environment, "dashboard", "import os\nDEBUG = os.getenv('DEBUG')"),
    (only_config_reads_the_environment, "fraudstream.store.engine", "from os import environ"),
    (only_config_reads_the_environment, "fraudstream.topic", "from os import getenv as g"),
    (only_config_reads_the_environment, "fraudstream.topic", "import os as system\nX = system.environ"),
    (importing_only_defines, "fraudstream.rules", "RULES = load_rules()"),
    (importing_only_defines, "fraudstream.rules", "TEXT = Path('rules.yaml').read_text()"),
    (importing_only_defines, "fraudstream.store.engine", "ENGINE: Engine = create_engine('mysql://')"),
    (importing_only_defines, "fraudstream.alerts.smtp", "print('hello')"),
    (importing_only_defines, "dashboard", "main()"),
    (importing_only_defines, "fraudstream.topic", "for name in ('a', 'b'):\n    pass"),
    (
        importing_only_defines,
        "fraudstream.topic",
        "try:\n    import kafka\nexcept ImportError:\n    kafka = None",
    ),
    (importing_only_defines, "fraudstream.topic", "with open('x') as f:\n    TEXT = f.read()"),
    (importing_only_defines, "fraudstream.topic", "if True:\n    import kafka"),
]


@pytest.mark.parametrize(
    ("rule", "name", "source"), OFFENDERS, ids=[f"{rule.__name__}-{name}" for rule, name, _ in OFFENDERS]
)
def test_each_rule_catches_an_offender(rule: Rule, name: str, source: str) -> None:
    assert list(rule(parse(name, source)))


def test_every_rule_has_offenders() -> None:
    assert {rule for rule, _, _ in OFFENDERS} == set(RULES)
