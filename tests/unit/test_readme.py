"""What README and architecture name exists and runs, and what exists is documented."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import fraudstream  # noqa: F401 - the database driver must be loaded before pyarrow
from fraudstream.__main__ import app
from fraudstream.config import PROJECT_DIR, Settings

README = PROJECT_DIR / "README.md"
ARCHITECTURE = PROJECT_DIR / "docs" / "architecture.md"
ENV_EXAMPLE = PROJECT_DIR / ".env.example"
DOCUMENTS = [pytest.param(path, id=path.name) for path in (README, ARCHITECTURE)]

NOT_SET = "not set"
# A path or a bare file name. Of the bare names those of Python, the docs and the configuration are meant.
FILE = re.compile(
    r"(?<![\w/.:-])((?:[\w.-]+/)*(?:\.env\.example|[\w.-]*\w\.(?:py|md|csv|toml|yaml|yml|txt|png)))(?![\w/])"
)
FOLDER = re.compile(r"(?<![\w/.:<-])((?:[\w.-]+/)+)(?![\w<*])")
MADE_BY_USERS = {".streamlit/secrets.toml"}
IN_THE_PACKAGE = (PROJECT_DIR, PROJECT_DIR / "fraudstream")
VERB = re.compile(r"python -m fraudstream((?: [a-z][\w-]*)+)")
VERB_WITH_OPTION = re.compile(rf"{VERB.pattern} (--[\w-]+)")
MAKE = re.compile(r"\bmake ([a-z]+)\b")
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def code_of(path: Path) -> str:
    """All that is set as code, in blocks and in lines."""
    text = text_of(path)
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    outside = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return "\n".join([*blocks, *re.findall(r"`([^`\n]+)`", outside)])


def shell_blocks() -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```", text_of(README), re.MULTILINE | re.DOTALL)


def table_rows(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading of the README, without its two head lines."""
    section = text_of(README).split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_that_is_named_exists(document: Path) -> None:
    named = set(FILE.findall(code_of(document)))
    assert len(named) > 5
    missing = {name for name in named if not any((base / name).is_file() for base in IN_THE_PACKAGE)}
    assert missing <= MADE_BY_USERS


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_folder_that_is_named_exists(document: Path) -> None:
    named = set(FOLDER.findall(code_of(document)))
    assert "model_output/" in named
    missing = {name for name in named if not any((base / name).is_dir() for base in IN_THE_PACKAGE)}
    assert missing == set()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_relative_link_leads_to_a_file(document: Path) -> None:
    targets = LINK.findall(text_of(document))
    assert targets
    assert [target for target in targets if not (document.parent / target).is_file()] == []


# --- `python -m fraudstream VERB` ------------------------------------------------------------------


