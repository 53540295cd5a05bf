"""The gate between parsing and storing: what the tracking plan says against an event is acted on or only noted."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import attrs

from . import plan as plans
from .batch import Batch, Item, Reject
from .config import Settings
from .plan import Complaint, Plan
from .records import EventRecord

logger = logging.getLogger("analytics_collector")

PAUSE: Final = timedelta(minutes=1)
"""Between two lines in the log about flagged events."""
OTHER_TYPES: Final = "(not in the plan)"
"""Counted together: a sender can make up any number of them."""


Tell = Callable[[Mapping[tuple[str, str], int]], object]


class Gate:
    """Applies a tracking plan to batches.

    Args:
        plan: None lets everything pass.
        is_strict: Whether an event that is not as planned is rejected, or stored and counted in `flagged`.
        tell: Is told how many more of these there are, by event type and code.

    Attributes:
        flagged: How many events of this process were not as planned and stored all the same, by event type and code.
    """

    def __init__(self, plan: Plan | None = None, *, is_strict: bool = True, tell: Tell = lambda _: None) -> None:
        self._plan = plan
        self._is_strict = is_strict
        self._tell = tell
        self._lock = threading.Lock()
        self._unsaid: Counter[tuple[str, str]] = Counter()
        self._silent_until: datetime | None = None
        self.flagged: Counter[tuple[str, str]] = Counter()

    @classmethod
    def of(cls, settings: Settings, tell: Tell = lambda _: None) -> Gate:
        """The gate that the settings ask for, which tells of what it flags.

        Raises:
            ConfigError: The plan is wrong; the message says where.
        """
        plan = plans.load(Path(settings.plan)) if settings.plan else None
        return cls(plan, is_strict=settings.plan_mode == "reject", tell=tell)

    def screen(self, batch: Batch, now: datetime) -> Batch:
        """Set aside the events of a batch that are not as planned, or note them.

        Args:
            batch: Judged records.
            now: For the log, which is told once a minute.
        """
        if self._plan is None:
            return batch
        complaints = {id(item): complaint for item in batch.items if (complaint := _judge(self._plan, item))}
        if not complaints:
            return batch
        if not self._is_strict:
            self._note([(item, complaints[id(item)]) for item in batch.items if id(item) in complaints], now)
            return batch
        refused = [batch.refuse(item, *complaints[id(item)]) for item in batch.items if id(item) in complaints]
        passed = tuple(item for item in batch.items if id(item) not in complaints)
        return attrs.evolve(batch, items=passed, rejects=_in_order([*batch.rejects, *refused]))

    def _note(self, flagged: Iterable[tuple[Item, Complaint]], now: datetime) -> None:
        counts = Counter((_name(item, code), code) for item, (code, _) in flagged)
        example = next(iter(flagged))[1][1]
        self._tell(counts)
        with self._lock:
            self.flagged += counts
            self._unsaid += counts
            if self._silent_until is not None and now < self._silent_until:
                return
            said, self._unsaid = self._unsaid, Counter()
            self._silent_until = now + PAUSE
        words = ", ".join(f"{name} {code} {count}" for (name, code), count in sorted(said.items()))
        logger.warning("Not as planned, and stored all the same: %s; for instance %s", words, example)


def _judge(plan: Plan, item: Item) -> Complaint | None:
    record = item.record
    return plan.judge(record.event_type, bytes(record.event_data)) if isinstance(record, EventRecord) else None


def _name(item: Item, code: str) -> str:
    assert isinstance(item.record, EventRecord)  # the plan judges nothing else
    return OTHER_TYPES if code == "unknown_event" else item.record.event_type


def _in_order(rejects: Iterable[Reject]) -> tuple[Reject, ...]:
    """As in the request: kind by kind, each by its place."""
    return tuple(sorted(rejects, key=lambda reject: (reject.kind == "event", reject.kind == "user", reject.index)))
