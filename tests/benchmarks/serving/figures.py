"""What was found on one Postgres, beside what was asked for: as tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

import attrs

from tests.benchmarks.common.table import Table
from tests.benchmarks.serving.disk import Room
from tests.benchmarks.serving.turn import Turn

BATCH: Final = 500
CROWD: Final = 32
FEW, MANY = 1_000, 1_000_000
VIEW, OURS = "empty view", "collector"
DJANGO, DJANGO_DEFAULT = "Django, connections kept", "Django, its defaults"
UMAMI: Final = {"single": 10_600, "batch": 7_200, "bytes": 2_942}  # of Umami 3.1, measured another day


@attrs.frozen
class Figures:
    """One Postgres's.

    Attributes:
        postgres: Its version.
        copy: CPU microseconds of an event that is only copied into the table.
        commit: Milliseconds of one commit of one row.
        room: On the disk, in the present month.
        packed: On the disk, in a month that is over.
        crowd: Of single events, `CROWD` requests at a time.
        alone: Of single events, one at a time.
        batches: Of batches.
        updates: Of keeping one user's profile, by how many events they have.
        lookups: Of the empty view and of both users' profiles; at rest, and while events are written.
    """

    postgres: str
    copy: float
    commit: float
    room: Room
    packed: Room
    crowd: Mapping[str, Turn]
    alone: Mapping[str, Turn]
    batches: Mapping[str, Turn]
    updates: Mapping[int, Mapping[str, Turn]]
    lookups: Mapping[Literal["at rest", "while writing"], Turn]


@attrs.frozen
class Promise:
    """A ratio, and what it shall be at most, at least, or just so within a fifth; nothing, if it is only told."""

    words: str
    ratio: Callable[[Figures], float]
    kind: Literal["at most", "at least", "about", ""] = "at most"
    bound: float = 0.0

    def asked(self) -> str:
        """As a cell."""
        return f"{self.kind} {self.bound:g}" if self.kind else ""

    def measured(self, figures: Figures) -> str:
        """As a cell."""
        ratio = self.ratio(figures)
        return f"{ratio:.2f}" if self._holds(round(ratio, 2)) else f"{ratio:.2f}, missed"

    def _holds(self, ratio: float) -> bool:
        match self.kind:
            case "at most":
                return ratio <= self.bound
            case "at least":
                return ratio >= self.bound
            case "about":
                return abs(ratio / self.bound - 1) <= 0.2
            case "":
                return True


def _cpu(found: Mapping[str, Turn], other: str) -> float:
    return found[OURS].cpu / found[other].cpu


def _growth(figures: Figures, name: str) -> float:
    return figures.updates[MANY][name].cpu / figures.updates[FEW][name].cpu


PROMISES: Final = (
    Promise(f"batches of {BATCH}: CPU / COPY of the same rows", lambda f: f.batches[OURS].cpu / f.copy, "at most", 1.8),
    Promise(
        f"single events, {CROWD} at a time: requests a second / empty view",
        lambda f: f.crowd[OURS].rate / f.crowd[VIEW].rate,
        "at least",
        0.6,
    ),
    Promise(
        "single events, alone: p50 / (empty view + one commit)",
        lambda f: f.alone[OURS].p50[0] / (f.alone[VIEW].p50[0] + f.commit),
        "at most",
        1.5,
    ),
    Promise(
        "batches: CPU / bulk_create(), Django's defaults", lambda f: _cpu(f.batches, DJANGO_DEFAULT), "at most", 0.33
    ),
    Promise("batches: CPU / bulk_create(), connections kept", lambda f: _cpu(f.batches, DJANGO), "at most", 0.33),
    Promise(
        "single events: CPU / create(), Django's defaults", lambda f: _cpu(f.crowd, DJANGO_DEFAULT), "at most", 0.33
    ),
    Promise("single events: CPU / create(), connections kept", lambda f: _cpu(f.crowd, DJANGO), "at most", 0.33),
    Promise("event and profile stored: CPU at 1,000,000 events / at 1,000", lambda f: _growth(f, OURS), "at most", 1.2),
    Promise("update_stats(): CPU at 1,000,000 events / at 1,000", lambda f: _growth(f, DJANGO), ""),
    *(
        Promise(
            f"profile of {events:,} events, {when}: p50 / empty view",
            lambda f, when=when, path=path: f.lookups[when].p50[path] / f.lookups[when].p50[0],
            "at most",
            1.5,
        )
        for when in ("at rest", "while writing")
        for path, events in ((1, FEW), (2, MANY))
    ),
    *(
        Promise(
            f"profile lookup, {when}: p50 at 1,000,000 events / at 1,000",
            lambda f, when=when: f.lookups[when].p50[2] / f.lookups[when].p50[1],
            "about",
            1.0,
        )
        for when in ("at rest", "while writing")
    ),
    Promise("Umami, single events: its CPU / ours", lambda f: UMAMI["single"] / f.crowd[OURS].cpu, "at least", 10),
    Promise("Umami, batches: its CPU / ours", lambda f: UMAMI["batch"] / f.batches[OURS].cpu, "at least", 100),
    Promise("bytes on disk an event, in the present month", lambda f: f.room.both, "at most", 420),
    Promise("bytes on disk an event, in a month that is over", lambda f: f.packed.both, "at most", 420),
    Promise("Umami, disk: its bytes an event / ours", lambda f: UMAMI["bytes"] / f.room.both, ""),
)


def promises_table(found: Sequence[Figures]) -> Table:
    """All ratios, on every Postgres."""
    header = ["ratio", "asked", *(f"Postgres {figures.postgres}" for figures in found)]
    rows = [[one.words, one.asked(), *(one.measured(figures) for figures in found)] for one in PROMISES]
    return Table("Asked and measured", PROMISES_TEXT, header, rows)


def storing_table(figures: Figures) -> Table:
    """What storing an event takes."""
    loads = {
        f"{CROWD} at a time, one event each": figures.crowd,
        "alone, one event each": figures.alone,
        f"8 at a time, {BATCH} events each": figures.batches,
    }
    rows = [
        [f"{load}: {name}", f"{turn.rate:,.0f}", f"{turn.p50[0]:.2f}", *map(_us, (turn.web, turn.postgres, turn.cpu))]
        for load, turns in loads.items()
        for name, turn in turns.items()
    ]
    rows.append([f"COPY of {BATCH} rows, from JSON", "", "", "", "", _us(figures.copy)])
    rows.append(["one commit of one row", "", f"{figures.commit:.2f}", "", "", ""])
    header = ["CPU us an event", "requests/s", "p50 ms", "web", "Postgres", "both"]
    return Table(f"Storing, on Postgres {figures.postgres}", f"{figures.room}.", header, rows)


def profiles_table(figures: Figures) -> Table:
    """What a profile takes, as the user's history grows."""
    few, many = figures.updates[FEW], figures.updates[MANY]
    rest, busy = figures.lookups["at rest"], figures.lookups["while writing"]
    rows = [
        ["event stored, profile with it: collector, CPU us", *(_us(one[OURS].cpu) for one in (few, many)), ""],
        ["update_stats() alone: Django's, CPU us", *(_us(one[DJANGO].cpu) for one in (few, many)), ""],
        ["event stored, profile with it: collector, p50 ms", *(_ms(one[OURS].p50[0]) for one in (few, many)), ""],
        ["update_stats() alone: Django's, p50 ms", *(_ms(one[DJANGO].p50[0]) for one in (few, many)), ""],
        ["lookup at rest, p50 ms", *map(_ms, (*rest.p50[1:], rest.p50[0]))],
        ["lookup while writing, p50 ms", *map(_ms, (*busy.p50[1:], busy.p50[0]))],
    ]
    header = ["one request at a time", "user with 1,000 events", "with 1,000,000", "empty view"]
    return Table(f"Profiles, on Postgres {figures.postgres}", PROFILES_TEXT, header, rows)


def _us(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _ms(value: float) -> str:
    return f"{value:.2f}"


PROMISES_TEXT: Final = """\
CPU is that of all web processes and all of Postgres, for each stored event. *about*: within a fifth. Umami's figures
are of version 3.1, measured on such a machine on another day, and not in this run: 10,600 us of CPU for a single event,
7,200 us in batches, and 2,942 bytes on disk."""

PROFILES_TEXT: Final = """\
The collector's rows are the request with one event, as it keeps the profile while it stores; `update_stats()` is
without storing anything. The lookups and the empty view, `/healthz` of the same application, are asked for in turn on
one connection. *while writing*: 2 senders bring 100 events each every 0.1 s."""
