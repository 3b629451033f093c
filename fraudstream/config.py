"""Settings: the only reader of the environment and of `.env`.

Entry scripts and `__main__` build one `Settings` and pass values down. A value that makes no sense
raises `SettingsError`, whose text names the variable and what it may be. Passwords are `SecretStr`:
they appear neither in `repr` nor in logs.
"""

from __future__ import annotations

import os
import re
import shutil
import ssl
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from fraudstream.kafka_access import KafkaAccess, SaslMechanism, SecurityProtocol

PROJECT_DIR = Path(__file__).resolve().parent.parent
TRANSACTIONS_CSV = PROJECT_DIR / "data" / "transactions_unsupervised.csv"
LABELS_CSV = PROJECT_DIR / "data" / "transactions_labels.csv"
DEFAULT_DATABASE = "transactions"
LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})

_ADDRESS = re.compile(r"[^@\s,;<>\"]+@[^@\s,;<>\"]+")
_PORTS = range(1, 65_536)
_HOST_PORT = re.compile(r"(?P<host>\[[0-9a-fA-F:]+\]|[^:/@\s]+)(?::(?P<port>\d{1,5}))?")


class SettingsError(Exception):
    """A setting is nonsense; the text has one line for each, naming the variable."""


class Settings(BaseSettings):
    """All settings, one default each; the variable is the field's name in capitals."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", hide_input_in_errors=True)

    kafka_bootstrap_servers: str = "localhost:9092"
    kafka_topic: str = Field("transactions", pattern=r"^[A-Za-z0-9._-]{1,249}$")
    kafka_partitions: int = Field(4, ge=1, le=10_000)
    kafka_security_protocol: SecurityProtocol = "PLAINTEXT"
    kafka_sasl_mechanism: SaslMechanism = "SCRAM-SHA-512"
    kafka_username: str | None = None
    kafka_password: SecretStr | None = None
    kafka_ssl_ca: Path | None = None

    mysql_url: str = Field("localhost:3306", repr=False)  # may hold a password
    mysql_user: str = "fraudstream"
    mysql_password: SecretStr = SecretStr("")
    mysql_ssl_ca: Path | None = None
    dashboard_mysql_user: str | None = None
    dashboard_mysql_password: SecretStr | None = None
    dashboard_url: str = "http://localhost:8501"
    dashboard_analysts: Annotated[tuple[str, ...], NoDecode] = ()

    sender_email: str | None = None
    sender_password: SecretStr | None = None
    receiver_email: Annotated[tuple[str, ...], NoDecode] = ()
    smtp_host: str = "localhost"
    smtp_port: int = Field(1025, ge=1, le=65_535)
    smtp_security: Literal["none", "starttls", "tls"] = "none"
    smtp_ssl_ca: Path | None = None
    alert_cooldown_seconds: float = Field(600, ge=0, allow_inf_nan=False)
    alert_digest_size: int = Field(50, ge=1, le=1000)

    tz: str = "UTC"
    spark_master: str = "local[*]"
    spark_driver_memory: str = Field("640m", pattern=r"^\d+[mg]$")
    trigger_interval_seconds: float = Field(0, ge=0, allow_inf_nan=False)
    max_records_per_batch: int = Field(50_000, ge=1)
    model_dir: Path = PROJECT_DIR / "model_output"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    xdg_cache_home: Path = Path("~/.cache")
    xdg_state_home: Path = Path("~/.local/state")
    java_home: Path | None = None

    @field_validator("kafka_bootstrap_servers")
    @classmethod
    def _bootstrap_is_host_port_list(cls, value: str) -> str:
        for server in value.split(","):
            match = _HOST_PORT.fullmatch(server.strip())
            if match is None or match["port"] is None or int(match["port"]) not in _PORTS:
                raise ValueError(f"{server.strip()!r} is not host:port")
        return value

    @field_validator("mysql_url")
    @classmethod
    def _mysql_url_is_host_port_or_url(cls, value: str) -> str:
        if "://" not in value:
            match = _HOST_PORT.fullmatch(value)
            if match is None or int(match["port"] or 3306) not in _PORTS:
                raise ValueError("must be host:port or a full SQLAlchemy URL")
            return value
        try:
            url = make_url(value)
        except (ArgumentError, ValueError):  # their texts would show parts of the password
            raise ValueError("is not a SQLAlchemy URL") from None
        if url.port is not None and url.port not in _PORTS:
            raise ValueError("must have a port from 1 to 65535")
        if url.get_backend_name() not in {"mysql", "mariadb"}:
            raise ValueError("must be a mysql:// or mysql+mysqlconnector:// URL")
        return value

    @field_validator("receiver_email", "dashboard_analysts", mode="before")
    @classmethod
    def _split_addresses(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("receiver_email", "dashboard_analysts")
    @classmethod
    def _all_are_addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for address in value:
            if not _ADDRESS.fullmatch(address):
                raise ValueError("must be a comma-separated list of mail addresses")
        return value

    @field_validator("sender_email")
    @classmethod
    def _sender_is_address(cls, value: str | None) -> str | None:
        if value is not None and not _ADDRESS.fullmatch(value):
            raise ValueError("must be one mail address")
        return value

    @field_validator("dashboard_url")
    @classmethod
    def _dashboard_url_is_http(cls, value: str) -> str:
        if not re.fullmatch(r"https?://\S+", value):
            raise ValueError("must start with http:// or https://")
        return value.rstrip("/")

    @field_validator("tz")
    @classmethod
    def _zone_is_known(cls, value: str) -> str:
        if value not in available_timezones():
            raise ValueError(f"{value!r} is not a time zone name such as UTC or Africa/Cairo")
        return value

    @field_validator("kafka_ssl_ca", "mysql_ssl_ca", "smtp_ssl_ca")
    @classmethod
    def _authorities_are_readable(cls, value: Path | None) -> Path | None:
        if value is None:
            return None
        path = value.expanduser().absolute()
        try:
            ssl.create_default_context(cafile=path)
        except ssl.SSLError:
            raise ValueError(f"{path} has no certificate in PEM form") from None
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror}") from None
        return path

    @model_validator(mode="after")
    def _kafka_security_makes_sense(self) -> Self:
        kafka, protocol = self.kafka, f"KAFKA_SECURITY_PROTOCOL={self.kafka_security_protocol}"
        if kafka.logs_in and not (kafka.username and kafka.password):
            raise ValueError(f"{protocol} needs KAFKA_USERNAME and KAFKA_PASSWORD")
        if not kafka.logs_in and (kafka.username or kafka.password):
            raise ValueError(
                f"{protocol} makes no use of KAFKA_USERNAME and KAFKA_PASSWORD: "
                "set KAFKA_SECURITY_PROTOCOL to SASL_SSL"
            )
        if kafka.ssl_ca and not kafka.encrypted:
            raise ValueError(
                f"{protocol} makes no use of KAFKA_SSL_CA: set KAFKA_SECURITY_PROTOCOL to SSL or SASL_SSL"
            )
        in_the_clear = kafka.security_protocol == "SASL_PLAINTEXT" and kafka.sasl_mechanism == "PLAIN"
        if in_the_clear and not set(self._kafka_hosts) <= LOCAL_HOSTS:
            raise ValueError(
                f"{protocol} and KAFKA_SASL_MECHANISM=PLAIN would send KAFKA_PASSWORD unencrypted to "
                "another host: set KAFKA_SECURITY_PROTOCOL to SASL_SSL"
            )
        return self

    @model_validator(mode="after")
    def _smtp_authorities_are_used(self) -> Self:
        if self.smtp_ssl_ca and self.smtp_security == "none":
            raise ValueError(
                "SMTP_SECURITY=none makes no use of SMTP_SSL_CA: set SMTP_SECURITY to starttls or tls"
            )
        return self

    @model_validator(mode="after")
    def _no_password_in_the_clear(self) -> Self:
        if self.sender_password and self.smtp_security == "none" and self.smtp_host not in LOCAL_HOSTS:
            raise ValueError(
                "SMTP_SECURITY=none would send SENDER_PASSWORD unencrypted to another host: "
                "set SMTP_SECURITY to starttls or tls"
            )
        return self

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.tz)

    @property
    def kafka(self) -> KafkaAccess:
        """The brokers and how to reach them; the password is in no `repr`."""
        password = self.kafka_password
        return KafkaAccess(
            bootstrap_servers=self.kafka_bootstrap_servers,
            security_protocol=self.kafka_security_protocol,
            sasl_mechanism=self.kafka_sasl_mechanism,
            username=self.kafka_username,
            password=password.get_secret_value() if password else None,
            ssl_ca=self.kafka_ssl_ca,
        )

    @property
    def database_url(self) -> URL:
        """The pipeline's SQLAlchemy URL, password included: never print it (`str` hides it)."""
        url = self._server_url()
        return url.set(
            username=url.username or self.mysql_user,
            password=url.password or self.mysql_password.get_secret_value() or None,
        )

    @property
    def dashboard_database_url(self) -> URL:
        """The dashboard's SQLAlchemy URL; without an account of its own it uses the pipeline's."""
        if self.dashboard_mysql_user is None:
            return self.database_url
        password = self.dashboard_mysql_password.get_secret_value() if self.dashboard_mysql_password else None
        return self._server_url().set(username=self.dashboard_mysql_user, password=password)

    def _server_url(self) -> URL:
        if "://" in self.mysql_url:
            url = make_url(self.mysql_url)
        else:
            match = _HOST_PORT.fullmatch(self.mysql_url)
            assert match is not None  # the validator has seen to it
            url = URL.create("mysql", host=match["host"].strip("[]"), port=int(match["port"] or 3306))
        if self.mysql_ssl_ca:
            url = url.update_query_dict({"ssl_ca": str(self.mysql_ssl_ca)})
        return url.set(drivername="mysql+mysqlconnector", database=url.database or DEFAULT_DATABASE)

    @property
    def addresses_of_this_machine_only(self) -> tuple[str, ...]:
        """The variables whose address means another machine where Spark's workers are not this one."""
        hosts = {
            "KAFKA_BOOTSTRAP_SERVERS": self._kafka_hosts,
            "MYSQL_URL": [(self.database_url.host or "").strip("[]")],
        }
        return tuple(variable for variable, named in hosts.items() if LOCAL_HOSTS & set(named))

    @property
    def _kafka_hosts(self) -> list[str]:
        return [server.rpartition(":")[0].strip("[]") for server in self.kafka.servers]

    @property
    def mail_is_configured(self) -> bool:
        return bool(self.sender_email and self.receiver_email)

    @property
    def mail_options(self) -> dict[str, Any]:
        """What `alerting.mail_sender` is told of these settings. Holds the password: never print it."""
        password = self.sender_password
        return {
            "sender": self.sender_email,
            "password": password.get_secret_value() if password else None,
            "recipients": self.receiver_email,
            "host": self.smtp_host,
            "port": self.smtp_port,
            "security": self.smtp_security,
            "ca_file": self.smtp_ssl_ca,
            "dashboard_url": self.dashboard_url,
            "tz": self.zone,
            "digest_size": self.alert_digest_size,
            "cooldown_s": self.alert_cooldown_seconds,
        }

    @property
    def cache_dir(self) -> Path:
        """Downloads: jars, the database server, a private Java. Safe to delete."""
        return self.xdg_cache_home.expanduser() / "fraudstream"

    @property
    def state_dir(self) -> Path:
        """Data of the embedded stack and of demos."""
        return self.xdg_state_home.expanduser() / "fraudstream"


