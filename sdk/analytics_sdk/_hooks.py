"""The host's functions: what it wants to see, to change, or to be told. None of their errors goes any further."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from zlib import crc32

import msgspec

from ._batch import Batch
from ._config import Config

logger = logging.getLogger("analytics_sdk")

_QUIET: Final = 60.0  # seconds between two log lines about the same thing


class Hooks:
    """Calls the host's functions, and tells the log what nobody else is told.

    Args:
        config: Has the functions.
        clock: Seconds, as `time.monotonic`.
    """

    def __init__(self, config: Config, clock: Callable[[], float] = time.monotonic) -> None:
        self._before_send = config.before_send
        self._on_drop = config.on_drop
        self._on_reject = config.on_reject
        self._clock = clock
        self._said: dict[str, float] = {}
        self._inside = threading.local()

    def screened(self, event: dict[str, Any]) -> dict[str, Any] | None:
        """What the host makes of an event; None if it wants none, or if its function fails.

        A function that removes what must not be kept, and fails, has not removed it.
        """
        if self._before_send is None:
            return event
        try:
            return self._before_send(event)
        except Exception:  # noqa: BLE001  # whatever it is, it is logged and goes no further
            self.say("before_send", "before_send raised, and the event was not accepted.", exc_info=True)
            return None

    def refused(self, reason: str) -> None:
        """One record was not accepted."""
        self.say(reason, "An event was not accepted (%s); stats() counts any further ones.", reason)
        self._tell_of_loss(reason, 1)

    def dropped(self, reason: str, count: int) -> None:
        """Records that were accepted are lost."""
        if count:
            self._tell_of_loss(reason, count)

    def damaged(self, count: int) -> None:
        """Records that were accepted cannot be read back from the spool."""
        if count:
            words = "%d records in the spool are damaged, and lost; stats() counts any further ones."
            self.say("damaged", words, count)
        self.dropped("damaged", count)

    def set_aside(self, batch: Batch, reason: str) -> None:
        """One record will never be taken by whoever stands before the collector."""
        self.say("refused", "One record is refused for good, and dropped: %s", reason)
        self._tell_of_loss("refused", len(batch.records))
        for record in batch.records:
            self._tell_of_reject(record, reason)

    def rejected(self, batch: Batch, verdicts: Sequence[Mapping[str, Any]]) -> None:
        """The collector has set records of a batch aside."""
        words = "The collector set %d records aside in analytics_reject; the first: %s"
        self.say("rejected", words, len(verdicts), verdicts[0].get("message", ""))
        for verdict in verdicts:
            record = _record_at(batch, verdict)
            if record is not None:
                self._tell_of_reject(record, f"{verdict.get('code', '')}: {verdict.get('message', '')}")

    def say(self, subject: str, message: str, *details: object, exc_info: bool = False) -> None:
        """Log a warning, unless one about the same subject was logged a moment ago."""
        now = self._clock()
        if now >= self._said.get(subject, now):
            self._said[subject] = now + _QUIET
            logger.warning(message, *details, exc_info=exc_info)

    def _tell_of_loss(self, reason: str, count: int) -> None:
        if self._on_drop is not None:
            self._call("on_drop", self._on_drop, reason, count)

    def _tell_of_reject(self, record: bytes, reason: str) -> None:
        if self._on_reject is not None:
            self._call("on_reject", self._on_reject, msgspec.json.decode(record), reason)

    def _call(self, name: str, function: Callable[..., object], *arguments: object) -> None:
        """Call a function of the host's, but not for what itself has caused: it may track, and that may be refused."""
        if getattr(self._inside, "is_calling", False):
            return
        self._inside.is_calling = True
        around = sys.exception()
        try:
            function(*arguments)
        except Exception as error:  # noqa: BLE001  # as above
            _forget_context(error, around)
            self.say(name, "%s raised; nothing else is affected.", name, exc_info=True)
        finally:
            self._inside.is_calling = False


def is_sampled(key: str, rate: float) -> bool:
    """Whether what belongs to a key is tracked: always the same answer for the same key.

    Args:
        key: A session id, or what else tells people apart.
        rate: The share of keys to be tracked, from 0 to 1.
    """
    return crc32(key.encode(errors="replace")) < rate * 2**32


def _forget_context(error: BaseException, around: BaseException | None) -> None:
    """Part an error of the host's from ours that it came up in: that one quotes the event, and a log must not."""
    inner: BaseException | None = error
    while inner is not None:
        if inner.__context__ is around:
            inner.__context__ = None
        inner = inner.__context__


def _record_at(batch: Batch, verdict: Mapping[str, Any]) -> bytes | None:
    """The record that a verdict is on: `record` names the array, `index` the place in it."""
    kind, index = verdict.get("record", "event"), verdict.get("index")
    if not (isinstance(kind, str) and kind and isinstance(index, int)):
        return None
    records = batch.records_of(kind)
    return records[index] if 0 <= index < len(records) else None
