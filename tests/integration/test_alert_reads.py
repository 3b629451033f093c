"""Queue, cases and detection figures equal pandas over all rows, with reviews, imports and late rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import numpy as np
import orjson
import pandas as pd
import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.engine import make_url

from fraudstream.labels import Label
from fraudstream.reviews import Reviewer
from fraudstream.schema import SCORE_BINS
from fraudstream.store.labels import import_labels
from fraudstream.store.migrate import migrate
from fraudstream.store.reads import cases, detection, queue
from fraudstream.store.reads.queue import Queue, Wanted, read_queue
from fraudstream.store.reads.snapshot import open_engine, snapshot
from fraudstream.store.reviews import Seen, review, undo
from tests.support.transactions import Judged, random_transactions, store

START = datetime.fromisoformat("2026-03-01")
UTC = ZoneInfo("UTC")
ANN = Reviewer("ann")
TRAVEL = orjson.dumps([{"code": "IMPOSSIBLE_TRAVEL", "km": 500.0, "kmh": 2000.0, "limit": 900, "ratio": 1}])


@dataclass(frozen=True)
class Filled:
    """A filled database, and all its rows with the outcome that counts, as the test's own code finds it."""

    engine: Engine
    rows: pd.DataFrame

    @property
    def alerts(self) -> pd.DataFrame:
        flagged = self.rows[self.rows["Is_Fraud"] == "YES"]
        return flagged.sort_values(["Time", "alert_id"], ascending=False)


@pytest.fixture(scope="module")
def filled(new_database: Callable[[], str]) -> Iterator[Filled]:
    engine = open_engine(make_url(new_database()))
    migrate(engine)
    rows = random_transactions(2_000, seed=5, start=START, days=40)
    rng = np.random.default_rng(1)
    scored = [
        Judged(**{**vars(row), "score": float(score), "model_version": version})
        for row, score, version in zip(
            rows, rng.random(len(rows)), rng.choice(["one", "two"], len(rows)), strict=True
        )
    ]
    travels = [
        Judged(f"travel{n}", f"U{n}", Decimal(10), START + timedelta(days=n), reasons=TRAVEL.decode())
        for n in range(5)
    ]
    store(engine, scored[:1_500])
    store(engine, [*travels, *scored[1_500:]])  # late rows among them
    label(engine, [row.transaction_id for row in [*scored, *travels]])
    yield Filled(engine, all_rows(engine))
    engine.dispose()


def label(engine: Engine, ids: list[str]) -> None:
    """Imports of two sources that contradict each other in part, reviews after them, some undone."""
    known = START + timedelta(days=50)
    import_labels(engine, [Label(each, "fraud", known) for each in ids[::3]], source="bank")
    import_labels(
        engine,
        [Label(each, "legitimate", known + timedelta(days=n % 3 - 1)) for n, each in enumerate(ids[::4])],
        source="shop",
    )
    for number, each in enumerate(ids[::100]):
        review(engine, Seen(each, 0), "legitimate" if number % 2 else "fraud", f"n{number}", by=ANN, zone=UTC)
        if number % 3 == 0:
            undo(engine, Seen(each, 1), by=ANN)


def all_rows(engine: Engine) -> pd.DataFrame:
    alerts = "(SELECT TransactionID, alert_id FROM alerts) AS a"
    with engine.connect() as connection:
        rows = pd.read_sql(
            text(f"SELECT * FROM clean_data LEFT JOIN {alerts} USING (TransactionID)"), connection
        )
        said = pd.read_sql(text("SELECT * FROM labels WHERE label <> 'withdrawn'"), connection)
    said["fraud"] = said["label"] == "fraud"
    last = said.sort_values(["known_at", "fraud"]).drop_duplicates("TransactionID", keep="last")
    state = last.set_index("TransactionID")["label"]
    return rows.assign(state=rows["TransactionID"].map(state).fillna("new"))


def read(filled: Filled, wanted: Wanted, **other: object) -> Queue:
    with snapshot(filled.engine) as connection:
        return read_queue(connection, wanted, **other)  # type: ignore[arg-type]


def all_of(filled: Filled, wanted: Wanted) -> list[str]:
    """The queue's TransactionIDs, page by page to its end."""
    found: list[str] = []
    behind = None
    while True:
        page = read(filled, wanted, behind=behind, rows=7)
        found += page.rows["TransactionID"].tolist()
        behind = page.next
        if behind is None:
            return found


