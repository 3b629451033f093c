"""The broker is killed under the producer: each row arrives, at the latest after a start with --resume."""

from __future__ import annotations

import re
import signal
from collections import Counter

from tests.support.producing import as_message, csv_rows, finish, read_line, sent_rows


def test_a_broker_killed_and_started_again_meanwhile_costs_no_row_and_doubles_none(producer, stack):
    running = producer.start("--rate", 1500)
    producer.wait_for_records(1500)
    stack.kill("kafka")
    stack.start("kafka")
    run = finish(running)
    assert (run.code, run.counts) == (0, (10_050, 10_050, 0)), run.err
    assert Counter(sent_rows(producer.records())) == Counter(map(as_message, csv_rows()))


def test_rows_without_acknowledgement_count_as_failed_if_the_user_will_not_wait_and_resume_sends_them(
    producer, stack
):
    running = producer.start("--rate", 500)
    producer.wait_for_records(200)
    stack.kill("kafka")
    try:
        read_line(
            running, lambda line: line.startswith("sent=") and len(set(re.findall(r"=(\d+)", line)[:2])) == 2
        )
        # The first Ctrl-C waits for the rows under way, the second does not.
        running.send_signal(signal.SIGINT)
        read_line(running, lambda line: line.startswith("Stopping"))
        running.send_signal(signal.SIGINT)
        run = finish(running)
    finally:
        stack.start("kafka")
    sent, acknowledged, failed = run.counts
    assert run.code == 1
    assert failed > 0
    assert sent == acknowledged + failed
    assert "Kafka did not acknowledge a row: " in run.err
    assert "Traceback" not in run.err
    assert producer.count() >= acknowledged

    assert producer.run("--rate", 0, "--resume").code == 0
    assert not Counter(map(as_message, csv_rows())) - Counter(sent_rows(producer.records()))
