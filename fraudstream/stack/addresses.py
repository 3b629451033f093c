"""Where the services of a running stack are, and how to tell programs about it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from urllib.parse import unquote, urlsplit

USUAL_DASHBOARD_PORT = 8501
SENDER_EMAIL = "alerts@fraudstream.example"
RECEIVER_EMAIL = "analyst@fraudstream.example"


@dataclass(frozen=True)
class Addresses:
    """`mysql` and `dashboard_mysql` are SQLAlchemy URLs with passwords, for the accounts of the pipeline and
    of the dashboard; `dashboard` is where the dashboard will be started."""

    kafka: str
    mysql: str
    dashboard_mysql: str
    smtp: str
    inbox: str
    dashboard: str

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Addresses:
        return cls(**json.loads(text))

    @property
    def dashboard_port(self) -> int:
        port = urlsplit(self.dashboard).port
        assert port is not None  # made by the stack, always with its port
        return port

    def environment(self) -> dict[str, str]:
        """The settings, as environment variables, that point the four scripts at this stack."""
        smtp_host, smtp_port = self.smtp.rsplit(":", 1)
        account = urlsplit(self.dashboard_mysql)
        variables = {
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka,
            "MYSQL_URL": self.mysql,
            "DASHBOARD_MYSQL_USER": account.username or "",
            "DASHBOARD_MYSQL_PASSWORD": unquote(account.password or ""),
            "SMTP_HOST": smtp_host,
            "SMTP_PORT": smtp_port,
            "SMTP_SECURITY": "none",
            "SENDER_EMAIL": SENDER_EMAIL,
            "RECEIVER_EMAIL": RECEIVER_EMAIL,
            "DASHBOARD_URL": self.dashboard,
        }
        if self.dashboard_port != USUAL_DASHBOARD_PORT:
            variables["STREAMLIT_SERVER_PORT"] = str(self.dashboard_port)
        return variables


def export_lines(variables: Mapping[str, str]) -> str:
    """`export NAME=value` lines for a POSIX shell, each value quoted where it must be."""
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items())
