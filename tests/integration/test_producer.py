"""The producer as a user runs it, against a real broker."""

from __future__ import annotations

import os
import pty
import re
import signal
from collections import Counter

import pytest

from fraudstream.config import TRANSACTIONS_CSV
from fraudstream.topic import ensure_topic
from tests.support.kafka_topics import fields
from tests.support.ports import free_port
from tests.support.producing import (
    ENOUGH_S,
    PARTITIONS,
    as_message,
    csv_rows,
    finish,
    read_line,
    sent_rows,
    write_csv,
)


def test_every_row_of_the_shipped_file_arrives_once_under_its_user_in_order(producer):
    run = producer.run("--rate", 0)
    assert (run.code, run.counts) == (0, (10_050, 10_050, 0))
    records, rows = producer.records(), csv_rows()
    assert Counter(sent_rows(records)) == Counter(map(as_message, rows))
    assert all(record.key.decode() == fields(record)["UserID"] for record in records)
    partitions = {(record.key, record.partition) for record in records}
    assert len(partitions) == 100
    assert {partition for _, partition in partitions} == set(range(PARTITIONS))
    for user in ("U001", "U042", "U100"):
        arrived = [message for message in sent_rows(records) if message[1] == user]
        assert arrived == [as_message(row) for row in rows if row["UserID"] == user]


def test_cells_are_sent_as_they_are_written(producer, tmp_path):
    path = write_csv(
        tmp_path / "rows.csv",
        'T1,  U1\t,2000.00,"Cairo, east",2025-01-01 10:00:00,,Noon',
        'T2,U1,"1,200.50",,not a time,iOS,Café 😀',
        ",,-7e2,,,, ",
    )
    run = producer.run("--file", path, "--rate", 0)
    assert (run.code, run.counts) == (0, (3, 3, 0))
    by_id = {fields(record)["TransactionID"]: record for record in producer.records()}
    assert by_id["T1"].key == by_id["T2"].key == b"U1"
    assert by_id["T1"].partition == by_id["T2"].partition
    assert by_id[None].key is None
    assert by_id["T1"].value.decode() == (
        '{"TransactionID":"T1","UserID":"  U1\\t","Amount":2000.00,"Location":"Cairo, east",'
        '"Time":"2025-01-01 10:00:00","Device":null,"Merchant":"Noon"}'
    )
    assert by_id["T2"].value.decode() == (
        '{"TransactionID":"T2","UserID":"U1","Amount":"1,200.50","Location":null,'
        '"Time":"not a time","Device":"iOS","Merchant":"Café 😀"}'
    )
    assert by_id[None].value.decode() == (
        '{"TransactionID":null,"UserID":null,"Amount":-7e2,"Location":null,'
        '"Time":null,"Device":null,"Merchant":" "}'
    )


def test_the_limit_takes_the_first_rows_and_resume_goes_on_behind_them(producer):
    assert producer.run("--rate", 0, "--limit", 7).counts == (7, 7, 0)
    run = producer.run("--rate", 0, "--limit", 5, "--resume")
    assert (run.code, run.counts) == (0, (5, 5, 0))
    assert "Going on after row 7 of round 1." in run.err
    assert Counter(sent_rows(producer.records())) == Counter(map(as_message, csv_rows()[:12]))


def test_without_resume_it_starts_at_the_first_row_again(producer):
    for _ in range(2):
        assert producer.run("--rate", 0, "--limit", 3).counts == (3, 3, 0)
    assert Counter(sent_rows(producer.records())) == Counter([as_message(row) for row in csv_rows()[:3]] * 2)


def test_after_a_kill_resume_loses_no_row_and_repeats_only_those_behind_the_saved_progress(producer):
    running = producer.start("--rate", 3000)
    producer.wait_for_records(4000)
    running.send_signal(signal.SIGKILL)
    running.wait(timeout=ENOUGH_S)
    in_the_topic_before = Counter(sent_rows(producer.records()))

    run = producer.run("--rate", 0, "--resume")
    found = re.search(r"Going on after row ([\d,]+) of round 1", run.err)
    assert found, run.err
    done = int(found[1].replace(",", ""))
    assert 0 < done <= in_the_topic_before.total() < 10_050
    assert run.counts == (10_050 - done, 10_050 - done, 0)
    rows = [as_message(row) for row in csv_rows()]
    assert Counter(sent_rows(producer.records())) == in_the_topic_before + Counter(rows[done:])
    assert not Counter(rows[:done]) - in_the_topic_before


