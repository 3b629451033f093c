"""The rules file, the rules on features, and the reasons that they and the model give."""

from __future__ import annotations

import pickle
from decimal import Decimal
from pathlib import Path

import numpy as np
import orjson
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fraudstream.features import FEATURE_NAMES
from fraudstream.rules import (
    FEATURE_PHRASES,
    RULES_FILE,
    AmountOver,
    Reason,
    Rules,
    RulesError,
    in_words,
    load_rules,
    model_reason,
    to_json,
)

AMOUNT, VELOCITY, TRAVEL = "AMOUNT_OVER_2000", "VELOCITY_5M", "IMPOSSIBLE_TRAVEL"
DEVICE, MERCHANT = "NEW_DEVICE_HIGH_AMOUNT", "RISKY_MERCHANT"

# Features of a transaction that breaks the rule and no other one, under the shipped thresholds.
BREAKS = {
    AMOUNT: {"Amount": 2410.0},
    VELOCITY: {"tx_count_5m": 6},
    TRAVEL: {"travel_km": 480.04, "travel_kmh": 1920.16, "amount_ratio": 1.8},
    DEVICE: {"device_new": 1, "amount_ratio": 5.204, "tx_count_30d": 12, "Amount": 910.5},
    MERCHANT: {"merchant_frauds_30d": 4, "merchant_fraud_share_30d": 4 / 7},
}


def row(**values: float) -> np.ndarray:
    """The features of one transaction; those that are not named are of one like any other."""
    usual = dict.fromkeys(FEATURE_NAMES, 0.0) | {"Amount": 50.0, "amount_ratio": 1.0}
    assert not values.keys() - usual.keys()
    return np.array(list((usual | values).values()), dtype=np.float64)


SHIPPED = load_rules()


def judge(**values: float) -> list[Reason]:
    features = row(**values)
    return SHIPPED.reasons(features, SHIPPED.broken(features[None])[0])


def codes(**values: float) -> list[str]:
    return [reason["code"] for reason in judge(**values)]


def rules_file(folder: Path, text: str) -> Path:
    path = folder / "rules.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_usual_transaction_breaks_no_rule() -> None:
    assert codes() == []


@pytest.mark.parametrize(
    ("code", "values", "broken"),
    [
        (AMOUNT, {"Amount": 2000.00}, False),
        (AMOUNT, {"Amount": 2000.01}, True),
        (AMOUNT, {"Amount": 999_999_999_999.99}, True),
        (VELOCITY, {"tx_count_5m": 3}, False),
        (VELOCITY, {"tx_count_5m": 4}, True),
        (TRAVEL, {"travel_kmh": 900.0}, False),
        (TRAVEL, {"travel_kmh": np.nextafter(900.0, 901)}, True),
        (TRAVEL, {"travel_km": np.nextafter(100.0, 99)}, False),
        (TRAVEL, {"travel_km": 100.0}, True),
        (TRAVEL, {"amount_ratio": np.nextafter(1.5, 1)}, False),
        (TRAVEL, {"amount_ratio": 1.5}, True),
        (DEVICE, {"device_new": 0}, False),
        (DEVICE, {"amount_ratio": 3.0}, False),
        (DEVICE, {"amount_ratio": np.nextafter(3.0, 4)}, True),
        (DEVICE, {"tx_count_30d": 4}, False),
        (DEVICE, {"tx_count_30d": 5}, True),
        (MERCHANT, {"merchant_frauds_30d": 2}, False),
        (MERCHANT, {"merchant_frauds_30d": 3}, True),
        (MERCHANT, {"merchant_fraud_share_30d": 0.3}, False),
        (MERCHANT, {"merchant_fraud_share_30d": np.nextafter(0.3, 1)}, True),
    ],
)
def test_each_shipped_threshold_parts_at_and_just_over_it(
    code: str, values: dict[str, float], broken: bool
) -> None:
    assert codes(**(BREAKS[code] | values)) == ([code] if broken else [])


