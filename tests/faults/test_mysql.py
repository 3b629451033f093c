"""Whatever happens to the database: the job waits it out, or says what to mend; nothing is lost or doubled.

The database is a server of the tests' own. All errors are its own, but for the full disk: that one is told by
a trigger with the number and words of a full disk (a MariaDB that really runs out of space may end itself,
which is another of the cases).
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from fraudstream.config import child_environment
from fraudstream.schema import MAX_LENGTH
from fraudstream.simulator import simulate
from fraudstream.stack import Stack
from fraudstream.store.engine import make_engine
from fraudstream.store.errors import NO_SUCH_THREAD, errno
from fraudstream.store.progress import read_progress
from tests.support.jobs import run_script, running_job
from tests.support.mysql_relay import MySQLRelay
from tests.support.own_database import OwnDatabase, own_database
from tests.support.undisturbed import open_tables, undisturbed_tables, wait_for_all
from tests.support.waiting import wait_until
from tests.support.whole_tables import Tables, assert_same_tables, metrics_total, whole_tables

pytestmark = pytest.mark.timeout(1200)

TOPIC = "transactions-of-the-database-tests"
ROWS = 1_600
AWAY_S = 60
LOCK_WAIT_S = 5
_START_S = 300


@dataclass(frozen=True)
class Backlog:
    """A topic full of transactions, and the tables that a calm run makes of it."""

    environment: Mapping[str, str]
    records: int
    tables: Tables


@pytest.fixture(scope="module")
def backlog(
    stack: Stack, new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Backlog:
    folder = tmp_path_factory.mktemp("backlog")
    csv = folder / "backlog.csv"
    arrivals = simulate(rows=ROWS, users=50, days=20, seed=11).transactions
    arrivals.to_csv(csv, index=False)
    environment = child_environment(**{**stack.addresses().environment(), "KAFKA_TOPIC": TOPIC})
    sent = run_script("producer_from_csv.py", "--file", str(csv), "--rate", "0", environment=environment)
    assert sent.returncode == 0, sent.stderr
    tables = undisturbed_tables(environment, new_database(), len(arrivals), folder / "calm.log")
    return Backlog(environment, len(arrivals), tables)


@dataclass
class Run:
    """A job at work on a database that is behind a relay."""

    database: OwnDatabase
    engine: Engine
    log: Path
    _at_commit: tuple[str, Callable[[], None]] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def committed(self) -> int:
        return read_progress(self.engine, TOPIC).accounted_for

    def wait_until_it_goes_on(self, *, timeout: float = 150) -> None:
        reached = self.committed()
        wait_until(lambda: self.committed() > reached, timeout=timeout, describe=self._end_of_log)

    @contextmanager
    def job_says(self, words: str) -> Iterator[None]:
        """At the end of the block, wait until the job's log has the words once more than at its beginning."""
        before = self._said(words)
        yield
        wait_until(lambda: self._said(words) > before, timeout=150, describe=self._end_of_log)

    def _said(self, words: str) -> int:
        return self.log.read_text(errors="replace").count(words)

    def _end_of_log(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]

    def at_next_commit(self, stage: str, action: Callable[[], None]) -> None:
        """Do it "before" the server hears of the next commit of a batch, or "after" it has answered, when the
        job has not heard yet; returns when it is done. An OSError of it ends the connection there."""
        self._at_commit = stage, action
        wait_until(lambda: self._at_commit is None, timeout=150, describe=self._end_of_log)

    def on_commit(self, stage: str) -> None:
        with self._lock:
            if self._at_commit is not None and self._at_commit[0] == stage:
                try:
                    self._at_commit[1]()
                finally:
                    self._at_commit = None


@contextmanager
def behind_a_relay(folder: Path) -> Iterator[tuple[Run, str]]:
    """A database with its tables, seen directly, and its address for the job."""
    with own_database(folder) as database:
        url = database.url
        database.execute(f"SET GLOBAL innodb_lock_wait_timeout = {LOCK_WAIT_S}")
        engine = make_engine(url, pooled=False)
        open_tables(url.render_as_string(hide_password=False)).dispose()
        run = Run(database, engine, folder / "job.log")
        assert url.host and url.port
        relay = MySQLRelay(url.host, url.port, on_commit=run.on_commit)
        relay.open()
        try:
            yield run, url.set(port=relay.port).render_as_string(hide_password=False)
        finally:
            relay.shut()


