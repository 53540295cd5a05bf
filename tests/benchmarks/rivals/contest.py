"""Contestants taking turns, so that whatever else the machine does hits all of them alike."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .contestant import Purpose
from .lineup import ALL
from .sink import Sink
from .worker import AbsentError, Worker


@dataclass
class Results:
    """What a contest found.

    Attributes:
        turns: Of each contestant.
        arrived: The share of its events that the sink has, in words.
        absent: Labels of those who could not take part, and why.
    """

    turns: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    arrived: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def all(self, name: str, what: str) -> list[float]:
        """One figure of every turn, or all figures of all turns."""
        values = [turn[what] for turn in self.turns[name]]
        return [one for value in values for one in value] if isinstance(values[0], list) else values


def take_turns(task: str, names: Collection[str], purpose: Purpose, rounds: int, events: int, disk: Path) -> Results:
    """Let everyone do the same, again and again, each time in another order.

    Args:
        task: What the worker measures.
        names: Who takes part.
        purpose: How they are configured.
        rounds: How many turns each has; one more before them is for warming up and does not count.
        events: Tracked in a turn.
        disk: Where spools go.
    """
    results = Results()
    order = list(names)
    luck = random.Random(0)
    with ExitStack() as stack:
        sink = stack.enter_context(Sink())
        spools = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=disk)))
        workers = open_workers(order, purpose, sink.url, spools, stack, results)
        for number in range(rounds + 1):
            luck.shuffle(order)
            for name in [one for one in order if one in workers]:
                found = take_turn(workers, name, task, number * events, results)
                if found and number > 0:
                    results.turns.setdefault(name, []).append(found)
            sink.ask("digest")
        for name in results.turns:
            found = sink.found(name)
            results.arrived[name] = f"{found['distinct']:,} of {(rounds + 1) * events:,}"
    return results


def open_workers(
    names: Collection[str], purpose: Purpose, url: str, spools: Path, stack: ExitStack, results: Results
) -> dict[str, Worker]:
    """A process for each contestant that can take part."""
    workers = {}
    for name in names:
        try:
            workers[name] = stack.enter_context(Worker(name, purpose, url, str(spools / name)))
        except AbsentError as why:
            results.absent[ALL[name].label] = str(why)
    return workers


def take_turn(workers: dict[str, Worker], name: str, task: str, start: int, results: Results) -> Any:
    """One turn of one contestant, who leaves the contest if it fails."""
    try:
        return workers[name].ask(task, start=start)
    except AbsentError as why:
        results.absent[ALL[name].label] = str(why)
        results.turns.pop(name, None)
        del workers[name]
    return None