@given(st.integers(0, 99_999_999_999_999), st.integers(-2, 2))
def test_amounts_are_compared_in_whole_cents(limit_cents: int, more: int) -> None:
    cents = max(limit_cents + more, 0)
    rule = AmountOver(code="X", limit=Decimal(limit_cents).scaleb(-2))
    assert rule.broken(row(Amount=cents / 100)[None]).tolist() == [cents > limit_cents]


@pytest.mark.parametrize(
    ("code", "numbers", "words"),
    [
        (
            AMOUNT,
            {"amount": 2410.0, "limit": 2000.0},
            "Amount 2,410.00 is over 2,000.00",
        ),
        (
            VELOCITY,
            {"count": 7, "limit": 4},
            "7 transactions in 5 minutes, more than 4",
        ),
        (
            TRAVEL,
            {"km": 480.0, "kmh": 1920.2, "limit": 900.0, "ratio": 1.8},
            "480 km in the time since the last transaction: 1,920 km/h, over 900, "
            "with 1.8 times the usual amount",
        ),
        (
            DEVICE,
            {"ratio": 5.2, "limit": 3.0, "amount": 910.5},
            "New device and 5.2 times the usual amount (limit 3)",
        ),
        (
            MERCHANT,
            {"frauds": 4, "share": 0.5714, "limit": 0.3},
            "Merchant had 4 confirmed frauds in 30 days (estimated share 57%, limit 30%)",
        ),
    ],
)
def test_a_reason_has_its_numbers_and_reads_as_words(code: str, numbers: Reason, words: str) -> None:
    reasons = judge(**BREAKS[code])
    assert reasons == [{"code": code, **numbers}]
    assert {type(value) for value in numbers.values()} <= {int, float}
    assert [type(reasons[0][name]) for name in numbers] == [type(value) for value in numbers.values()]
    assert orjson.loads(to_json(reasons)) == reasons
    assert in_words(to_json(reasons)) == words


def test_reasons_are_in_the_order_of_the_rules_and_joined() -> None:
    everything = {name: value for values in BREAKS.values() for name, value in values.items()}
    reasons = judge(**(everything | {"Amount": 2410.0}))
    assert tuple(reason["code"] for reason in reasons) == load_rules().codes
    assert in_words(to_json(reasons[:2])) == (
        "Amount 2,410.00 is over 2,000.00; 7 transactions in 5 minutes, more than 4"
    )


# Around every shipped threshold, and far from all.
VALUES = st.one_of(
    st.sampled_from([0.0, 0.3, 1.0, 1.5, 3.0, 4.0, 5.0, 100.0, 900.0, 2000.0]), st.floats(0, 1e6)
)


@given(st.lists(st.fixed_dictionaries(dict.fromkeys(FEATURE_NAMES, VALUES)), max_size=20))
def test_many_transactions_are_judged_as_each_alone(transactions: list[dict[str, float]]) -> None:
    rules = SHIPPED
    features = np.array([row(**values) for values in transactions]).reshape(-1, len(FEATURE_NAMES))
    broken = rules.broken(features)
    assert (broken.shape, broken.dtype) == ((len(transactions), len(rules.codes)), np.bool_)
    for features_of_one, broken_row, values in zip(features, broken, transactions, strict=True):
        assert broken_row.tolist() == [code in codes(**values) for code in rules.codes]
        found = rules.reasons(features_of_one, broken_row)
        assert [reason["code"] for reason in found] == [
            code for code, is_broken in zip(rules.codes, broken_row, strict=True) if is_broken
        ]
        assert orjson.loads(to_json(found)) == found
        assert in_words(to_json(found)).count("; ") == max(len(found) - 1, 0)


def test_rules_reach_the_executors_as_they_are() -> None:
    rules = load_rules()
    assert pickle.loads(pickle.dumps(rules)) == rules