# --- what passes


def become_the_victim_of_a_deadlock(run: Run) -> None:
    """Of two transactions that wait for each other the server ends the one that has changed less."""
    with run.job_says("Deadlock found"), run.database.admin.connect() as other:
        other.execute(text("USE transactions"))
        other.execute(text("CREATE TABLE much (number BIGINT AUTO_INCREMENT PRIMARY KEY)"))
        other.commit()
        other.execute(text("INSERT INTO much VALUES (NULL)"))
        for _ in range(13):
            other.execute(text("INSERT INTO much SELECT NULL FROM much"))
        other.execute(text("SELECT * FROM pipeline_totals FOR UPDATE")).all()
        wait_until(lambda: some_wait_for_a_lock(run), timeout=60, describe="a commit waits")
        other.execute(text("SELECT * FROM kafka_offsets FOR UPDATE")).all()
        other.rollback()
    run.database.execute("DROP TABLE transactions.much")


def some_wait_for_a_lock(run: Run) -> bool:
    time.sleep(0.2)  # whoever looks more often than ten times a second gets to see the same old picture
    query = "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
    with run.database.admin.connect() as connection:
        return connection.scalar(text(query)) > 0


def wait_too_long_for_a_lock(run: Run) -> None:
    with run.database.admin.connect() as other:
        with run.job_says("Lock wait timeout exceeded"):
            other.execute(text("SELECT * FROM transactions.pipeline_totals FOR UPDATE")).all()
        other.rollback()


def find_the_server_read_only(run: Run) -> None:
    with run.job_says("cannot be used: 1290"):
        run.database.execute("SET GLOBAL read_only = 1")
    run.database.execute("SET GLOBAL read_only = 0")


def find_the_disk_full(run: Run) -> None:
    for number, words in ((1021, "Disk full"), (1114, "The table is full")):
        with run.job_says(f"cannot be used: {number} (HY000): {words}"):
            run.database.execute(
                "CREATE TRIGGER transactions.full BEFORE INSERT ON transactions.clean_data FOR EACH ROW "
                f"SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {number}, MESSAGE_TEXT = '{words}'"
            )
        run.database.execute("DROP TRIGGER transactions.full")


def lose_all_connections(run: Run) -> None:
    with run.job_says("starting again in"):
        run.at_next_commit("before", lambda: end_connections(run))


def end_connections(run: Run) -> None:
    """Those of the pipeline's account, all at once."""
    query = text("SELECT id FROM information_schema.processlist WHERE user = :user")
    with run.database.admin.connect() as connection:
        threads = connection.scalars(query, {"user": run.database.url.username}).all()
    for thread in threads:
        try:
            run.database.execute(f"KILL {int(thread)}")
        except DBAPIError as error:  # it may have ended meanwhile
            assert errno(error) == NO_SUCH_THREAD, error


def have_the_server_die_before_it_hears_of_the_commit(run: Run) -> None:
    die(run, "before", run.database.kill)


def have_the_server_die_while_it_commits(run: Run) -> None:
    die(run, "before", threading.Thread(target=run.database.kill).start)


def have_the_server_die_before_the_job_hears_of_the_commit(run: Run) -> None:
    def kill_and_swallow_the_answer() -> None:
        run.database.kill()
        raise ConnectionAbortedError

    die(run, "after", kill_and_swallow_the_answer)


def die(run: Run, stage: str, kill: Callable[[], None]) -> None:
    with run.job_says("starting again in"):
        run.at_next_commit(stage, kill)
    run.database.kill()  # it has been, or is just about to be
    run.database.start()
    run.database.execute(f"SET GLOBAL innodb_lock_wait_timeout = {LOCK_WAIT_S}")


