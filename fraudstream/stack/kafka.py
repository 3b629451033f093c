"""The Kafka broker: one KRaft node that is broker and controller, with its data in one folder."""

from __future__ import annotations

import base64
import logging
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from fraudstream.stack.artifacts import KAFKA_VERSION, Artifacts
from fraudstream.stack.ports import HOST, is_free
from fraudstream.stack.processes import run_to_end

_TEMPLATES = Path(__file__).with_name("templates")
_HEAP = "-Xmx256m"


@dataclass(frozen=True)
class Kafka:
    """A broker below `home`; `cluster_id` makes it known from any other on the same port."""

    home: Path
    log: Path
    port: int
    controller_port: int
    cluster_id: str
    artifacts: Artifacts
    find_java: Callable[[], Path]
    environment: Mapping[str, str]

    name = "kafka"
    start_timeout_s = 120.0

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    def prepare(self) -> None:
        jars = self.artifacts.kafka_jars()
        self.home.mkdir(parents=True, exist_ok=True)
        self._write_configuration()
        if not (self._data / "meta.properties").exists():
            shutil.rmtree(self._data, ignore_errors=True)
            format_data = self._java(
                jars, "kafka.tools.StorageTool", "format", "-t", self.cluster_id, "-c", self._properties
            )
            run_to_end(format_data, environment=self.environment, log=self.log)

    def command(self) -> Sequence[str | Path]:
        return self._java(self.artifacts.kafka_jars(), "kafka.Kafka", self._properties)

    def version(self, process: psutil.Process) -> str | None:
        if is_free(self.port):
            return None
        return f"Kafka {KAFKA_VERSION}" if cluster_id_at(self.address) == self.cluster_id else None

    @property
    def _data(self) -> Path:
        return self.home / "data"

    @property
    def _properties(self) -> Path:
        return self.home / "server.properties"

    def _write_configuration(self) -> None:
        template = (_TEMPLATES / "server.properties").read_text()
        self._properties.write_text(
            template.format(host=HOST, port=self.port, controller_port=self.controller_port, data=self._data)
        )
        shutil.copy(_TEMPLATES / "log4j.properties", self.home)

    def _java(self, jars: Sequence[Path], *arguments: str | Path) -> list[str | Path]:
        return [
            self.find_java(),
            _HEAP,
            "-XX:+UseG1GC",
            "-XX:TieredStopAtLevel=1",  # one broker never earns back what the second compiler takes
            "-XX:+ExitOnOutOfMemoryError",
            "-Djava.awt.headless=true",
            f"-Dlog4j.configuration=file:{self.home / 'log4j.properties'}",
            "-cp",
            ":".join(str(jar) for jar in jars),
            *arguments,
        ]


def new_cluster_id() -> str:
    """A random id in Kafka's own form: 16 bytes, base64 for URLs, 22 characters."""
    # Kafka's command line would take an id that starts with a dash for an option.
    while (cluster_id := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return cluster_id


def cluster_id_at(bootstrap_servers: str) -> str | None:
    """The id of the cluster that answers there, or None when none does."""
    with _quiet_client(), suppress(KafkaError):
        client = KafkaAdminClient(bootstrap_servers=bootstrap_servers, request_timeout_ms=3000)
        with closing(client):
            return client.describe_cluster().get("cluster_id")
    return None


@contextmanager
def _quiet_client() -> Iterator[None]:
    # The client warns of each refused connection; of a broker that is still starting, that is no news.
    logger = logging.getLogger("kafka")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