def shipped() -> dict[str, dict[str, object]]:
    return yaml.safe_load(RULES_FILE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", sorted(shipped().keys() - {"amount_over"}))
def test_a_rule_without_an_entry_is_off(name: str, tmp_path: Path) -> None:
    entries = shipped()
    code = entries.pop(name)["code"]
    rules = load_rules(rules_file(tmp_path, yaml.safe_dump(entries, sort_keys=False)))
    assert rules.codes == tuple(other for other in load_rules().codes if other != code)
    assert not rules.broken(row(**BREAKS[str(code)])[None]).any()


def test_the_thresholds_and_the_order_are_the_files(tmp_path: Path) -> None:
    text = "velocity: {code: BUSY, limit: 1}\namount_over: {code: X, limit: 10}"
    rules = load_rules(rules_file(tmp_path, text))
    features = row(Amount=10.01, tx_count_5m=1)
    assert rules.reasons(features, rules.broken(features[None])[0]) == [
        {"code": "BUSY", "count": 2, "limit": 1},
        {"code": "X", "amount": 10.01, "limit": 10.0},
    ]


@pytest.mark.parametrize("limit", ["0", "1500", "99.95", "'12.30'"])
def test_a_limit_of_an_amount_is_read_as_it_is_written(limit: str, tmp_path: Path) -> None:
    rules = rules_file(tmp_path, f"amount_over: {{code: X, limit: {limit}}}")
    assert load_rules(rules) == Rules((AmountOver(code="X", limit=Decimal(limit.strip("'"))),))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "amount_over:",
        "amount_over: 2000",
        "velocity: {code: X, limit: 1}",
        "amount_over: {limit: 1}",
        "amount_over: {code: X}",
        "amount_over: {code: 5, limit: 1}",
        "amount_over: {code: '', limit: 1}",
        "amount_over: {code: X, limit: many}",
        "amount_over: {code: X, limit: }",
        "amount_over: {code: X, limit: true}",
        "amount_over: {code: X, limit: [1]}",
        "amount_over: {code: X, limit: -1}",
        "amount_over: {code: X, limit: 1.005}",
        "amount_over: {code: X, limit: .inf}",
        "amount_over: {code: X, limit: .nan}",
        "amount_over: {code: X, limit: 1, unit: EGP}",
    ],
)
def test_an_unusable_amount_over_is_named(text: str, tmp_path: Path) -> None:
    with pytest.raises(RulesError, match=r"^rules\.yaml: amount_over.*(needs|must be)"):
        load_rules(rules_file(tmp_path, text))


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        (
            "velocty: {code: X, limit: 1}",
            "velocty is no rule; there are amount_over, velocity, impossible_travel, "
            "new_device_high_amount, risky_merchant",
        ),
        ("7: {code: X, limit: 1}", "7 is no rule"),
        (
            "velocity:",
            "velocity needs `code` (a text of capital letters, digits and underscores) and `limit`",
        ),
        ("velocity:", "to switch the rule off, leave out its name, too"),
        ("velocity: {code: X}", "velocity.limit is missing: it must be a whole number from 0 to 1,000,000"),
        (
            "velocity: {code: X, limit: 1.5}",
            "velocity.limit must be a whole number from 0 to 1,000,000, not 1.5",
        ),
        ("velocity: {code: X, limit: true}", "velocity.limit must be a whole number"),
        ("velocity: {code: X, limit: 4, span: 5}", "velocity has no span; it needs `code`"),
        ("velocity: {code: low, limit: 4}", "velocity.code must be a text of capital letters"),
        ("velocity: {code: A, limit: 4}", "velocity.code must be its own: A is that of amount_over"),
        ("velocity: {code: MODEL, limit: 4}", "velocity.code must be its own: MODEL is that of the model"),
        (
            "velocity: {code: RISKY_MERCHANT, limit: 4}",
            "velocity.code must be its own: RISKY_MERCHANT is that of risky_merchant",
        ),
        (
            "impossible_travel: {code: X, limit_kmh: fast, at_least_km: -1, at_least_ratio: .inf}",
            "impossible_travel.limit_kmh must be a number of 0 or more, not 'fast'\n"
            "rules.yaml: impossible_travel.at_least_km must be a number of 0 or more, not -1\n"
            "rules.yaml: impossible_travel.at_least_ratio must be a number of 0 or more, not inf",
        ),
        (
            "new_device_high_amount: {code: X, limit: 3, at_least_history: few}",
            "new_device_high_amount.at_least_history must be a whole number from 0 to 1,000,000, not 'few'",
        ),
        (
            "risky_merchant: {code: X, limit: 30, at_least_frauds: 3}",
            "risky_merchant.limit must be a share from 0 to 1, not 30",
        ),
        ("risky_merchant: {code: X, limit: .nan, at_least_frauds: 3}", "risky_merchant.limit must be"),
    ],
)
def test_an_unknown_or_unusable_entry_is_named_with_what_it_needs(
    entry: str, problem: str, tmp_path: Path
) -> None:
    with pytest.raises(RulesError) as caught:
        load_rules(rules_file(tmp_path, f"amount_over: {{code: A, limit: 1}}\n{entry}"))
    assert str(caught.value).startswith("rules.yaml: ")
    assert problem in str(caught.value)