def be_without_a_database_for_a_minute(run: Run) -> None:
    """The server is shut down, as for maintenance, and comes back."""
    with run.job_says("starting again in 16 s"):
        run.database.stop()
        time.sleep(AWAY_S)
    run.database.start()


WHAT_PASSES = (
    become_the_victim_of_a_deadlock,
    wait_too_long_for_a_lock,
    find_the_server_read_only,
    find_the_disk_full,
    lose_all_connections,
    have_the_server_die_before_it_hears_of_the_commit,
    have_the_server_die_while_it_commits,
    have_the_server_die_before_the_job_hears_of_the_commit,
    be_without_a_database_for_a_minute,
)


def test_one_job_waits_out_all_that_passes_and_nothing_is_lost_or_doubled(
    backlog: Backlog, tmp_path: Path
) -> None:
    with behind_a_relay(tmp_path) as (run, address):
        environment = {**backlog.environment, "MYSQL_URL": address, "MAX_RECORDS_PER_BATCH": "10"}
        with running_job(environment, run.log, "--no-alerts") as job:
            run.wait_until_it_goes_on(timeout=_START_S)
            for happen in WHAT_PASSES:
                happen(run)
                run.wait_until_it_goes_on()
                assert job.poll() is None
            assert run.committed() < backlog.records, "it was all done too early to show anything"
            wait_for_all(run.engine, TOPIC, backlog.records, run.log)
        present = whole_tables(run.engine)
        assert_same_tables(present, backlog.tables)
        (totals,) = present["pipeline_totals"]
        assert metrics_total(run.engine) == tuple(totals[1:])


# --- what does not pass


def job_that_stops(
    run: Run, environment: Mapping[str, str], *, at_work: Callable[[], None] | None = None
) -> str:
    """Run the job until it ends by itself, and return what it said; `at_work` happens while it commits."""
    with running_job(environment, run.log, "--no-alerts") as job:
        if at_work is not None:
            run.wait_until_it_goes_on(timeout=_START_S)
            at_work()
        code = job.wait(timeout=_START_S)
    said = run.log.read_text(errors="replace")
    assert code == 1, said[-4000:]
    _, _, last = said.rpartition("Stopped: ")
    return last


def test_what_only_a_person_can_mend_stops_the_job_with_its_name_and_then_nothing_is_lost(
    backlog: Backlog, tmp_path: Path
) -> None:
    with behind_a_relay(tmp_path) as (run, address):
        environment = {**backlog.environment, "MYSQL_URL": address, "MAX_RECORDS_PER_BATCH": "100"}
        execute, account = run.database.execute, run.database.url

        narrowed = "ALTER TABLE transactions.clean_data MODIFY Merchant VARCHAR({}) COLLATE utf8mb4_bin"
        execute(narrowed.format(3))
        said = job_that_stops(run, environment)
        assert re.search(r"a value does not fit its column .*Data too long for column 'Merchant'", said)
        assert run.committed() == 0
        execute(narrowed.format(MAX_LENGTH["Merchant"]))

        rename = "RENAME TABLE transactions.{} TO transactions.{}"
        away = rename.format("user_history", "lost")
        said = job_that_stops(run, environment, at_work=lambda: execute(away))
        assert re.search(r"the database lacks something: .*\buser_history\b.* doesn't exist", said)
        execute(rename.format("lost", "user_history"))

        def change_the_password() -> None:
            execute(f"ALTER USER '{account.username}'@'127.0.0.1' IDENTIFIED BY 'another'")
            end_connections(run)

        said = job_that_stops(run, environment, at_work=change_the_password)
        assert re.search(r"the database denies access: check MYSQL_USER, .*Access denied for user", said)
        assert account.password and account.password not in run.log.read_text()
        execute(f"ALTER USER '{account.username}'@'127.0.0.1' IDENTIFIED BY '{account.password}'")

        assert run.committed() < backlog.records, "it was all done too early to show anything"
        with running_job(environment, run.log, "--no-alerts"):
            wait_for_all(run.engine, TOPIC, backlog.records, run.log)
        assert_same_tables(whole_tables(run.engine), backlog.tables)
