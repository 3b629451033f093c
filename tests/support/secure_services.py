"""A broker and a database that take nobody without TLS, with certificates made for the test."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    KafkaAdminClient,
    ResourcePattern,
    ResourceType,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from fraudstream.config import child_environment, load_settings
from fraudstream.stack import mysql
from fraudstream.stack.artifacts import Artifacts
from fraudstream.stack.java import find_java
from fraudstream.stack.kafka import Kafka, new_cluster_id
from fraudstream.stack.mysql import MySQL
from fraudstream.stack.ports import HOST, choose
from fraudstream.stack.processes import is_alive, kill, spawn, tail
from fraudstream.stack.service import Service

_START_S = 120.0
# What the README says that the pipeline's account needs.
_TOPIC_RIGHTS = (ACLOperation.DESCRIBE, ACLOperation.CREATE, ACLOperation.READ, ACLOperation.WRITE)


@dataclass(frozen=True)
class Authority:
    """A certificate authority of the test's own; its certificate is the PEM file `file`."""

    ca: trustme.CA
    file: Path

    @classmethod
    def in_folder(cls, folder: Path) -> Authority:
        folder.mkdir(parents=True, exist_ok=True)
        ca = trustme.CA()
        ca.cert_pem.write_to_path(folder / "authority.pem")
        return cls(ca, folder / "authority.pem")

    def issue(self, name: str, folder: Path) -> Issued:
        """A certificate for the host `name`, with its key, as files below `folder`."""
        leaf = self.ca.issue_cert(name)
        folder.mkdir(parents=True, exist_ok=True)
        issued = Issued(folder / "certificate.pem", folder / "key.pem", folder / "both.pem")
        # Java reads keys in PKCS #8 only.
        key = load_pem_private_key(leaf.private_key_pem.bytes(), password=None).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
        certificate = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
        issued.certificate.write_bytes(certificate)
        issued.key.write_bytes(key)
        issued.both.write_bytes(key + certificate)
        return issued


@dataclass(frozen=True)
class Issued:
    certificate: Path
    key: Path
    both: Path


@dataclass(frozen=True)
class SecureBroker:
    """One broker's addresses by protocol; `plaintext` is for the test itself, as the broker's owner."""

    plaintext: str
    ssl: str
    sasl_plaintext: str
    sasl_ssl: str


@contextmanager
def secure_broker(folder: Path, issued: Issued, *, user: str, password: str) -> Iterator[SecureBroker]:
    """A broker on `localhost` that knows `user`, who has the rights of the README on `transactions-...`."""
    ports: list[int] = []
    for _ in range(5):
        ports.append(choose(taken=frozenset(ports)))
    controller, *listeners = ports
    service = Kafka(
        home=folder / "kafka",
        log=folder / "kafka.log",
        port=listeners[0],
        controller_port=controller,
        cluster_id=new_cluster_id(),
        artifacts=_artifacts(),
        find_java=_java,
        environment=child_environment(),
    )
    service.prepare()
    text = _secure_listeners([controller, *listeners], issued, user, password)
    with (folder / "kafka" / "server.properties").open("a") as properties:
        properties.write(text)
    broker = SecureBroker(*(f"localhost:{port}" for port in listeners))
    with _running(service):
        _admit(broker, user, password)
        yield broker


def _secure_listeners(ports: list[int], issued: Issued, user: str, password: str) -> str:
    """Server properties; of a name that is there twice, Java takes the last."""
    names = ("CONTROLLER", "PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
    listeners = [f"{name}://{HOST}:{port}" for name, port in zip(names, ports, strict=True)]
    advertised = [listener.replace(HOST, "localhost") for listener in listeners[1:]]
    lines = [
        f"listeners={','.join(listeners)}",
        f"advertised.listeners={','.join(advertised)}",
        "listener.security.protocol.map=CONTROLLER:PLAINTEXT,"
        + ",".join(f"{name}:{name}" for name in names[1:]),
        "ssl.keystore.type=PEM",
        f"ssl.keystore.location={issued.both}",
        "sasl.enabled.mechanisms=SCRAM-SHA-512,SCRAM-SHA-256,PLAIN",
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users=User:ANONYMOUS",
    ]
    security = "org.apache.kafka.common.security"
    for listener in ("sasl_plaintext", "sasl_ssl"):
        scram = f"{security}.scram.ScramLoginModule required;"
        plain = f'{security}.plain.PlainLoginModule required user_{user}="{password}";'
        lines += [
            f"listener.name.{listener}.scram-sha-512.sasl.jaas.config={scram}",
            f"listener.name.{listener}.scram-sha-256.sasl.jaas.config={scram}",
            f"listener.name.{listener}.plain.sasl.jaas.config={plain}",
        ]
    return "\n".join(["", *lines, ""])


def _admit(broker: SecureBroker, user: str, password: str) -> None:
    with closing(KafkaAdminClient(bootstrap_servers=broker.plaintext)) as admin:
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            upsertion = UserScramCredentialUpsertion(user, mechanism, password.encode())
            assert admin.alter_user_scram_credentials([upsertion]) == {user: None}
        topics = ResourcePattern(ResourceType.TOPIC, "transactions-", ACLResourcePatternType.PREFIXED)
        admin.create_acls(
            [ACL(f"User:{user}", "*", right, ACLPermissionType.ALLOW, topics) for right in _TOPIC_RIGHTS]
        )


@dataclass(frozen=True)
class SecureDatabase:
    """A server on `localhost`; `admin_url` has the password of the account that may do everything."""

    port: int
    admin_url: str
    log: Path


@dataclass(frozen=True)
class _EncryptedMySQL(MySQL):
    """The stack's server, but with a certificate, and nobody is let in without TLS."""

    issued: Issued | None = None

    def command(self) -> Sequence[str | Path]:
        assert self.issued is not None
        return [
            *(part for part in super().command() if part != "--skip-ssl"),
            f"--ssl-cert={self.issued.certificate}",
            f"--ssl-key={self.issued.key}",
            "--require-secure-transport=ON",
        ]


@contextmanager
def secure_database(folder: Path, issued: Issued) -> Iterator[SecureDatabase]:
    service = _EncryptedMySQL(
        home=folder / "mysql",
        log=folder / "mysql.log",
        port=choose(),
        password=secrets.token_hex(16),
        dashboard_password=secrets.token_hex(16),
        admin_password=secrets.token_hex(16),
        find_program=database_program,
        environment=child_environment(),
        issued=issued,
    )
    service.prepare()
    with _running(service):
        yield SecureDatabase(service.port, service.admin_url(), service.log)


def database_program() -> mysql.Program:
    return mysql.find_on_path(child_environment().get("PATH", "")) or mysql.downloaded(_artifacts())


def _artifacts() -> Artifacts:
    return Artifacts(load_settings().cache_dir, _java, child_environment())


def _java() -> Path:
    return find_java(child_environment(), load_settings().cache_dir)


@contextmanager
def _running(service: Service) -> Iterator[None]:
    process = spawn(service.command(), environment=child_environment(), log=service.log)
    try:
        deadline = time.monotonic() + _START_S
        while service.version(process) is None:
            assert is_alive(process) and time.monotonic() < deadline, tail(service.log)
            time.sleep(0.1)
        yield
    finally:
        kill([process])