def load_settings(**overrides: object) -> Settings:
    """Read the environment and `.env` (or the file that FRAUDSTREAM_ENV_FILE names), with keyword
    overrides from a command line on top.

    Raises SettingsError with one line for each bad variable; values of secrets are never in it.
    """
    try:
        return Settings(_env_file=env_file(), **overrides)  # type: ignore[arg-type, call-arg]
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(detail) for detail in error.errors())) from None


def env_file() -> Path:
    """The file that settings are read from beside the environment: `.env` in the current folder."""
    return Path(os.environ.get("FRAUDSTREAM_ENV_FILE") or ".env")


def _explain(detail: object) -> str:
    location, message = detail["loc"], detail["msg"]  # type: ignore[index]
    variable = str(location[0]).upper() if location else "settings"
    return f"{variable}: {message.removeprefix('Value error, ')}"


def child_environment(**extra: str) -> dict[str, str]:
    """This process's environment with `extra` on top, for a child process."""
    return {**os.environ, **extra}


def export(**variables: str) -> None:
    """Set variables for this process and the children that it starts from now on."""
    os.environ.update(variables)


def program_on_path(name: str) -> Path | None:
    """Where `name` is on the PATH, symbolic links resolved, or None."""
    found = shutil.which(name)
    return Path(found).resolve() if found else None
