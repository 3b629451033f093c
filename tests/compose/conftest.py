"""docker-compose.yml itself, brought up in a copy of the project after nothing but `cp .env.example .env`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from fraudstream.config import Settings
from fraudstream.store.engine import make_engine
from tests.support.compose import Compose, copy_project, engine_answers

PROJECT = "fraudstream-test"


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's files with `.env.example` as `.env`, in a folder that names the Compose project."""
    if not engine_answers():
        pytest.fail("no Docker engine answers: start one, or set DOCKER_HOST", pytrace=False)
    folder = tmp_path_factory.mktemp("checkout") / PROJECT
    folder.mkdir()
    copy_project(folder)
    shutil.copy(folder / ".env.example", folder / ".env")
    Compose(folder).build()
    return folder


@pytest.fixture(scope="module")
def compose(checkout: Path) -> Iterator[Compose]:
    """What a killed run left is removed first, and at the end all."""
    compose = Compose(checkout)
    compose.down("-v", "--remove-orphans")
    try:
        yield compose
    finally:
        compose.down("-v", "--remove-orphans")


@pytest.fixture(scope="module")
def settings(compose: Compose) -> Settings:
    """What `.env` alone says."""
    return Settings(_env_file=compose.folder / ".env")


@pytest.fixture(scope="module")
def engine(settings: Settings) -> Iterator[Engine]:
    """The database of the containers, by the pipeline's account."""
    engine = make_engine(settings.database_url)
    yield engine
    engine.dispose()
