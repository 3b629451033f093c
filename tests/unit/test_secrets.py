"""Nothing in git that would open a door: no key, no password but those that everybody knows, no pickle."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath

import numpy as np
import pytest

from fraudstream.config import PROJECT_DIR

# The development values of .env.example, and what the documentation says in place of a password.
PLACEHOLDERS = {
    "development-root",
    "development-pipeline",
    "development-dashboard",
    "choose one",
    "choose another",
    "the app password",
    "a long random text",
    "what the provider gave you",
    "password",
}
NEVER_IN_GIT = re.compile(r"(^|/)(\.env|secrets\.toml|id_[a-z0-9]+|.*\.(pem|key|p12|pfx|jks|keystore))$")
SECRET_NAME = re.compile(r"(password|passwd|secret|token|api_?key)\w*$", re.IGNORECASE)
# NAME=value, NAME: value, name = "value"; a reference, such as ${NAME}, ${NAME:?text} or $NAME, is no value.
ASSIGNED = re.compile(
    r"(?i)\b[\w.-]*(?:password|passwd|secret|token|api_?key)\w*['\"]?[ \t]*[:=][ \t]*"
    r"(?:'([^'\n]*)'|\"([^\"\n]*)\"|([^\s'\"$#|`,;(){}\[\]][^\n|`]*))"
)
IDENTIFIED = re.compile(r"(?i)identified by '([^'$\n][^'\n]*)'")
REFERENCE = re.compile(r"\$\{\w+(?::?\?[^}]*|:?-)?\}")
IN_AN_ADDRESS = re.compile(r"[a-z][a-z0-9+]*://[^\s:/@'\"`]+:([^\s@/'\"`]+)@")
SHAPES = {
    "private key": re.compile("-----BEGIN " + "[A-Z ]*PRIVATE KEY-----"),
    "AWS key": re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    "GitHub token": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_\w{22,})\b"),
    "Slack token": re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}"),
    "Google key": re.compile(r"\bAIza[A-Za-z0-9_-]{35}\b"),
    "JSON web token": re.compile(r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\."),
}
WRITTEN_AS_SETTINGS = {".md", ".toml", ".yml", ".yaml", ".ini", ".cfg", ".sh", ".sql", ".example", ".json"}

PICKLERS = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
UNPICKLING = {"read_pickle", "to_pickle"}


@cache
def tracked() -> tuple[PurePosixPath, ...]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT_DIR, capture_output=True, check=True)
    return tuple(PurePosixPath(name) for name in listed.stdout.decode().split("\0") if name)


def texts() -> Iterator[tuple[PurePosixPath, str]]:
    for path in tracked():
        content = (PROJECT_DIR / path).read_bytes()
        if b"\0" not in content:
            yield path, content.decode("utf-8")


def assigned_in_settings(text: str) -> Iterator[str]:
    """The values of what is called like a secret, and the passwords in statements and addresses."""
    for match in ASSIGNED.finditer(REFERENCE.sub("", text)):
        yield next(value for value in match.groups() if value is not None).strip()
    yield from IDENTIFIED.findall(text)
    yield from IN_AN_ADDRESS.findall(text)


def assigned_in_code(source: str) -> Iterator[str]:
    """The string constants that a program gives to what is called like a secret."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Assign(targets=targets, value=value):
                names = [ast.unparse(target) for target in targets]
            case ast.AnnAssign(target=target, value=value):
                names = [ast.unparse(target)]
            case ast.keyword(arg=str(name), value=value):
                names = [name]
            case _:
                continue
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield from (value.value for name in names if SECRET_NAME.search(name))


def test_no_file_is_in_git_that_holds_secrets_by_its_name() -> None:
    assert len(tracked()) > 100
    assert [path for path in tracked() if NEVER_IN_GIT.search(str(path))] == []


def test_no_text_in_git_has_the_shape_of_a_key_or_token() -> None:
    found = [
        (str(path), shape) for path, text in texts() for shape, like in SHAPES.items() if like.search(text)
    ]
    assert found == []


def test_the_only_passwords_in_settings_and_documents_are_those_for_development() -> None:
    found = {
        (str(path), value)
        for path, text in texts()
        if path.suffix in WRITTEN_AS_SETTINGS or path.name.startswith(("Makefile", "Dockerfile"))
        for value in assigned_in_settings(text)
    }
    assert {(path, value) for path, value in found if value and value not in PLACEHOLDERS} == set()
    assert (".env.example", "development-pipeline") in found


def test_no_password_is_in_the_program() -> None:
    found = {
        (str(path), value)
        for path, text in texts()
        if path.suffix == ".py" and path.parts[0] != "tests"
        for value in (*assigned_in_code(text), *IN_AN_ADDRESS.findall(text))
    }
    assert {(path, value) for path, value in found if value and value not in PLACEHOLDERS} == set()


@pytest.mark.parametrize(
    "line",
    [
        "MYSQL_PASSWORD=hunter2",
        "  client_secret: 'hunter2'",
        'cookie_secret = "hunter2"',
        "MYSQL_URL=mysql://fraudstream:hunter2@db",
        "CREATE USER x IDENTIFIED BY 'hunter2';",
    ],
)
def test_a_password_in_settings_would_be_found(line: str) -> None:
    assert "hunter2" in list(assigned_in_settings(line))


@pytest.mark.parametrize(
    "code", ["PASSWORD = 'hunter2'", "connect(password='hunter2')", "api_token: str = 'hunter2'"]
)
def test_a_password_in_the_program_would_be_found(code: str) -> None:
    assert list(assigned_in_code(code)) == ["hunter2"]


def picklers(source: str) -> Iterator[str]:
    """Where a program pickles, or reads what may be a pickle."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (each.name for each in names if each.name.partition(".")[0] in PICKLERS)
            case ast.ImportFrom(module=str(module)) if module.partition(".")[0] in PICKLERS:
                yield module
            case ast.Attribute(attr=name) if name in UNPICKLING:
                yield name
            case ast.keyword(arg="allow_pickle", value=value) if ast.unparse(value) != "False":
                yield "allow_pickle"


def test_the_program_neither_writes_nor_reads_a_pickle() -> None:
    sources = {str(path): text for path, text in texts() if path.suffix == ".py" and path.parts[0] != "tests"}
    assert "fraudstream/model_store.py" in sources
    assert {path: found for path, text in sources.items() if (found := list(picklers(text)))} == {}


@pytest.mark.parametrize(
    "code",
    ["import joblib", "from pickle import loads", "pd.read_pickle(path)", "np.load(f, allow_pickle=True)"],
)
def test_a_pickle_in_the_program_would_be_found(code: str) -> None:
    assert list(picklers(code))


def test_no_file_of_the_shipped_model_is_a_pickle() -> None:
    artefacts = [PROJECT_DIR / path for path in tracked() if path.parts[0] == "model_output"]
    estimators = [path for path in artefacts if path.suffix == ".skops"]
    assert estimators
    for path in artefacts:
        assert path.suffix in {".skops", ".json", ""}, path
        assert not is_pickle(path.read_bytes()), path
    for path in estimators:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                content = archive.read(name)
                assert Path(name).suffix in {".json", ".npy"}, f"{path}: {name}"
                assert not is_pickle(content)
                if name.endswith(".npy"):
                    np.load(io.BytesIO(content), allow_pickle=False)  # raises for objects, which are pickled


def is_pickle(content: bytes) -> bool:
    """Whether it begins as each protocol since Python 2.3 does."""
    return len(content) > 1 and content[0] == 0x80 and content[1] in range(2, 6)
