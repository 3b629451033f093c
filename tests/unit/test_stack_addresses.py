"""What the stack tells programs: settings as environment variables, and as lines for a shell."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fraudstream.config import load_settings
from fraudstream.stack import Addresses
from fraudstream.stack.addresses import export_lines

ADDRESSES = Addresses(
    kafka="127.0.0.1:9092",
    mysql="mysql+mysqlconnector://fraudstream:p%40ss@127.0.0.1:3307/transactions",
    dashboard_mysql="mysql+mysqlconnector://reader:r%40d@127.0.0.1:3307/transactions",
    smtp="127.0.0.1:1026",
    inbox="http://127.0.0.1:8025",
    dashboard="http://127.0.0.1:8501",
)


def test_json_and_back() -> None:
    assert Addresses.from_json(ADDRESSES.to_json()) == ADDRESSES


def test_the_settings_understand_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ADDRESSES.environment().items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert settings.kafka_bootstrap_servers == ADDRESSES.kafka
    assert settings.database_url.render_as_string(hide_password=False) == ADDRESSES.mysql
    assert (settings.smtp_host, settings.smtp_port, settings.smtp_security) == ("127.0.0.1", 1026, "none")
    assert settings.dashboard_url == ADDRESSES.dashboard
    assert settings.mail_is_configured


def test_an_account_of_another_server_in_the_env_file_does_not_get_in_the_way(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("DASHBOARD_MYSQL_USER=another\nDASHBOARD_MYSQL_PASSWORD=other\n")
    monkeypatch.setenv("FRAUDSTREAM_ENV_FILE", str(tmp_path / ".env"))
    for name, value in ADDRESSES.environment().items():
        monkeypatch.setenv(name, value)
    url = load_settings().dashboard_database_url
    assert url.render_as_string(hide_password=False) == ADDRESSES.dashboard_mysql


def test_streamlit_is_told_only_of_an_unusual_port() -> None:
    assert "STREAMLIT_SERVER_PORT" not in ADDRESSES.environment()
    elsewhere = Addresses(**{**ADDRESSES.__dict__, "dashboard": "http://127.0.0.1:20123"})
    assert elsewhere.environment()["STREAMLIT_SERVER_PORT"] == "20123"


@pytest.mark.parametrize(
    "value", ["plain", "two words", "$HOME `id` $(id)", "it's", 'a "quote"', "a\nb", "", "*"]
)
def test_a_shell_reads_back_exactly_what_was_exported(value: str) -> None:
    script = export_lines({"FIRST": "1", "VALUE": value}) + '\nsh -c \'printf "%s" "$VALUE"\''
    told = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout == value