def matching(filled: Filled, wanted: Wanted) -> list[str]:
    rows = filled.alerts
    if wanted.state:
        rows = rows[rows["state"] == wanted.state]
    if wanted.code:
        rows = rows[rows["reasons"].str.contains(f'"{wanted.code}"', regex=False)]
    return rows["TransactionID"].tolist()


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(),
        Wanted("new"),
        Wanted("fraud"),
        Wanted("legitimate"),
        Wanted(code="IMPOSSIBLE_TRAVEL"),
        Wanted("new", code="AMOUNT_OVER_2000"),
        Wanted(code="NO_SUCH_CODE"),
    ],
    ids=str,
)
def test_the_queue_has_every_alert_once_the_newest_first(filled: Filled, wanted: Wanted) -> None:
    expected = matching(filled, wanted)
    assert all_of(filled, wanted) == expected
    assert bool(expected) is (wanted.code != "NO_SUCH_CODE")


def test_a_short_window_is_gone_through_piece_by_piece(
    filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "LOOKED_AT", 3)
    monkeypatch.setattr(queue, "SEARCHED", 2)
    for wanted in (Wanted("legitimate"), Wanted(code="IMPOSSIBLE_TRAVEL")):
        first = read(filled, wanted)
        assert len(first.rows) <= 3
        assert first.next is not None
        assert all_of(filled, wanted) == matching(filled, wanted)


def test_an_export_goes_on_behind_the_first_window_as_far_as_it_says(
    filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "LOOKED_AT", 3)
    wanted = Wanted("legitimate")
    assert exported(filled, wanted) == matching(filled, wanted)
    monkeypatch.setattr(queue, "EXPORTED_ROWS", 7)
    assert exported(filled, wanted) == matching(filled, wanted)[:7]
    monkeypatch.setattr(queue, "EXPORT_LOOKED_AT", 9)
    newest = filled.alerts["TransactionID"].tolist()[:9]
    assert exported(filled, wanted) == [each for each in matching(filled, wanted) if each in newest]


def exported(filled: Filled, wanted: Wanted) -> list[str]:
    with snapshot(filled.engine) as connection:
        return queue.read_export(connection, wanted)["TransactionID"].tolist()


def test_a_row_shows_the_word_that_counts_and_the_review(filled: Filled) -> None:
    everything = read(filled, Wanted(), rows=1_000).rows.set_index("TransactionID")
    expected = filled.alerts.set_index("TransactionID")["state"]
    assert everything["state"].to_dict() == expected.to_dict()
    reviewed = everything[everything["version"] == 1]
    assert set(reviewed["source"]) == {"review"}
    assert set(reviewed["by"]) == {"ann"}
    assert reviewed["note"].str.match(r"n\d+").all()


@pytest.mark.parametrize(
    ("search", "column", "found"),
    [("U007", "UserID", "U007"), ("giza", "Location", "Giza"), ("amaz", "Merchant", "Amazon")],
)
def test_a_search_finds_user_city_and_merchant(filled: Filled, search: str, column: str, found: str) -> None:
    expected = filled.alerts[filled.alerts[column] == found]["TransactionID"].tolist()
    assert all_of(filled, Wanted(search=search)) == expected
    assert expected


def test_a_search_finds_a_transaction_by_its_id_and_a_reason_by_its_words(filled: Filled) -> None:
    one = filled.alerts["TransactionID"].iloc[-1]
    assert all_of(filled, Wanted(search=one)) == [one]
    assert sorted(all_of(filled, Wanted(search="impossible travel"))) == [f"travel{n}" for n in range(5)]
    for nothing in ("%", "_", "/", "no such thing", "'; DROP TABLE labels; --"):
        assert all_of(filled, Wanted(search=nothing)) in ([], all_of(filled, Wanted(search=nothing)))


def test_wildcards_of_the_server_are_letters_like_any_other(filled: Filled) -> None:
    assert all_of(filled, Wanted(search="%")) == []
    assert all_of(filled, Wanted(search="A_azon")) == []


def test_new_alerts_are_counted_from_a_known_one_on(filled: Filled) -> None:
    ids = sorted(filled.alerts["alert_id"])
    with snapshot(filled.engine) as connection:
        assert queue.last_alert_id(connection) == ids[-1]
        assert queue.alerts_since(connection, int(ids[-4])) == 3
        assert queue.alerts_since(connection, 0, most=10) == 10
        assert queue.reason_codes(connection) == ("AMOUNT_OVER_2000", "IMPOSSIBLE_TRAVEL")


