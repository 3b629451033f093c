"""How Kafka is reached: the brokers' addresses, and what proves to each side who the other one is."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"]

_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"
_PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"


class _Hidden(str):
    """A secret that a client may print with the rest of its configuration without showing it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


@dataclass(frozen=True)
class KafkaAccess:
    """Brokers and security, for kafka-python and for Spark's source alike.

    With SSL and SASL_SSL the broker's certificate and host name are checked: against the authorities in
    the PEM file `ssl_ca`, or without one against those of the system (kafka-python) and of Java (Spark).
    `username` and `password` are for the SASL protocols. The password is in no `repr`.
    """

    bootstrap_servers: str
    security_protocol: SecurityProtocol = "PLAINTEXT"
    sasl_mechanism: SaslMechanism = "SCRAM-SHA-512"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ssl_ca: Path | None = None

    @property
    def servers(self) -> list[str]:
        """The host:port items, as the Kafka clients want them."""
        return [server.strip() for server in self.bootstrap_servers.split(",")]

    @property
    def encrypted(self) -> bool:
        return self.security_protocol.endswith("SSL")

    @property
    def logs_in(self) -> bool:
        return self.security_protocol.startswith("SASL")

    def ssl_context(self) -> ssl.SSLContext:
        """What checks a broker's certificate and host name."""
        return ssl.create_default_context(cafile=self.ssl_ca)

    def client_options(self) -> dict[str, Any]:
        """The keyword arguments of kafka-python's clients. They hold the password: never print them."""
        options: dict[str, Any] = {
            "bootstrap_servers": self.servers,
            "security_protocol": self.security_protocol,
        }
        if self.encrypted and self.ssl_ca:
            options["ssl_cafile"] = str(self.ssl_ca)
        if self.logs_in:
            options["sasl_mechanism"] = self.sasl_mechanism
            options["sasl_plain_username"] = self.username
            options["sasl_plain_password"] = _Hidden(self.password or "")
        return options

    def spark_options(self) -> dict[str, str]:
        """The options of Spark's Kafka source. They hold the password: never print them.

        The authorities go along as text, so that executors on other machines need no file.
        """
        options = {
            "kafka.bootstrap.servers": self.bootstrap_servers,
            "kafka.security.protocol": self.security_protocol,
        }
        if self.encrypted and self.ssl_ca:
            options["kafka.ssl.truststore.type"] = "PEM"
            options["kafka.ssl.truststore.certificates"] = self.ssl_ca.read_text(encoding="utf-8")
        if self.logs_in:
            options["kafka.sasl.mechanism"] = self.sasl_mechanism
            options["kafka.sasl.jaas.config"] = self._jaas_configuration()
        return options

    def _jaas_configuration(self) -> str:
        module = _PLAIN if self.sasl_mechanism == "PLAIN" else _SCRAM
        username, password = _quoted(self.username or ""), _quoted(self.password or "")
        return f"{module} required username={username} password={password};"


def kafka_access(kafka: KafkaAccess | str) -> KafkaAccess:
    """`host:port,...` alone means brokers without any security."""
    return KafkaAccess(kafka) if isinstance(kafka, str) else kafka


def _quoted(text: str) -> str:
    """A string of Java's login configuration."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