def test_a_file_that_is_no_yaml_is_named(tmp_path: Path) -> None:
    with pytest.raises(RulesError, match=r"(?s)^rules\.yaml: not YAML: .*line 1"):
        load_rules(rules_file(tmp_path, "amount_over: ["))


def test_the_models_reason_has_the_largest_contribution_first() -> None:
    top = {"tx_count_5m": np.float64(0.12), "amount_zscore": 0.314159, "of_the_future": 0.05}
    reasons = [model_reason(0.97123456, 0.93, top)]
    assert reasons == [
        {
            "code": "MODEL",
            "score": 0.9712,
            "threshold": 0.93,
            "top": {"amount_zscore": 0.3142, "tx_count_5m": 0.12, "of_the_future": 0.05},
        }
    ]
    assert list(orjson.loads(to_json(reasons))[0]["top"]) == ["amount_zscore", "tx_count_5m", "of_the_future"]
    assert in_words(to_json(reasons)) == (
        "Model score 0.97, threshold 0.93, mostly because of: "
        "amount against the usual, transactions in 5 minutes, of_the_future"
    )


@pytest.mark.parametrize(
    "reason", [{"code": "MODEL", "score": 0.97, "threshold": 0.93}, model_reason(0.97, 0.93, {})]
)
def test_a_model_that_names_no_features_is_read_without_them(reason: Reason) -> None:
    assert in_words(to_json([reason])) == "Model score 0.97, threshold 0.93"


def test_every_feature_has_a_phrase_of_its_own() -> None:
    assert FEATURE_PHRASES.keys() == set(FEATURE_NAMES)
    assert len(set(FEATURE_PHRASES.values())) == len(FEATURE_NAMES)
    assert not any("_" in phrase for phrase in FEATURE_PHRASES.values())


def test_one_is_not_many() -> None:
    assert in_words('[{"code": "VELOCITY_5M", "count": 1, "limit": 0}]').startswith("1 transaction in ")
    assert " 1 confirmed fraud in " in in_words(
        '[{"code": "RISKY_MERCHANT", "frauds": 1, "share": 0.5, "limit": 0.3}]'
    )


def test_no_reasons_are_no_words_and_an_unknown_code_stays() -> None:
    assert in_words(None) == ""
    assert in_words('[{"code": "FROM_THE_FUTURE", "count": 3}]') == "FROM_THE_FUTURE"


@pytest.mark.parametrize("code", [*BREAKS, "MODEL"])
def test_a_known_code_without_its_numbers_is_an_error(code: str) -> None:
    with pytest.raises(KeyError):
        in_words(to_json([{"code": code}]))