def test_a_topic_created_anew_is_filled_from_the_first_row(producer):
    producer.run("--rate", 0, "--limit", 5)
    producer.topic += "-anew"
    run = producer.run("--rate", 0, "--limit", 2, "--resume")
    assert "No progress is saved for this file and topic" in run.err
    assert Counter(sent_rows(producer.records())) == Counter(map(as_message, csv_rows()[:2]))


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_flush_and_count_and_the_rest_can_follow(producer, end):
    running = producer.start("--rate", 500)
    producer.wait_for_records(300)
    running.send_signal(end)
    run = finish(running)
    sent, acknowledged, failed = run.counts
    assert run.code == 0, run.err
    assert (sent, failed) == (acknowledged, 0)
    assert 300 <= sent == producer.count() < 10_050
    assert "Stopping" in run.err
    assert "Traceback" not in run.err

    assert producer.run("--rate", 0, "--resume").counts == (10_050 - sent, 10_050 - sent, 0)
    assert Counter(sent_rows(producer.records())) == Counter(map(as_message, csv_rows()))


def test_it_waits_for_a_broker_that_starts_later(producer, stack):
    stack.stop("kafka")
    running = producer.start("--rate", 0, "--limit", 4)
    said = read_line(running, lambda line: line.startswith("Waiting"))
    stack.start("kafka")
    run = finish(running)
    assert said == f"Waiting up to 60 s for the Kafka broker at {producer.servers} ...\n"
    assert (run.code, run.counts) == (0, (4, 4, 0))
    assert producer.count() == 4


def test_a_broker_that_stays_away_is_an_error_that_names_it(producer):
    producer.servers = f"127.0.0.1:{free_port()}"
    run = producer.run("--wait", 1)
    assert run.code == 1
    assert f"No Kafka broker answered at {producer.servers} within 1 s." in run.err
    assert "KAFKA_BOOTSTRAP_SERVERS" in run.err
    assert "Traceback" not in run.err


def test_a_bad_row_in_the_middle_stops_after_the_rows_before_it(producer, tmp_path):
    good = [f"T{number},U{number},1,Cairo,2025-01-01 10:00:00,iOS,Noon" for number in range(500)]
    path = write_csv(tmp_path / "rows.csv", *good, "T500,U1,1", *good)
    run = producer.run("--file", path, "--rate", 0)
    assert (run.code, run.counts) == (2, (500, 500, 0))
    assert f"{path}, line 502, column Location: no cell; the row has 3 of 7" in run.err
    assert producer.count() == 500


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (
            b"TransactionID,UserID,Amount,Location,Time,Device\na,b,1,c,d,e\n",
            "line 1, column Merchant: not in",
        ),
        (b"TransactionID;UserID;Amount;Location;Time;Device;Merchant\n", "separated by ';'"),
        (b"TransactionID,UserID,Amount,Location,Time,Device,Merchant\n", "line 2: no rows"),
        (
            b"TransactionID,UserID,Amount,Location,Time,Device,Merchant\na,b,1,\xe9,d,e,f\n",
            "column Location: byte 0xe9",
        ),
    ],
)
def test_an_unusable_file_is_refused_before_any_broker_is_asked(producer, tmp_path, content, complaint):
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    producer.servers = f"127.0.0.1:{free_port()}"
    run = producer.run("--file", path)
    assert run.code == 2
    assert complaint in run.err
    assert str(path) in run.err


def test_a_missing_file_is_refused(producer, tmp_path):
    run = producer.run("--file", tmp_path / "none.csv")
    assert (run.code, run.out) == (2, "")
    assert f"{tmp_path / 'none.csv'}: No such file" in run.err


def test_nonsense_options_and_settings_are_refused(producer):
    assert "either --rate or --speed" in producer.run("--rate", 5, "--speed", 2).err
    assert producer.run("--rate", 5, "--speed", 2).code == 2
    assert producer.run("--limit", 0).code == 2
    assert producer.run("--rate", -1).code == 2
    run = producer.run(KAFKA_PARTITIONS="none")
    assert run.code == 2
    assert "KAFKA_PARTITIONS" in run.err


