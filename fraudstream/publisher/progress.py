"""How far a replay came, in a small file that survives the process."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import orjson

from fraudstream.publisher.delivery import Tally
from fraudstream.publisher.replay import START, Position


class ProgressError(Exception):
    """Progress cannot be read or saved; the text names the file and what to do."""


class ProgressFile:
    """The progress of one CSV file into one topic, below `folder`.

    It belongs to the file as it is now (path, size, time of change) and to the topic as it is now: a
    topic that was created anew has nothing of what was sent before.
    """

    def __init__(self, folder: Path, csv: Path, topic: str, topic_id: str) -> None:
        csv = csv.resolve()
        status = csv.stat()
        self._subject = {
            "file": str(csv),
            "topic": topic,
            "size": status.st_size,
            "changed_ns": status.st_mtime_ns,
            "topic_id": topic_id,
        }
        self._saved: Position | None = None
        name = hashlib.sha256(f"{csv}\n{topic}".encode()).hexdigest()[:16]
        self._path = folder / f"{name}.json"

    def load(self, *, looping: bool) -> tuple[Position, str]:
        """Where to go on, and a line for the user that says why there.

        Raises ProgressError when the file is not readable, or the last run looped and this one does not.
        """
        try:
            saved = orjson.loads(self._path.read_bytes())
            position = Position(int(saved["round"]), int(saved["rows"]))
        except FileNotFoundError:
            return START, "No progress is saved for this file and topic: starting at the first row."
        except (ValueError, KeyError, TypeError) as error:
            raise ProgressError(
                f"{self._path} is not readable as saved progress: delete it, or leave out --resume."
            ) from error
        subject = {name: saved.get(name) for name in self._subject}
        if subject["topic_id"] != self._subject["topic_id"]:
            return START, "The topic was created anew since the last run: starting at the first row."
        if subject != self._subject:
            return START, "The file has changed since the last run: starting at the first row."
        if position.round > 1 and not looping:
            raise ProgressError(f"The last run came to round {position.round}: add --loop to go on there.")
        return position, f"Going on after row {position.rows:,} of round {position.round}."

    def record(self, tally: Tally) -> None:
        """Save how far the tally is, if anything at its start is acknowledged."""
        if tally.position is not None and tally.position != self._saved:
            self.save(tally.position)

    def save(self, position: Position) -> None:
        """Replace the saved progress at once: a reader finds the old one or the new one.

        Raises ProgressError.
        """
        draft = self._path.with_suffix(f".{os.getpid()}.new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(orjson.dumps(self._subject | position._asdict()))
            draft.replace(self._path)
        except OSError as error:
            raise ProgressError(
                f"Progress cannot be saved to {self._path}: {error.strerror}. "
                "Set XDG_STATE_HOME to a folder that can be written."
            ) from error
        self._saved = position
