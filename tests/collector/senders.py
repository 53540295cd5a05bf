"""Clients as they should be, on keep-alive connections: what was not answered 200 is sent again; and their ledger."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import attrs
import psycopg

from analytics_collector import profiles
from tests.collector.batches import Fields, at, body
from tests.conftest import WRITE_KEY
from tests.programs import wait_until

_PAUSE = 0.05  # seconds before the same is sent again
_LONGEST = 60.0  # seconds that an outage may take
_TIMEOUT = 40.0  # seconds that an answer may take


@attrs.define
class Ledger:
    """What clients sent, and what they were told.

    Attributes:
        stored: Ids that were acknowledged.
        seen: How often what came back: a status, "refused", or "closed" for an idle connection that was closed.
        wrong: What no client should see.
        slowest: Seconds that the slowest answer of each kind took.
    """

    stored: set[str] = attrs.field(factory=set)
    seen: Counter[str] = attrs.field(factory=Counter)
    wrong: list[str] = attrs.field(factory=list)
    slowest: dict[str, float] = attrs.field(factory=dict)
    batches: int = 0

    def note(self, what: str, seconds: float) -> None:
        """Count an answer."""
        self.seen[what] += 1
        self.slowest[what] = max(seconds, self.slowest.get(what, 0.0))

    def assert_balanced(self, dsn: str) -> None:
        """What was acknowledged is stored once, nothing else is, profiles are exact, and nobody saw anything odd."""
        with psycopg.connect(dsn, autocommit=True) as connection:
            rows = connection.execute("SELECT event_id::text, count(*) FROM analytics_event GROUP BY 1").fetchall()
            assert profiles.verify(connection) == []
        assert [row for row in rows if row[1] != 1] == []
        assert {event_id for event_id, _ in rows} == self.stored
        assert self.wrong == []
        assert self.seen.keys() <= {"200", "503", "refused", "closed"}, self.seen


class Client:
    """One client with one connection at a time, which goes to the next address when the present one is not there."""

    def __init__(self, urls: Sequence[str], number: int, ledger: Ledger) -> None:
        self._addresses = [urlsplit(url).netloc for url in urls]
        self._at = number % len(urls)
        self._number = number
        self._ledger = ledger
        self._connection: http.client.HTTPConnection | None = None
        self._is_idle = False

    def send(self, size: int) -> None:
        """Send new events until they are acknowledged."""
        events = [self._event() for _ in range(size)]
        content = body(events=events)
        attempts, began = 1, time.monotonic()
        while (answer := self._attempt(content)) is None:
            assert time.monotonic() < began + _LONGEST, "the collector has not come back"
            attempts += 1
            time.sleep(_PAUSE)  # as Retry-After would have it, but faster
        ids = {event["event_id"] for event in events}
        told = (answer["accepted"] + answer["duplicates"], answer["rejected"])
        if told != (size, []) or (attempts == 1 and answer["duplicates"]):
            self._ledger.wrong.append(f"{answer} after {attempts} attempts")
        self._ledger.stored |= ids
        self._ledger.batches += 1

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()
        self._connection, self._is_idle = None, False

    def _event(self) -> Fields:
        user = {"session_id": f"s{self._number}", "user_id": self._number % 5 + 1}
        return {"event_id": str(uuid.uuid4()), "event_type": "page_view", "created_at": at(0), **user}

    def _attempt(self, content: bytes) -> dict[str, object] | None:
        began = time.monotonic()
        try:
            status, headers, text = self._exchange(content)
        except ConnectionRefusedError:
            self._leave("refused", began)
            return None
        except (OSError, http.client.HTTPException) as error:
            is_fair = self._is_idle and isinstance(error, ConnectionError)  # RemoteDisconnected is one
            if not is_fair:
                self._ledger.wrong.append(f"{error!r} after {time.monotonic() - began:.2f} s")
            self._leave("closed", began)
            return None
        self._ledger.note(str(status), time.monotonic() - began)
        if status == 503 and "Retry-After" not in headers:
            self._ledger.wrong.append(f"503 without Retry-After: {text!r}")
        self._is_idle = True
        return json.loads(text) if status == 200 else None

    def _exchange(self, content: bytes) -> tuple[int, http.client.HTTPMessage, bytes]:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self._addresses[self._at], timeout=_TIMEOUT)
            self._connection.connect()
        self._connection.request("POST", "/v1/events", content, {"Authorization": f"Bearer {WRITE_KEY}"})
        response = self._connection.getresponse()
        answer = response.status, response.headers, response.read()
        if response.will_close:
            self.close()
        return answer

    def _leave(self, why: str, began: float) -> None:
        self._ledger.note(why, time.monotonic() - began)
        self.close()
        self._at = (self._at + 1) % len(self._addresses)


@contextlib.contextmanager
def load(*urls: str, clients: int = 8, size: int = 3) -> Iterator[Ledger]:
    """Clients that send without a pause until the end of the block, and then until all they have is acknowledged."""
    ledger = Ledger()
    finished = threading.Event()

    def live(number: int) -> None:
        client = Client(urls, number, ledger)
        with contextlib.closing(client):
            while not finished.is_set():
                client.send(size)

    with ThreadPoolExecutor(clients) as threads:
        living = [threads.submit(live, number) for number in range(clients)]
        try:
            wait_until(lambda: ledger.batches >= clients, within=30, what="the first answers")
            yield ledger
        finally:
            finished.set()
            print(f"{ledger.batches} batches: {dict(ledger.seen)}, slowest {ledger.slowest} s")
        for life in living:
            life.result()


def goes_on(ledger: Ledger, batches: int = 20) -> Callable[[], bool]:
    """Whether so many batches more have been acknowledged, from now on."""
    goal = ledger.batches + batches
    return lambda: ledger.batches >= goal