def test_loop_sends_rounds_with_fresh_ids_and_later_times(producer, tmp_path):
    path = write_csv(
        tmp_path / "rows.csv",
        "A,U1,1,Cairo,2025-01-01 10:00:00,iOS,Noon",
        "B,U1,2,Cairo,2025-01-02 09:00:00,iOS,Noon",
    )
    assert producer.run("--file", path, "--rate", 0, "--loop", "--limit", 3).counts == (3, 3, 0)
    assert producer.run("--file", path, "--rate", 0, "--loop", "--limit", 2, "--resume").counts == (2, 2, 0)
    assert [(message[0], message[4]) for message in sent_rows(producer.records())] == [
        ("A", "2025-01-01 10:00:00"),
        ("B", "2025-01-02 09:00:00"),
        ("A-r2", "2025-01-02 10:00:00"),
        ("B-r2", "2025-01-03 09:00:00"),
        ("A-r3", "2025-01-03 10:00:00"),
    ]
    run = producer.run("--file", path, "--resume")
    assert run.code == 2
    assert "round 3: add --loop" in run.err


def test_loop_ends_before_a_round_in_the_future(producer, tmp_path):
    path = write_csv(
        tmp_path / "rows.csv", "A,U1,1,Cairo,2001-01-01 10:00:00,iOS,Noon", "B,U1,1,x,2025-01-01,y,z"
    )
    run = producer.run("--file", path, "--rate", 0, "--loop")
    assert (run.code, run.counts) == (0, (2, 2, 0))
    assert "Stopped before round 2: its times would lie in the future." in run.err


def test_the_default_and_a_given_rate_are_kept(producer):
    assert producer.run("--limit", 101).counts == (101, 101, 0)
    first = sorted(record.timestamp for record in producer.records())
    assert 1_900 < first[-1] - first[0] < 2_600
    assert producer.run("--limit", 1001, "--rate", 400).counts == (1001, 1001, 0)
    second = sorted(record.timestamp for record in producer.records())[101:]
    assert 2_400 < second[-1] - second[0] < 3_100


def test_speed_replays_at_a_multiple_of_the_events_own_pace(producer, tmp_path):
    times = ["10:00:00", "10:01:00", "09:00:00", "10:02:30"]
    rows = [f"T{number},U1,1,Cairo,2025-01-01 {time},iOS,Noon" for number, time in enumerate(times)]
    run = producer.run("--file", write_csv(tmp_path / "rows.csv", *rows), "--speed", 60)
    assert run.counts == (4, 4, 0)
    stamps = [record.timestamp for record in producer.records()]
    assert [stamp - stamps[0] for stamp in stamps] == pytest.approx([0, 1000, 1000, 2500], abs=300)


def test_an_existing_topic_keeps_its_partitions(producer):
    ensure_topic(producer.servers, producer.topic, 1)
    assert producer.run("--rate", 0, "--limit", 50, KAFKA_PARTITIONS="9").counts == (50, 50, 0)
    assert {record.partition for record in producer.records()} == {0}


def test_a_terminal_shows_a_bar_and_other_outputs_plain_lines(producer):
    controller, terminal = pty.openpty()
    try:
        running = producer.start("--rate", 0, "--limit", 500, stderr=terminal, TERM="xterm", COLUMNS="100")
        assert running.wait(timeout=ENOUGH_S) == 0
        shown = os.read(controller, 100_000).decode()
    finally:
        os.close(controller)
        os.close(terminal)
    assert "500/500" in shown

    lines = producer.run("--rate", 100, "--limit", 700).err.splitlines()
    assert any(re.fullmatch(r"sent=\d+ acknowledged=\d+ failed=0", line) for line in lines)
    assert not any("\x1b" in line for line in lines)


def test_throughput_is_at_least_5000_rows_a_second(producer, tmp_path):
    path = tmp_path / "many.csv"
    header, *rows = TRANSACTIONS_CSV.read_text().splitlines()
    path.write_text("\n".join([header, *(rows * 5)]) + "\n")
    assert producer.run("--file", path, "--rate", 0).counts == (50_250, 50_250, 0)
    stamps = [record.timestamp for record in producer.records()]
    assert 50_250 / ((max(stamps) - min(stamps)) / 1000) > 5_000
