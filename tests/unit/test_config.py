"""Settings: one default each, nonsense fails loudly and by name, secrets stay secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from fraudstream.config import Settings, SettingsError, load_settings

SECRET = "s3cret-value"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of ours is set and no `.env` is found."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("FRAUDSTREAM_ENV_FILE", raising=False)
    monkeypatch.chdir(tmp_path)


def test_defaults_are_those_of_the_documentation() -> None:
    settings = load_settings()
    assert settings.kafka_bootstrap_servers == "localhost:9092"
    assert (settings.kafka_topic, settings.kafka_partitions) == ("transactions", 4)
    assert settings.database_url.render_as_string() == (
        "mysql+mysqlconnector://fraudstream@localhost:3306/transactions"
    )
    assert (settings.smtp_host, settings.smtp_port, settings.smtp_security) == ("localhost", 1025, "none")
    assert settings.tz == "UTC"
    assert not settings.mail_is_configured


def test_no_credential_has_a_default() -> None:
    settings = load_settings()
    assert settings.database_url.password is None
    assert settings.mail_options["password"] is None


NONSENSE = {
    "KAFKA_BOOTSTRAP_SERVERS": (
        "localhost",
        "localhost:9092,other",
        "a b:1",
        "localhost:99999",
        "localhost:0",
    ),
    "KAFKA_TOPIC": ("two words", "x" * 250, "a/b"),
    "KAFKA_PARTITIONS": ("0", "-1", "many", "1.5"),
    "MYSQL_URL": (
        "host:port",
        "host:99999",
        "a@b",
        "postgresql://host/db",
        "mysql://u:p@host:port/db",
        "mysql://host:99999/db",
        "mysql:/host",
    ),
    "DASHBOARD_URL": ("localhost:8501", "ftp://localhost", "http://"),
    "DASHBOARD_ANALYSTS": ("nobody", "a@example.com,b"),
    "SENDER_EMAIL": ("nobody", "a@example.com,b@example.com", "A <a@example.com>"),
    "RECEIVER_EMAIL": ("nobody", "a@example.com,b", "a@example.com b@example.com"),
    "SMTP_PORT": ("0", "65536", "smtp"),
    "SMTP_SECURITY": ("ssl", "yes"),
    "ALERT_COOLDOWN_SECONDS": ("-1", "soon", "nan", "inf"),
    "ALERT_DIGEST_SIZE": ("0", "1001"),
    "TZ": ("Mars/Base", "UTC+2", "../etc/passwd"),
    "SPARK_DRIVER_MEMORY": ("1", "1 GB", "lots"),
    "TRIGGER_INTERVAL_SECONDS": ("-1", "x", "nan", "inf"),
    "MAX_RECORDS_PER_BATCH": ("0", "-5"),
    "LOG_LEVEL": ("LOUD", "info "),
}


@pytest.mark.parametrize(
    ("variable", "value"), [(variable, value) for variable, values in NONSENSE.items() for value in values]
)
def test_nonsense_fails_and_names_the_variable(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{variable}: ")
    assert len(line) > len(variable) + 5


def test_every_bad_variable_has_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, values in NONSENSE.items():
        monkeypatch.setenv(variable, values[0])
    with pytest.raises(SettingsError) as caught:
        load_settings()
    named = {line.partition(":")[0] for line in str(caught.value).splitlines()}
    assert named == set(NONSENSE)


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    unset = load_settings()
    for name in Settings.model_fields:
        monkeypatch.setenv(name.upper(), "")
    assert load_settings() == unset


def test_the_environment_is_over_the_file_and_the_command_line_over_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("KAFKA_TOPIC=file\nSMTP_HOST=file\nTZ=Africa/Cairo\nUNKNOWN=1\n")
    monkeypatch.setenv("KAFKA_TOPIC", "environment")
    monkeypatch.setenv("SMTP_HOST", "environment")
    settings = load_settings(smtp_host="given")
    assert (settings.tz, settings.kafka_topic, settings.smtp_host) == ("Africa/Cairo", "environment", "given")
    assert settings.zone.key == "Africa/Cairo"


def test_another_file_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("KAFKA_TOPIC=usual\n")
    (tmp_path / "other").write_text("KAFKA_TOPIC=other\n")
    assert load_settings().kafka_topic == "usual"
    monkeypatch.setenv("FRAUDSTREAM_ENV_FILE", str(tmp_path / "other"))
    assert load_settings().kafka_topic == "other"


def test_a_bad_line_in_the_file_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SMTP_PORT=smtp\n")
    with pytest.raises(SettingsError, match=r"^SMTP_PORT: "):
        load_settings()


@pytest.mark.parametrize(
    ("mysql_url", "expected"),
    [
        ("db", "mysql+mysqlconnector://u:p@db:3306/transactions"),
        ("db:3307", "mysql+mysqlconnector://u:p@db:3307/transactions"),
        ("[::1]:3307", "mysql+mysqlconnector://u:p@[::1]:3307/transactions"),
        ("mysql://db/other", "mysql+mysqlconnector://u:p@db/other"),
        ("mysql+pymysql://me:mine@db:1/other", "mysql+mysqlconnector://me:mine@db:1/other"),
        ("mariadb://me@db", "mysql+mysqlconnector://me:p@db/transactions"),
    ],
)
def test_a_database_is_a_host_or_a_url(
    mysql_url: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MYSQL_URL", mysql_url)
    monkeypatch.setenv("MYSQL_USER", "u")
    monkeypatch.setenv("MYSQL_PASSWORD", "p")
    settings = load_settings()
    assert settings.database_url.render_as_string(hide_password=False) == expected
    assert settings.dashboard_database_url == settings.database_url


def test_the_dashboard_may_have_an_account_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "MYSQL_URL": "mysql://me:mine@db/other",
        "DASHBOARD_MYSQL_USER": "reader",
        "DASHBOARD_MYSQL_PASSWORD": "r",
    }.items():
        monkeypatch.setenv(name, value)
    url = load_settings().dashboard_database_url.render_as_string(hide_password=False)
    assert url == "mysql+mysqlconnector://reader:r@db/other"


@pytest.mark.parametrize(
    ("kafka", "mysql", "named"),
    [
        ("localhost:9092", "127.0.0.1", ("KAFKA_BOOTSTRAP_SERVERS", "MYSQL_URL")),
        ("kafka:29092,[::1]:9092", "mysql:3306", ("KAFKA_BOOTSTRAP_SERVERS",)),
        ("kafka:29092", "mysql://u:p@localhost/db", ("MYSQL_URL",)),
        ("kafka:29092", "mysql:3306", ()),
    ],
)
def test_addresses_that_only_this_machine_can_use_are_known(
    kafka: str, mysql: str, named: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka)
    monkeypatch.setenv("MYSQL_URL", mysql)
    assert load_settings().addresses_of_this_machine_only == named


def test_recipients_are_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECEIVER_EMAIL", " a@example.com, b@example.org ,")
    monkeypatch.setenv("SENDER_EMAIL", "fraud@example.com")
    settings = load_settings()
    assert settings.receiver_email == ("a@example.com", "b@example.org")
    assert settings.mail_is_configured


@pytest.mark.parametrize(
    ("host", "security", "refused"),
    [
        ("smtp.example.com", "none", True),
        ("smtp.example.com", "starttls", False),
        ("smtp.example.com", "tls", False),
        ("localhost", "none", False),
        ("127.0.0.1", "none", False),
    ],
)
def test_a_mail_password_never_leaves_in_the_clear(
    host: str, security: str, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"SMTP_HOST": host, "SMTP_SECURITY": security, "SENDER_PASSWORD": SECRET}.items():
        monkeypatch.setenv(name, value)
    if refused:
        with pytest.raises(SettingsError, match="SMTP_SECURITY") as caught:
            load_settings()
        assert SECRET not in str(caught.value)
    else:
        assert load_settings().mail_options["password"] == SECRET


def test_secrets_are_in_no_text_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MYSQL_PASSWORD", "DASHBOARD_MYSQL_PASSWORD", "SENDER_PASSWORD"):
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv("MYSQL_URL", f"mysql://u:{SECRET}@db/transactions")
    settings = load_settings()
    for shown in (repr(settings), str(settings), str(settings.database_url), repr(settings.database_url)):
        assert SECRET not in shown
    assert settings.database_url.password == SECRET


@pytest.mark.parametrize(
    "mysql_url",
    [
        f"postgresql://u:{SECRET}@host/db",
        f"mysql://u:{SECRET}@host:port/db",
        f"mysql://u:p@x:{SECRET}@host/db",
        f"mysql://u:{SECRET}@host:99999/db",
        f"mysql://u:{SECRET}",
        f"u:{SECRET}@host",
    ],
)
def test_secrets_are_in_no_error(mysql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYSQL_URL", mysql_url)
    monkeypatch.setenv("SENDER_PASSWORD", SECRET)
    monkeypatch.setenv("SMTP_PORT", "smtp")
    with pytest.raises(SettingsError, match="MYSQL_URL") as caught:
        load_settings()
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
