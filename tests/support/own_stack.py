"""An embedded stack of a test's own: commands that start and end it, its processes, traces in its data."""

from __future__ import annotations

import json
import smtplib
import subprocess
import sys
from email.message import EmailMessage
from pathlib import Path
from urllib.request import urlopen

from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from fraudstream.config import PROJECT_DIR, child_environment, load_settings
from fraudstream.stack import Stack
from fraudstream.stack.artifacts import Artifacts
from fraudstream.stack.java import find_java
from fraudstream.stack.ports import HOST
from fraudstream.stack.stack import SERVICES

# Whatever is to be downloaded with this, fails at once.
NO_INTERNET = dict.fromkeys(("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"), f"http://{HOST}:9")


def make_sure_of_the_downloads() -> None:
    environment = child_environment()
    cache_dir = load_settings().cache_dir
    artifacts = Artifacts(cache_dir, lambda: find_java(environment, cache_dir), environment)
    artifacts.kafka_jars()
    artifacts.mariadb()


def state_dir_of(stack: Stack) -> Path:
    return stack.log("kafka").parents[1]


def pids(stack: Stack) -> dict[str, int]:
    return {name: stack.pid(name) for name in SERVICES}


def command(*arguments: str, state_home: Path, **extra: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "fraudstream", "stack", *arguments],
        cwd=PROJECT_DIR,
        env=child_environment(XDG_STATE_HOME=str(state_home), **extra),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return output


def leave_a_trace(stack: Stack, mark: str) -> None:
    """A row, a message and a mail that say `mark`."""
    addresses = stack.addresses()
    execute(addresses.mysql, "CREATE TABLE IF NOT EXISTS traces (mark VARCHAR(64))")
    execute(addresses.mysql, f"INSERT INTO traces VALUES ('{mark}')")
    admin = KafkaAdminClient(bootstrap_servers=addresses.kafka)
    if "traces" not in admin.list_topics():
        admin.create_topics([NewTopic(name="traces", num_partitions=1, replication_factor=1)])
    admin.close()
    producer = KafkaProducer(bootstrap_servers=addresses.kafka, acks="all")
    producer.send("traces", mark.encode()).get(timeout=30)
    producer.close()
    mail = EmailMessage()
    mail["Subject"] = mark
    with smtplib.SMTP(*addresses.smtp.split(":")) as client:
        client.send_message(mail, from_addr="a@example.com", to_addrs=["b@example.com"])


def traces(stack: Stack) -> dict[str, list[str]]:
    """What `leave_a_trace` left, by service."""
    addresses = stack.addresses()
    consumer = KafkaConsumer(
        "traces", bootstrap_servers=addresses.kafka, auto_offset_reset="earliest", consumer_timeout_ms=3000
    )
    messages = [record.value.decode() for record in consumer]
    consumer.close()
    return {
        "mysql": [row.mark for row in execute(addresses.mysql, "SELECT mark FROM traces")],
        "kafka": messages,
        "inbox": [mail["subject"] for mail in reversed(json.load(urlopen(f"{addresses.inbox}/api/mails")))],
    }


def execute(url: str, statement: str) -> list:
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        result = connection.execute(text(statement))
        return list(result) if result.returns_rows else []
