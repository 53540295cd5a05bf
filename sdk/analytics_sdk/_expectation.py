"""What a test expects to have been tracked, how near an event comes to it, and how to say so."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import EllipsisType
from typing import Any, Final

import msgspec

from ._rows import Row, shown_user_id

_MOST_SHOWN: Final = 10  # events in one message
_WIDEST: Final = 300  # characters of one event
_MISSING: Final = object()

_Stored = Sequence[Callable[[Any], Any]]


class Expectation(msgspec.Struct, frozen=True, kw_only=True):
    """Which events are meant.

    Attributes:
        event_type: None means any.
        event_data: What the event's must hold; it may hold more, at any depth.
        user_id: None means nobody's, `...` anybody's.
        session_id: "" means outside of any session, `...` wherever.
        stored: Turn a value into what is stored of it, for instance a Decimal into a string; each may be right.
    """

    event_type: str | None
    event_data: Mapping[str, Any]
    user_id: Any
    session_id: str | EllipsisType
    stored: _Stored

    def matches(self, event: Row) -> bool:
        """Whether an event is one of those meant."""
        return not any(self.differences(event))

    def differences(self, event: Row) -> Iterator[str]:
        """What keeps an event from being meant; the type's comes first."""
        if self.event_type is not None and event["event_type"] != self.event_type:
            yield f"event_type is {event['event_type']!r}"
        if self.user_id is not ... and event["user_id"] != shown_user_id(self.user_id):
            yield f"user_id is {event['user_id']!r}, not {self.user_id!r}"
        if self.session_id is not ... and event["session_id"] != (self.session_id or ""):
            yield f"session_id is {event['session_id']!r}, not {self.session_id!r}"
        yield from _differences("event_data", event["event_data"], self.event_data, self.stored)

    def distance(self, event: Row) -> float:
        """How far an event is from being meant: another type weighs more than anything, unless it is misspelt."""
        found = len(list(self.differences(event)))
        if self.event_type is None or event["event_type"] == self.event_type:
            return found
        return found + 10 * (1 - difflib.SequenceMatcher(None, self.event_type, event["event_type"]).ratio())

    def __str__(self) -> str:
        given = {"user_id": self.user_id, "session_id": self.session_id}
        parts = [f"{name}={value!r}" for name, value in given.items() if value is not ...]
        if self.event_data:
            parts.append(f"event_data with {self.event_data!r}")
        what = "any event" if self.event_type is None else repr(str(self.event_type))
        return f"{what} with {', '.join(parts)}" if parts else what


def _differences(where: str, actual: Any, expected: Any, stored: _Stored) -> Iterator[str]:
    """What a stored value lacks of what is expected: mappings may hold more, everything else is equal."""
    if isinstance(expected, Mapping) and isinstance(actual, dict):
        for key, part in expected.items():
            name = key if isinstance(key, str) else str(key)
            yield from _differences(f"{where}[{name!r}]", actual.get(name, _MISSING), part, stored)
    elif isinstance(expected, list | tuple) and isinstance(actual, list) and len(expected) == len(actual):
        for index, (have, part) in enumerate(zip(actual, expected, strict=True)):
            yield from _differences(f"{where}[{index}]", have, part, stored)
    elif actual is _MISSING:
        yield f"{where} is missing"
    elif not _is_equal(actual, expected, stored):
        yield f"{where} is {actual!r}, not {expected!r}"


def _is_equal(actual: Any, expected: Any, stored: _Stored) -> bool:
    """Compare with the expected value itself, which may be `unittest.mock.ANY`, and with what is stored of it."""
    if isinstance(actual, bool) and isinstance(expected, int | float) and not isinstance(expected, bool):
        return False  # true is no 1
    if isinstance(expected, bool) and not isinstance(actual, bool):
        return False
    return bool(actual == expected) or any(actual == as_stored(expected) for as_stored in stored)


def failure(expected: Expectation, events: Sequence[Row], times: int | None, notes: Sequence[str]) -> str:
    """Say that too few or too many events are as expected, and what there is instead, the nearest first.

    Args:
        expected: Which events were looked for.
        events: All that were tracked.
        times: How many of them were to be found; None for any number but none.
        notes: What else may be the reason.
    """
    found = [event for event in events if expected.matches(event)]
    if times == 0:
        return "\n".join([f"{expected} was tracked {_times(len(found))}.", *_listing(expected, found)])
    if times is None:
        head = f"{expected} was not tracked."
    else:
        head = f"{expected} was tracked {_times(len(found))}, not {_times(times)}."
    nearest = sorted(events, key=expected.distance)
    return "\n".join([head, *_listing(expected, nearest), *notes])


def _listing(expected: Expectation, events: Sequence[Row]) -> Iterator[str]:
    if not events:
        yield "Nothing was tracked."
        return
    yield "What was tracked:" if len(events) == 1 else f"What was tracked, {len(events)} events, the nearest first:"
    for event in events[:_MOST_SHOWN]:
        differences = list(expected.differences(event))
        yield f"  {'-' if differences else '='} {shown(event)}"
        if differences and (expected.event_type is None or event["event_type"] == expected.event_type):
            yield from (f"      {difference}" for difference in differences)
    if len(events) > _MOST_SHOWN:
        yield f"  and {len(events) - _MOST_SHOWN} more"


def shown(event: Row) -> str:
    """An event on one line."""
    parts = [f"{name}={event[name]!r}" for name in ("user_id", "session_id") if event[name] not in (None, "")]
    data = json.dumps(event["event_data"], ensure_ascii=False)
    line = " ".join([event["event_type"], *parts, data])
    return line if len(line) <= _WIDEST else f"{line[: _WIDEST - 3]}..."


def _times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number:,} times")
