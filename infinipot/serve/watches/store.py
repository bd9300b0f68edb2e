"""Standing questions and events on disk: one SQLite file, bounded. What was told is never lost, nor told twice.

A change of what is believed and the event that it makes are one transaction, ahead of any telling.
"""

import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from infinipot.errors import InfinipotError

LONGEST_WAIT = 3600.0
"""Seconds between two tries of a delivery, at the most."""

_TABLES = """
CREATE TABLE IF NOT EXISTS watches (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, stream TEXT NOT NULL, request TEXT NOT NULL, secret TEXT,
    believed TEXT NOT NULL, told INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY AUTOINCREMENT, owner TEXT NOT NULL, stream TEXT NOT NULL, watch TEXT NOT NULL,
    question TEXT NOT NULL, answer TEXT NOT NULL, time REAL NOT NULL, at REAL NOT NULL, quiet INTEGER NOT NULL,
    evidence TEXT, picture BLOB
);
CREATE INDEX IF NOT EXISTS events_of ON events (owner, stream, id);
CREATE TABLE IF NOT EXISTS deliveries (
    event INTEGER PRIMARY KEY REFERENCES events (id) ON DELETE CASCADE, watch TEXT NOT NULL, url TEXT NOT NULL,
    secret TEXT NOT NULL, tries INTEGER NOT NULL DEFAULT 0, due REAL NOT NULL
);
"""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened; see `EventState`. `id` is 0 before it is stored."""

    owner: str
    stream: str
    watch: str
    question: str
    answer: str
    time: float
    at: float
    quiet: bool
    evidence: list[dict[str, Any]] | None = None
    picture: bytes | None = None
    id: int = 0


@dataclass(frozen=True, slots=True)
class Search:
    """A search for events of a stream: those that match every condition given.

    Attributes:
        query: words, all of which stand in the question or the answer.
        watch: the standing question that they are of.
        since, until: seconds since 1970 between which they were told.
        before: the number of an event: only older ones.
    """

    query: str = ""
    watch: str | None = None
    since: float | None = None
    until: float | None = None
    before: int | None = None


EVERYTHING = Search()


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event on its way to a webhook, and how often it was tried."""

    event: Event
    url: str
    secret: str
    tries: int


