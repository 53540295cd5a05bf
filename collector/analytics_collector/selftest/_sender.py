"""A process that sends until its standard input is closed.

It does what a careful client does, and repeats a batch until it is answered 200; and what a careless one does: it sends
batches again that were answered, in another order.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import random
import select
import sys
import time
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from ._author import Author, Batch
from ._diary import Acknowledged, Failed, Sent, Told, Writer

KEY: Final = "ANALYTICS_SELFTEST_KEY"
PATIENCE: Final = 60.0  # seconds in which the last batches must be answered
_HELD_BACK: Final = 6  # batches that wait, so that they are sent in another order than they were made in
_REPEATED: Final = 0.1  # the share of batches that is sent again
_TIMEOUT: Final = 10.0  # seconds
_AGAIN: Final = frozenset({429, 500, 502, 503, 504})


class Sender:
    """Sends what an author makes up."""

    def __init__(self, port: int, name: str, chance: random.Random, diary: Writer) -> None:
        self._author = Author(name, chance)
        self._chance = chance
        self._diary = diary
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT)
        self._waiting: list[tuple[int, Batch]] = []
        self._answered: deque[Batch] = deque(maxlen=50)
        self._gives_up_at = float("inf")

    def run(self) -> None:
        """Send until nobody holds our standard input open any more; then what still waits."""
        number = 0
        while self._until() == float("inf"):
            while len(self._waiting) < _HELD_BACK:
                number += 1
                self._waiting.append((number, self._author.batch(datetime.now(UTC))))
            self._send_one()
        while self._waiting and time.monotonic() < self._until():
            self._send_one()

    def _until(self) -> float:
        """When to give up: some time after nobody holds our standard input any more, for whatever reason."""
        if self._gives_up_at == float("inf") and _is_closed(sys.stdin.fileno()):
            self._gives_up_at = time.monotonic() + PATIENCE
        return self._gives_up_at

    def _send_one(self) -> None:
        number, batch = self._waiting.pop(self._chance.randrange(len(self._waiting)))
        self._diary.put_down(Sent(number, _told(batch), len(batch.bad)))
        if answer := self._deliver(batch):
            self._diary.put_down(
                Acknowledged(number, answer["accepted"], answer["duplicates"], len(answer["rejected"]))
            )
            self._answered.append(batch)
        if self._answered and self._chance.random() < _REPEATED:
            self._deliver(self._chance.choice(self._answered))

    def _deliver(self, batch: Batch) -> dict[str, Any] | None:
        """Send a batch until it is answered 200; None if that does not come in time."""
        while time.monotonic() < self._until():
            with contextlib.suppress(OSError, http.client.HTTPException):
                status, content = self._post(self._author.body(batch))
                if status == http.HTTPStatus.OK:
                    return self._checked(json.loads(content), batch)
                if status not in _AGAIN:
                    self._fail(f"a batch was answered {status}: {content.decode(errors='replace')}")
            self._connection.close()
            time.sleep(self._chance.uniform(0.02, 0.3))
        return None

    def _post(self, body: bytes) -> tuple[int, bytes]:
        self._connection.request("POST", "/v1/events", body, {"Authorization": f"Bearer {os.environ[KEY]}"})
        response = self._connection.getresponse()
        return response.status, response.read()

    def _checked(self, answer: dict[str, Any], batch: Batch) -> dict[str, Any]:
        """The answer, which must have a verdict on each record."""
        if answer["accepted"] + answer["duplicates"] + len(answer["rejected"]) != batch.records:
            self._fail(f"{batch.records} records were answered {answer}")
        return answer

    def _fail(self, reason: str) -> None:
        self._diary.put_down(Failed(reason))
        sys.exit(1)


def _told(batch: Batch) -> list[Told]:
    sessions = [Told(session["session_id"], session.get("user_id")) for session in batch.sessions]
    events = [
        Told(event["session_id"], event["user_id"], event["event_id"], event["created_at"]) for event in batch.events
    ]
    return sessions + events


def _is_closed(descriptor: int) -> bool:
    """Whether the other end of a pipe is gone."""
    ready, _, _ = select.select([descriptor], [], [], 0)
    return bool(ready) and not os.read(descriptor, 1)


def main() -> None:
    """Run one sender."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("name")
    parser.add_argument("diary", type=Path)
    parser.add_argument("--seed", required=True)
    given = parser.parse_args()
    Sender(given.port, given.name, random.Random(f"{given.seed} {given.name}"), Writer(given.diary)).run()
