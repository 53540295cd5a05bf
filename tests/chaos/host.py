"""A host process of the chaos run: visitors come and go until it is killed, or its standard input is closed.

Run as `python -m tests.chaos.host RATE SEED CLOCK`; the SDK's options and the diary's come from the environment. Ids of
good events are in the diary of `tests.delivery`, ids of those that the collector must refuse in `CHAOS_BAD`.
"""

from __future__ import annotations

import os
import random
import select
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.chaos.clock import Clock
from tests.delivery import diary
from tests.delivery.diary import analytics_sdk

PEOPLE = 200
BAD = 0.02  # the share of visits that end with an event from the future
STEPPED = 0.01  # the share of visits before which the clock is stepped
STEPS = (-2 * 86400, -3600, -5, 0, 0, 3, 180)  # seconds ahead of the real time at which the collector takes events
FUTURE = 30 * 86400  # and at which it does not, wherever its own clock is


class Host:
    """Has visitors at a rate."""

    def __init__(self, chance: random.Random, clock: Clock) -> None:
        self._chance = chance
        self._clock = clock
        self._bad = os.open(os.environ["CHAOS_BAD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def visit(self) -> int:
        """Have one visitor; returns how many events were tracked."""
        if self._chance.random() < STEPPED:
            self._step_the_clock()
        events = self._chance.randint(1, 40)
        person: int | str | None = self._chance.randrange(PEOPLE)
        person = self._chance.choice((person, f"person {person}", None))
        with analytics_sdk.session(user_id=person if self._chance.random() < 0.5 else None):
            diary.track(events // 2)
            if person is not None:
                analytics_sdk.identify(person)  # what was anonymous is theirs
            diary.track(events - events // 2)
        if self._chance.random() < BAD:
            self.track_from_the_future(datetime.now(UTC) + timedelta(days=40))
        return events

    def track_from_the_future(self, moment: datetime | None = None) -> None:
        """Track what the collector must refuse and keep, and write its id down."""
        event_id = analytics_sdk.track("future", {"host": os.getpid()}, created_at=moment)
        if event_id is not None:
            os.write(self._bad, f"{event_id}\n".encode())

    def _step_the_clock(self) -> None:
        """Step it far ahead for some events, which are refused; then to some other time."""
        if self._clock.library:
            self._clock.set(FUTURE)
            for _ in range(self._chance.randrange(3)):
                self.track_from_the_future()
            self._clock.set(self._chance.choice(STEPS))


def main() -> None:
    """Have visitors until told to end; what then waits is sent at the end of the process."""
    rate, seed, clock = float(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    library = os.environ.get("LD_PRELOAD")
    host = Host(random.Random(f"{seed} {os.getpid()}"), Clock(clock, Path(library) if library else None))
    due = time.monotonic()
    while not select.select([0], [], [], max(0.0, due - time.monotonic()))[0]:
        due += host.visit() / rate


if __name__ == "__main__":
    main()
