"""Contestants take turns, so that whatever else the machine does hits all of them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

import attrs

from tests.benchmarks.serving.load import Load, put_on
from tests.benchmarks.serving.usage import used_by_all


@attrs.frozen
class Server:
    """A gunicorn, and the Postgres behind it.

    Attributes:
        port: Where it listens.
        pid: Of gunicorn's arbiter.
        postmaster: Of Postgres, or None.
    """

    port: int
    pid: int
    postmaster: int | None = None

    def used(self) -> tuple[float, float]:
        """CPU seconds so far of the web's processes, and of Postgres's."""
        return used_by_all(self.pid), used_by_all(self.postmaster) if self.postmaster else 0.0


@attrs.frozen
class Turn:
    """What one turn came to.

    Attributes:
        rate: Requests a second.
        p50: Milliseconds, for each path.
        web: CPU microseconds of the web's processes, for each event, or for each request without any.
        postgres: Of Postgres's.
    """

    rate: float
    p50: tuple[float, ...]
    web: float
    postgres: float

    @property
    def cpu(self) -> float:
        """Of both."""
        return self.web + self.postgres


def take_turns(contestants: Mapping[str, tuple[Server, Load]], rounds: int) -> dict[str, Turn]:
    """Each in turn, as often as there are rounds; the medians."""
    found: dict[str, list[Turn]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, (server, load) in contestants.items():
            found[name].append(take_turn(server, load))
    return {name: median(turns) for name, turns in found.items()}


def take_turn(server: Server, load: Load) -> Turn:
    """One turn."""
    before = server.used()
    heard = put_on(server.port, load)
    web, postgres = (later - earlier for earlier, later in zip(before, server.used(), strict=True))
    each = 1e6 / (heard.requests * max(1, load.events))
    return Turn(heard.rate, heard.p50, web * each, postgres * each)


def median(turns: list[Turn]) -> Turn:
    """The median of each figure."""
    p50 = tuple(map(statistics.median, zip(*(turn.p50 for turn in turns), strict=True)))
    rate, web, postgres = (
        statistics.median(getattr(turn, name) for turn in turns) for name in ("rate", "web", "postgres")
    )
    return Turn(rate, p50, web, postgres)
