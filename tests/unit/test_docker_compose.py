"""docker-compose.yml as a text: what every service has, and that it agrees with code and .env.example."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from fraudstream.config import PROJECT_DIR, Settings

TEXT = (PROJECT_DIR / "docker-compose.yml").read_text()
FILE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
EXAMPLE = dict(
    re.findall(r"^(?:# )?([A-Z_]+)=(.*)$", (PROJECT_DIR / ".env.example").read_text(), re.MULTILINE)
)
# In a container the inbox is not on `localhost`.
NAMES_BETWEEN_CONTAINERS = {"SMTP_HOST": "mailpit"}


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest) -> dict[str, Any]:
    return SERVICES[request.param]


def test_every_service_has_a_pinned_image(service: dict[str, Any]) -> None:
    name, _, tag = service["image"].rpartition(":")
    assert name and re.match(r"v?\d", tag)


def test_every_service_restarts_is_watched_and_has_a_limit(service: dict[str, Any]) -> None:
    assert service["restart"] in {"unless-stopped", "on-failure"}
    assert service["healthcheck"]["test"]
    assert service["mem_limit"]


def test_a_service_waits_for_the_health_of_those_that_it_needs(service: dict[str, Any]) -> None:
    for needed in service.get("depends_on", {}).values():
        assert needed == {"condition": "service_healthy"}


def test_ports_are_those_of_this_machine_alone_unless_a_variable_says_otherwise(
    service: dict[str, Any],
) -> None:
    for port in service.get("ports", ()):
        assert re.fullmatch(r"\$\{BIND_ADDRESS:-127\.0\.0\.1\}:\$\{[A-Z_]+_PORT:-\d+\}:\d+", port)


def test_every_named_volume_is_used_and_declared() -> None:
    used = {
        volume.partition(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", ())
        if not volume.startswith(".")
    }
    assert used == FILE["volumes"].keys()


def test_no_application_gets_roots_password() -> None:
    having = [name for name, service in SERVICES.items() if "ROOT_PASSWORD" in str(service)]
    assert having == ["mysql"]


def test_the_dashboard_does_not_get_the_pipelines_password() -> None:
    assert "${MYSQL_PASSWORD" not in str(SERVICES["dashboard"])


def test_passwords_must_be_given() -> None:
    named = re.findall(r"\$\{(\w*MYSQL\w*PASSWORD)(:\?|:-|\})", TEXT)
    assert {name for name, _ in named} == {
        "MYSQL_PASSWORD",
        "DASHBOARD_MYSQL_PASSWORD",
        "MYSQL_ROOT_PASSWORD",
    }
    assert {operator for _, operator in named} == {":?"}


def test_every_default_is_that_of_the_code_and_of_the_example() -> None:
    defaults = {name.upper(): field.default for name, field in Settings.model_fields.items()}
    for name, default in re.findall(r"\$\{(\w+):-([^}]*)\}", TEXT):
        expected = NAMES_BETWEEN_CONTAINERS.get(name, EXAMPLE[name])
        if default:
            assert default == expected, name
        if default and name in defaults and name not in {*NAMES_BETWEEN_CONTAINERS, "DASHBOARD_MYSQL_USER"}:
            assert default == str(defaults[name]), name


def test_every_variable_is_in_the_example() -> None:
    assert {name for name, _ in re.findall(r"\$\{(\w+)(:[-?])", TEXT)} <= EXAMPLE.keys()