def verbs(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each verb that can be run, with its command; a group that does something by itself is one, too."""
    children: dict[str, Any] = getattr(command, "commands", {})
    if path and (not children or command.invoke_without_command):
        yield path, command
    for name, child in children.items():
        yield from verbs(child, (*path, name))


VERBS = dict(verbs(typer.main.get_command(app)))


def documented_verbs(document: Path) -> set[tuple[str, ...]]:
    return {tuple(words.split()) for words in VERB.findall(text_of(document))}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_verb_that_is_named_exists(document: Path) -> None:
    assert documented_verbs(document)
    assert documented_verbs(document) - VERBS.keys() == set()


def test_every_verb_is_in_the_table_of_commands() -> None:
    commands = "\n".join(" ".join(row) for row in table_rows("Commands"))
    named = {tuple(words.split()) for words in VERB.findall(commands)}
    assert VERBS.keys() - named == set()


def options_of(words: str) -> set[str]:
    return {option for parameter in VERBS[tuple(words.split())].params for option in parameter.opts}


def test_every_option_that_is_named_exists() -> None:
    named = set(VERB_WITH_OPTION.findall(text_of(README)))
    for cell, meaning in table_rows("Commands"):
        (words,) = VERB.findall(cell)
        named |= {(words, option) for option in re.findall(r"`(--[\w-]+)`", meaning)}
    assert named
    assert {(words, option) for words, option in named if option not in options_of(words)} == set()


# --- commands that a reader types ------------------------------------------------------------------


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", text_of(PROJECT_DIR / "Makefile"), re.MULTILINE))
    assert set(MAKE.findall(code_of(README))) - targets == set()


def test_the_readme_names_all_make_targets_of_daily_work() -> None:
    assert {"setup", "demo", "test", "lint", "format"} <= set(MAKE.findall(code_of(README)))


def test_every_variable_of_make_demo_is_known_to_the_makefile() -> None:
    variables = {cell[0].strip("`").split("=")[0] for cell in table_rows("Try it")}
    assert {"ONCE", "CSV", "RATE", "KEEP"} == variables
    makefile = text_of(PROJECT_DIR / "Makefile")
    assert {name for name in variables if not re.search(rf"\b{name}\b", makefile)} == set()


def test_shell_blocks_are_valid_shell() -> None:
    blocks = shell_blocks()
    assert blocks
    for block in blocks:
        checked = subprocess.run(["sh", "-n"], input=block, text=True, capture_output=True, check=False)
        assert checked.returncode == 0, f"{block}\n{checked.stderr}"


def python_commands() -> list[str]:
    """The commands of the shell blocks that start one of the project's programs, each once."""
    lines = [line.split("  #")[0].strip() for block in shell_blocks() for line in block.splitlines()]
    inner = [match[1] if (match := re.fullmatch(r'eval "\$\((.*)\)"', line)) else line for line in lines]
    return list(dict.fromkeys(line for line in inner if line.startswith(("python ", "streamlit "))))


def test_the_shell_blocks_start_all_four_scripts_and_the_stack() -> None:
    assert {
        "python producer_from_csv.py",
        "python data_cleaning.py",
        "python train_fraud_model.py",
        "streamlit run dashboard.py",
        "python -m fraudstream stack up",
        "python -m fraudstream stack env",
        "python -m fraudstream stack down",
    } <= set(python_commands())


@pytest.mark.parametrize("command", python_commands())
def test_every_command_of_the_shell_blocks_is_accepted(command: str) -> None:
    program, *arguments = shlex.split(command)
    module = [] if program == "python" else ["-m", program]
    run = subprocess.run(
        [sys.executable, *module, *arguments, "--help"],
        cwd=PROJECT_DIR,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "Usage:" in run.stdout


# --- settings --------------------------------------------------------------------------------------

VARIABLES = [name.upper() for name in Settings.model_fields]
# What .env.example sets so that docker-compose.yml works with it as it is; the code has no default for them.
DEVELOPMENT_VALUES = {
    "MYSQL_PASSWORD",
    "DASHBOARD_MYSQL_USER",
    "DASHBOARD_MYSQL_PASSWORD",
    "SENDER_EMAIL",
    "RECEIVER_EMAIL",
}
COMPOSE_ONLY = {
    "MYSQL_ROOT_PASSWORD",
    "BIND_ADDRESS",
    "KAFKA_HOST",
    "KAFKA_HOST_PORT",
    "MYSQL_HOST_PORT",
    "SMTP_HOST_PORT",
    "INBOX_HOST_PORT",
    "DASHBOARD_HOST_PORT",
    "SPARK_UI_HOST_PORT",
    "SPARK_HOST_PORT",
    "JOB_UI_HOST_PORT",
    "SPARK_WORKER_CORES",
}


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.lower(), raising=False)


def documented_defaults() -> dict[str, str]:
    """Variable -> the default that the README's table gives, empty where it says `not set`."""
    defaults = {}
    for variable, default, _meaning in table_rows("Configuration"):
        assert default == NOT_SET or re.fullmatch(r"`[^`]+`", default), f"{variable}: {default}"
        defaults[variable.strip("`")] = "" if default == NOT_SET else default.strip("`")
    return defaults


def example_lines() -> dict[str, str]:
    """Variable -> value in .env.example, the optional lines that are commented out included."""
    return dict(re.findall(r"^(?:# )?([A-Z_]+)=(.*)$", text_of(ENV_EXAMPLE), re.MULTILINE))


def settings_from(values: dict[str, str], folder: Path) -> Settings:
    """The settings that a `.env` with these values gives; a relative folder is meant in the project."""
    env_file = folder / ".env"
    env_file.write_text("".join(f"{name}={value}\n" for name, value in values.items()), encoding="utf-8")
    settings = Settings(_env_file=env_file)  # type: ignore[call-arg]
    return settings.model_copy(update={"model_dir": PROJECT_DIR / settings.model_dir})


def assert_defaults(documented: dict[str, str], folder: Path) -> None:
    defaults = Settings(_env_file=None)  # type: ignore[call-arg]
    for name, default in defaults.model_dump().items():
        documented_value = documented[name.upper()]
        empty = default in (None, "", ()) or str(default) == ""
        assert (documented_value == "") == empty, f"{name.upper()} is {documented_value!r}, not {default!r}"
    assert settings_from(documented, folder) == defaults


@pytest.mark.usefixtures("no_settings")
def test_the_table_of_settings_has_every_setting_with_its_default(tmp_path: Path) -> None:
    documented = documented_defaults()
    assert sorted(documented) == sorted(VARIABLES)
    assert_defaults(documented, tmp_path)


@pytest.mark.usefixtures("no_settings")
def test_env_example_has_every_setting_with_its_default(tmp_path: Path) -> None:
    settings = {name: value for name, value in example_lines().items() if name not in COMPOSE_ONLY}
    assert sorted(settings) == sorted(VARIABLES)
    assert_defaults({**settings, **dict.fromkeys(DEVELOPMENT_VALUES, "")}, tmp_path)


@pytest.mark.usefixtures("no_settings")
def test_env_example_copied_as_it_is_changes_only_the_development_values() -> None:
    copied = Settings(_env_file=ENV_EXAMPLE).model_dump()  # type: ignore[call-arg]
    default = Settings(_env_file=None).model_dump()  # type: ignore[call-arg]
    assert {name.upper() for name in copied if copied[name] != default[name]} == DEVELOPMENT_VALUES


def test_env_example_holds_no_secret() -> None:
    marked = text_of(ENV_EXAMPLE).split("# --- Development values, known to everybody")[1].split("# ---")[0]
    for name, value in example_lines().items():
        if "PASSWORD" in name and value:
            assert value.startswith("development-")
            assert f"\n{name}={value}\n" in marked
    assert {
        value.rpartition("@")[2] for name, value in example_lines().items() if name.endswith("EMAIL")
    } == {"fraudstream.example"}


def test_the_table_of_ports_is_that_of_docker_compose() -> None:
    documented = {
        (variable.strip("`"), default.strip("`")) for default, variable, *_ in table_rows("With Docker")
    }
    compose = text_of(PROJECT_DIR / "docker-compose.yml")
    assert documented == set(re.findall(r"\$\{([A-Z_]+_HOST_PORT|[A-Z_]+_PORT):-(\d+)\}:\d", compose))


def test_the_example_row_of_the_readme_is_the_first_of_the_shipped_data() -> None:
    (block,) = re.findall(r"^```csv\n(.*?)^```", text_of(README), re.MULTILINE | re.DOTALL)
    shipped = text_of(PROJECT_DIR / "data" / "transactions_unsupervised.csv")
    assert shipped.startswith(block)
