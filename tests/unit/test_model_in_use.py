"""What the dashboard is told of the model that decides, also when the database is away for a moment."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fraudstream import streaming
from fraudstream.model_store import ModelError
from fraudstream.streaming import _ModelInUse


class Models:
    """The models' folder and the database's row on them, both made up."""

    def __init__(self) -> None:
        self.current: str | None = "1"
        self.broken: set[str] = set()
        self.database_is_away = False
        self.told: list[tuple[str, str]] = []

    def current_version(self, _folder: Path) -> str | None:
        return self.current

    def load(self, _folder: Path) -> Any:
        if self.current in self.broken:
            raise ModelError(f"{self.current} is broken")
        return self.current and SimpleNamespace(metadata=SimpleNamespace(version=self.current))

    def set_status(self, _engine: object, _component: str, state: str, message: str) -> None:
        if self.database_is_away:
            raise ConnectionError("away")
        self.told.append((state, message))


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> Models:
    models = Models()
    monkeypatch.setattr(streaming.model_store, "current_version", models.current_version)
    monkeypatch.setattr(streaming.model_store, "load", models.load)
    monkeypatch.setattr(streaming, "set_status", models.set_status)
    return models


def in_use() -> _ModelInUse:
    context = SimpleNamespace(broadcast=lambda _judge: SimpleNamespace(destroy=lambda: None))
    return _ModelInUse(SimpleNamespace(sparkContext=context), Path())  # type: ignore[arg-type]


def refresh(model: _ModelInUse) -> None:
    model.refresh(None)  # type: ignore[arg-type]


def test_each_change_is_told_once(models: Models) -> None:
    model = in_use()
    for current in ("1", "1", "2", "2"):
        models.current = current
        refresh(model)
    assert models.told == [("ok", "model 1"), ("ok", "model 2")]


@pytest.mark.parametrize(("current", "told"), [("2", ("ok", "model 2")), ("bad", ("error", "bad is broken"))])
def test_what_the_database_did_not_take_is_told_again(
    models: Models, current: str, told: tuple[str, str]
) -> None:
    model = in_use()
    refresh(model)
    models.current, models.broken, models.database_is_away = current, {"bad"}, True
    for _ in range(2):
        with pytest.raises(ConnectionError):
            refresh(model)
    models.database_is_away = False
    refresh(model)
    refresh(model)
    assert models.told == [("ok", "model 1"), told]


def test_a_model_that_cannot_be_used_is_told_until_the_present_one_is_the_current_again(
    models: Models,
) -> None:
    model = in_use()
    models.broken = {"2"}
    for current in ("1", "2", "2", "1", "1"):
        models.current = current
        refresh(model)
        assert model.version == "1"
    assert models.told == [("ok", "model 1"), ("error", "2 is broken"), ("ok", "model 1")]


def test_without_a_model_the_rules_decide(models: Models) -> None:
    models.current = None
    refresh(in_use())
    assert models.told == [("warning", "no model: the rules alone decide")]
