"""The rules file and the reasons that rules give."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from fraudstream.rules import AmountOver, RulesError, in_words, load_rules, model_reason, to_json


def test_the_shipped_rule_is_more_than_2000() -> None:
    assert load_rules().amount_over == AmountOver("AMOUNT_OVER_2000", 200_000)


@pytest.mark.parametrize(
    ("limit", "cents"), [("0", 0), ("1500", 150_000), ("99.95", 9_995), ("'12.30'", 1_230)]
)
def test_a_limit_is_read_in_cents(limit: str, cents: int, tmp_path: Path) -> None:
    rules = rules_file(tmp_path, f"amount_over: {{code: X, limit: {limit}}}")
    assert load_rules(rules).amount_over == AmountOver("X", cents)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "amount_over:",
        "amount_over: 2000",
        "other: {code: X, limit: 1}",
        "amount_over: {limit: 1}",
        "amount_over: {code: X}",
        "amount_over: {code: X, limit: many}",
        "amount_over: {code: X, limit: }",
        "amount_over: {code: X, limit: true}",
        "amount_over: {code: X, limit: [1]}",
        "amount_over: {code: X, limit: -1}",
        "amount_over: {code: X, limit: 1.005}",
        "amount_over: {code: X, limit: .inf}",
        "amount_over: {code: X, limit: .nan}",
    ],
)
def test_an_unusable_entry_is_named(text: str, tmp_path: Path) -> None:
    with pytest.raises(RulesError, match=r"^rules\.yaml: amount_over"):
        load_rules(rules_file(tmp_path, text))


def test_a_file_that_is_no_yaml_is_named(tmp_path: Path) -> None:
    with pytest.raises(RulesError, match=r"(?s)^rules\.yaml: not YAML: .*line 1"):
        load_rules(rules_file(tmp_path, "amount_over: ["))


def rules_file(folder: Path, text: str) -> Path:
    path = folder / "rules.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_reasons_carry_their_numbers_and_read_as_words() -> None:
    reasons = [load_rules().amount_over.reason(241_000), model_reason(0.97123456, 0.93)]
    assert reasons == [
        {"code": "AMOUNT_OVER_2000", "amount": 2410.0, "limit": 2000.0},
        {"code": "MODEL", "score": 0.9712, "threshold": 0.93},
    ]
    assert orjson.loads(to_json(reasons)) == reasons
    assert in_words(to_json(reasons)) == (
        "Amount 2,410.00 is over 2,000.00; Model score 0.97, threshold 0.93"
    )


def test_no_reasons_are_no_words_and_an_unknown_code_stays() -> None:
    assert in_words(None) == ""
    assert in_words('[{"code": "FROM_THE_FUTURE", "count": 3}]') == "FROM_THE_FUTURE"