def test_a_case_has_the_users_thirty_days_and_earlier_alerts(filled: Filled) -> None:
    one = filled.alerts.iloc[len(filled.alerts) // 2]
    with snapshot(filled.engine) as connection:
        case = cases.read_case(connection, one["TransactionID"])
        assert cases.read_case(connection, "nowhere") is None
    assert case is not None
    assert (case.transaction.user_id, case.transaction.flagged) == (one["UserID"], True)
    own = filled.rows[filled.rows["UserID"] == one["UserID"]]
    within = own[own["Time"].between(one["Time"] - cases.LOOK_BACK, one["Time"] + cases.LOOK_AHEAD)]
    in_order = within.sort_values(["Time", "TransactionID"])
    assert case.history.frame["TransactionID"].tolist() == in_order["TransactionID"].tolist()
    assert case.history.frame["state"].tolist() == in_order["state"].tolist()
    assert not case.history.cut
    others = own[(own["Is_Fraud"] == "YES") & (own["TransactionID"] != one["TransactionID"])]
    assert sorted(case.alerts.frame["TransactionID"]) == sorted(others["TransactionID"])
    assert case.alerts.frame["Time"].is_monotonic_decreasing
    assert not case.alerts.cut


@pytest.fixture(scope="module")
def burst(new_database: Callable[[], str]) -> Iterator[Connection]:
    """A user with five calm days, a transaction T at noon, two others in its second, and ten soon after."""
    engine = open_engine(make_url(new_database()))
    migrate(engine)
    noon = START + timedelta(days=60, hours=12)
    times = {
        "too-early": noon - cases.LOOK_BACK - timedelta(seconds=1),
        **{f"day{number}": noon - timedelta(days=5 - number) for number in range(5)},
        **dict.fromkeys(("A", "T", "Z"), noon),
        **{f"soon{number}": noon + timedelta(minutes=1 + number) for number in range(10)},
        "too-late": noon + cases.LOOK_AHEAD + timedelta(seconds=1),
    }
    store(engine, [Judged(called, "busy", Decimal(5_000), time) for called, time in times.items()])
    with snapshot(engine) as connection:
        yield connection
    engine.dispose()


DAYS = [f"day{number}" for number in range(5)]
SOON = [f"soon{number}" for number in range(10)]


@pytest.mark.parametrize(
    ("most", "before", "after", "cut", "cut_after"),
    [
        (12, DAYS, ["Z", *SOON], False, False),
        (11, DAYS, ["Z", *SOON[:-1]], False, True),
        (5, DAYS, ["Z", *SOON[:3]], False, True),
        (4, DAYS[1:], ["Z", *SOON[:2]], True, True),
        (2, DAYS[3:], ["Z"], True, True),
    ],
)
def test_however_much_follows_the_transaction_is_there_with_what_was_before(
    burst: Connection,
    monkeypatch: pytest.MonkeyPatch,
    most: int,
    before: list[str],
    after: list[str],
    cut: bool,
    cut_after: bool,
) -> None:
    monkeypatch.setattr(cases, "HISTORY_ROWS", most)
    case = cases.read_case(burst, "T")
    assert case is not None
    assert case.history.frame["TransactionID"].tolist() == [*before, "A", "T", *after]
    assert (case.history.cut, case.history.cut_after) == (cut, cut_after)


def test_a_last_transaction_has_all_before_it_and_nothing_after(
    burst: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cases, "HISTORY_ROWS", 3)
    case = cases.read_case(burst, "too-late")
    assert case is not None
    assert case.history.frame["TransactionID"].tolist() == [*SOON[-3:], "too-late"]
    assert (case.history.cut, case.history.cut_after) == (True, False)


@pytest.mark.parametrize(
    ("most", "others_cut", "all_cut"), [(20, False, False), (19, False, True), (18, True, True)]
)
def test_alerts_that_are_not_all_there_are_said_to_be_cut(
    burst: Connection, monkeypatch: pytest.MonkeyPatch, most: int, others_cut: bool, all_cut: bool
) -> None:
    monkeypatch.setattr(cases, "ALERT_ROWS", most)
    case, user = cases.read_case(burst, "T"), cases.read_user(burst, "busy")
    assert case is not None and user is not None
    assert (len(case.alerts.frame), case.alerts.cut) == (min(most, 19), others_cut)
    assert (len(user.alerts.frame), user.alerts.cut) == (min(most, 20), all_cut)


def test_a_user_with_too_many_transactions_is_cut_and_says_so(
    filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cases, "HISTORY_ROWS", 3)
    with snapshot(filled.engine) as connection:
        user = cases.read_user(connection, "U007")
        assert cases.read_user(connection, "nobody") is None
    own = filled.rows[filled.rows["UserID"] == "U007"].sort_values(["Time", "TransactionID"])
    assert user is not None
    assert (user.transactions, user.first, user.last) == (len(own), own["Time"].min(), own["Time"].max())
    assert user.flagged == (own["Is_Fraud"] == "YES").sum()
    assert (user.history.frame["TransactionID"].tolist(), user.history.cut) == (
        own["TransactionID"].tolist()[-3:],
        True,
    )


@pytest.mark.parametrize("days", [None, 7, 1])
def test_detection_figures_equal_all_rows(filled: Filled, days: int | None) -> None:
    with snapshot(filled.engine) as connection:
        covered = detection.days_covered(connection)
        assert covered is not None
        span = detection.newest_days(covered, days)
        found = detection.read_detection(connection, span)
    day = filled.rows["Time"].dt.date
    rows = filled.rows[(day >= span.first) & (day <= span.last)]
    assert span.days == days or days is None
    flagged = rows[rows["Is_Fraud"] == "YES"]
    assert (found.transactions, found.alerts) == (len(rows), len(flagged))
    assert (found.looked_at, found.since) == (len(flagged), None)

    codes = flagged.assign(
        code=[[each["code"] for each in orjson.loads(reasons)] for reasons in flagged["reasons"]]
    ).explode("code")
    for row in found.rules.itertuples():
        of_code = codes[codes["code"] == row.code]
        outcomes = [(of_code["state"] == outcome).sum() for outcome in ("fraud", "legitimate")]
        assert [row.flagged, row.fraud, row.legitimate] == [len(of_code), *outcomes], row.code
    assert set(found.rules["code"]) == set(codes["code"])

    known = flagged[flagged["state"] != "new"]
    for outcome in ("fraud", "legitimate"):
        assert found.outcomes[outcome].sum() == (known["state"] == outcome).sum()
        by_day = known[known["state"] == outcome].groupby(known["Time"].dt.date).size()
        got = found.outcomes.set_index("day")[outcome]
        assert got[got > 0].to_dict() == by_day.to_dict()

    for version in ("one", "two"):
        scores = rows[rows["model_version"] == version]["score"]
        expected = np.histogram(scores, SCORE_BINS, (0, 1))[0].tolist()
        assert found.scores.get(version, [0] * SCORE_BINS) == expected


def test_of_very_many_alerts_the_outcomes_of_the_newest_are_read(
    filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = filled.alerts.iloc[:20]
    since = newest["Time"].iloc[-1]
    newest = filled.alerts[filled.alerts["Time"] >= since]
    monkeypatch.setattr(detection, "MOST_WITH_LABELS", 20)
    with snapshot(filled.engine) as connection:
        covered = detection.days_covered(connection)
        assert covered is not None
        found = detection.read_detection(connection, covered)
    assert (found.alerts, found.looked_at, found.since) == (len(filled.alerts), len(newest), since)
    for outcome in ("fraud", "legitimate"):
        assert found.outcomes[outcome].sum() == (newest["state"] == outcome).sum()
    assert 0 < found.outcomes["legitimate"].sum() < (filled.alerts["state"] == "legitimate").sum()


def test_counts_by_day_are_made_up_for_a_database_of_before(filled: Filled) -> None:
    tables = {"rule_daily": "flagged", "score_daily": "transactions"}

    def rows() -> list[list[tuple]]:
        with filled.engine.connect() as connection:
            return [sorted(map(tuple, connection.execute(text(f"SELECT * FROM {each}")))) for each in tables]

    counted = rows()
    assert all(counted)
    with filled.engine.begin() as connection:
        for each, counter in tables.items():
            connection.execute(text(f"UPDATE {each} SET {counter} = 7"))
        connection.execute(text("UPDATE alembic_version SET version_num = '0002'"))
    migrate(filled.engine)
    assert rows() == counted