class Store:
    """The file. May be used from any thread.

    Args:
        path: of the file; None for memory, which ends with the process.
        most: events of an owner that are kept: the oldest go.

    Raises:
        InfinipotError: the file cannot be opened, or is of something else.
    """

    def __init__(self, path: Path | None, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        if path is not None:
            _keep_to_oneself(path)
        try:
            self._file = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None)
            self._file.row_factory = sqlite3.Row
            self._file.execute("PRAGMA journal_mode=WAL")
            self._file.execute("PRAGMA synchronous=FULL")
            self._file.execute("PRAGMA foreign_keys=ON")
            self._file.executescript(_TABLES)
        except sqlite3.Error as error:
            raise InfinipotError(f"{path}: events cannot be stored there ({error})") from None

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._file.close()

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._file.execute("BEGIN IMMEDIATE")
            try:
                yield self._file
            except BaseException:
                self._file.execute("ROLLBACK")
                raise
            self._file.execute("COMMIT")

    def _rows(self, query: str, *given: Any) -> list[sqlite3.Row]:
        with self._lock:
            return self._file.execute(query, given).fetchall()

    def add_watch(self, name: str, owner: str, stream: str, request: str, secret: str | None, believed: str) -> None:
        """Keeps a standing question."""
        with self._changing() as file:
            file.execute(
                "INSERT INTO watches (id, owner, stream, request, secret, believed) VALUES (?, ?, ?, ?, ?, ?)",
                (name, owner, stream, request, secret, believed),
            )

    def watches(self) -> list[sqlite3.Row]:
        """All standing questions."""
        return self._rows("SELECT * FROM watches ORDER BY rowid")

    def remove_watch(self, name: str) -> None:
        """Forgets a standing question; its events stay, what is on its way goes no further."""
        with self._changing() as file:
            file.execute("DELETE FROM watches WHERE id = ?", (name,))
            file.execute("DELETE FROM deliveries WHERE watch = ?", (name,))

    def end_watch(self, name: str) -> None:
        """Forgets a standing question whose stream is there no more; what is on its way is delivered all the same."""
        with self._changing() as file:
            file.execute("DELETE FROM watches WHERE id = ?", (name,))

    def believe(self, name: str, believed: str, event: Event | None, webhook: tuple[str, str] | None) -> int | None:
        """Keeps what is believed of a question now, and the event that this makes; returns the event's number.

        A question that was removed meanwhile, perhaps with its stream, makes no event: it would be told of a later
        stream of that id.

        Args:
            name: of the question.
            believed: the state of its trigger.
            event: that it makes, or None.
            webhook: the address and the secret that the event is sent with.
        """
        with self._changing() as file:
            changed = "UPDATE watches SET believed = ?, told = told + ? WHERE id = ?"
            there = file.execute(changed, (believed, bool(event), name)).rowcount
            if event is None or not there:
                return None
            evidence = None if event.evidence is None else json.dumps(event.evidence)
            stored = file.execute(
                "INSERT INTO events (owner, stream, watch, question, answer, time, at, quiet, evidence, picture) "
                "VALUES (:owner, :stream, :watch, :question, :answer, :time, :at, :quiet, :evidence, :picture)",
                asdict(event) | {"evidence": evidence},
            )
            number = int(stored.lastrowid or 0)
            if webhook is not None:
                file.execute(
                    "INSERT INTO deliveries (event, watch, url, secret, due) VALUES (?, ?, ?, ?, ?)",
                    (number, event.watch, *webhook, time.time()),
                )
            file.execute(
                "DELETE FROM events WHERE owner = ? AND id <= "
                "(SELECT id FROM events WHERE owner = ? ORDER BY id DESC LIMIT 1 OFFSET ?)",
                (event.owner, event.owner, self._most),
            )
            return number

    def events(
        self,
        owner: str,
        stream: str,
        search: Search = EVERYTHING,
        limit: int = 100,
    ) -> list[Event]:
        """Events of a stream, newest first, `limit` at the most."""
        conditions: list[str] = ["owner = ?", "stream = ?"]
        values: list[str | float] = [owner, stream]
        for word in search.query.split()[:16]:
            conditions.append("(question || ' ' || answer) LIKE ? ESCAPE '\\'")
            values.append("%" + word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%")
        for clause, value in (
            ("watch = ?", search.watch),
            ("at >= ?", search.since),
            ("at <= ?", search.until),
            ("id < ?", search.before),
        ):
            if value is not None:
                conditions.append(clause)
                values.append(value)
        where = " AND ".join(conditions)
        rows = self._rows(f"SELECT * FROM events WHERE {where} ORDER BY id DESC LIMIT ?", *values, limit)
        return [_event(row) for row in rows]

    def events_after(self, owner: str, stream: str, number: int, limit: int = 100) -> list[Event]:
        """Events of a stream after a number, oldest first; those of quiet hours are not among them."""
        query = "SELECT * FROM events WHERE owner = ? AND stream = ? AND id > ? AND NOT quiet ORDER BY id LIMIT ?"
        return [_event(row) for row in self._rows(query, owner, stream, number, limit)]

    def newest(self) -> int:
        """The number of the newest event there ever was."""
        rows = self._rows("SELECT seq FROM sqlite_sequence WHERE name = 'events'")
        return int(rows[0]["seq"]) if rows else 0

    def picture(self, owner: str, stream: str, number: int) -> bytes | None:
        """The small picture of an event."""
        query = "SELECT picture FROM events WHERE owner = ? AND stream = ? AND id = ?"
        rows = self._rows(query, owner, stream, number)
        return rows[0]["picture"] if rows else None

    def due(self, now: float, limit: int) -> list[Delivery]:
        """Deliveries that are to be tried now: of each question the one that has been due for the longest.

        What is due later than any wait lasts was put off before the clock was set back.
        """
        query = (  # of a group, SQLite gives the columns of the row that has the least
            "SELECT events.*, url, secret, tries, min(due) AS first "
            "FROM deliveries JOIN events ON events.id = deliveries.event "
            "WHERE due <= ? OR due > ? GROUP BY deliveries.watch ORDER BY first LIMIT ?"
        )
        rows = self._rows(query, now, now + LONGEST_WAIT, limit)
        return [Delivery(_event(row), row["url"], row["secret"], row["tries"]) for row in rows]

    def delivered(self, event: int) -> None:
        """A delivery is done, or given up."""
        with self._changing() as file:
            file.execute("DELETE FROM deliveries WHERE event = ?", (event,))

    def postpone(self, event: int, due: float) -> None:
        """A delivery failed, and is tried again."""
        with self._changing() as file:
            file.execute("UPDATE deliveries SET tries = tries + 1, due = ? WHERE event = ?", (due, event))

    def forget(self, owner: str, stream: str) -> None:
        """Forgets all of a stream that was deleted."""
        with self._changing() as file:
            file.execute(
                "DELETE FROM deliveries WHERE watch IN (SELECT id FROM watches WHERE owner = ? AND stream = ?)",
                (owner, stream),
            )
            file.execute("DELETE FROM watches WHERE owner = ? AND stream = ?", (owner, stream))
            file.execute("DELETE FROM events WHERE owner = ? AND stream = ?", (owner, stream))


def _keep_to_oneself(path: Path) -> None:
    """Creates the file with mode 0600, since it holds webhooks' secrets; SQLite's side files inherit that."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        path.chmod(0o600)
    except OSError as error:
        raise InfinipotError(f"{path}: events cannot be stored there ({error.strerror})") from None


def _event(row: sqlite3.Row) -> Event:
    evidence = None if row["evidence"] is None else json.loads(row["evidence"])
    return Event(
        owner=row["owner"],
        stream=row["stream"],
        watch=row["watch"],
        question=row["question"],
        answer=row["answer"],
        time=row["time"],
        at=row["at"],
        quiet=bool(row["quiet"]),
        evidence=evidence,
        picture=row["picture"],
        id=row["id"],
    )
