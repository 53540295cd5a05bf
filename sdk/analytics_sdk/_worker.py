"""Sends what waits: from a thread of its own, or from whoever drains.

One batch is under way at a time, so what happened first is stored first. A batch leaves the worker's hands only
when its fate is known; whoever sends holds the sending lock, and every wait has an end.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from typing import Final

from ._batch import Batch
from ._buffer import Buffer
from ._config import Config
from ._retry import pause_before
from ._transport import Outcome, Transport

logger = logging.getLogger("analytics_sdk")

_IDLE: Final = Outcome(fate="stored")


class Worker:
    """Takes records from the buffer and sends them until their fate is known."""

    def __init__(self, config: Config, buffer: Buffer, transport: Transport) -> None:
        self._config = config
        self._buffer = buffer
        self._transport = transport
        self.reset()

    def reset(self) -> None:
        """Begin anew, with new locks and no thread: what a forked child inherits is the parent's."""
        self._sending = threading.Lock()
        self._starting = threading.RLock()
        self._filled = threading.Event()
        self._hurry = threading.Event()
        self._stopping = threading.Event()
        self._batches: deque[Batch] = deque()
        self._failures = 0
        self._thread: threading.Thread | None = None

    def notice(self, waiting: int) -> None:
        """Look after records that wait; called with their number now and then: at the first, and at each full batch."""
        self._start()
        self._filled.set()
        if waiting >= self._config.max_batch_events:
            self._hurry.set()

    def drain(self, goal: int, deadline: float) -> None:
        """Send in the calling thread until so many records are settled, or until the deadline.

        Args:
            goal: Records settled since the beginning.
            deadline: On the clock of `time.monotonic()`, in seconds.
        """
        while self._buffer.settled < goal and (left := deadline - time.monotonic()) > 0:
            if not self._sending.acquire(timeout=left):
                return
            try:
                outcome = self._send_one(min(self._config.read_timeout, max(0.1, deadline - time.monotonic())))
            finally:
                self._sending.release()
            if outcome is _IDLE:
                return
            if outcome.fate in ("again", "misconfigured"):
                time.sleep(max(0.0, min(self._pause(outcome), deadline - time.monotonic())))

    def stop(self) -> None:
        """Let the thread end after the request that is under way."""
        self._stopping.set()
        self._filled.set()
        self._hurry.set()

    def _start(self) -> None:
        """Start the thread, once; in an interpreter that is shutting down there is none, and `close()` drains."""
        with self._starting:
            if self._thread is not None and self._thread.is_alive():
                return
            thread = threading.Thread(target=self._run, name="analytics_sdk", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return
            self._thread = thread

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._filled.wait()
            self._filled.clear()
            self._hurry.wait(self._config.flush_interval)
            self._hurry.clear()
            self._send_all()

    def _send_all(self) -> None:
        while not self._stopping.is_set():
            with self._sending:
                outcome = self._send_one(self._config.read_timeout)
            if outcome is _IDLE:
                return
            if outcome.fate in ("again", "misconfigured"):
                self._stopping.wait(self._pause(outcome))  # full batches do not cut it short, only the end does

    def _send_one(self, timeout: float) -> Outcome:
        """Send the next batch, if there is one; the caller holds the sending lock."""
        if not self._batches:
            records = self._buffer.take(self._config.max_batch_events, self._config.max_batch_bytes)
            if not records:
                return _IDLE
            self._batches.append(Batch(records))
        outcome = self._attempt(self._batches[0], timeout)
        self._settle(outcome)
        return outcome

    def _attempt(self, batch: Batch, timeout: float) -> Outcome:
        try:
            return self._transport.send(batch.body, timeout)
        except Exception as error:  # noqa: BLE001  # whatever went wrong, the records are still here
            return Outcome(fate="again", reason=f"{type(error).__name__}: {error}")

    def _settle(self, outcome: Outcome) -> None:
        if outcome.fate in ("again", "misconfigured"):
            self._note_failure(outcome)
            return
        batch = self._batches.popleft()
        if outcome.fate == "stored":
            known = outcome.duplicates + len(outcome.rejected)
            self._buffer.settle(
                batch.records,
                delivered=len(batch.records) - known,
                duplicate=outcome.duplicates,
                rejected=len(outcome.rejected),
            )
            self._note_success(outcome)
        elif len(batch.records) > 1:
            self._batches.extendleft(reversed(batch.halves()))
        else:
            self._buffer.settle(batch.records)
            logger.warning("The collector refused one record for good, it is dropped: %s", outcome.reason)

    def _pause(self, outcome: Outcome) -> float:
        rare = self._config.retry_cap if outcome.fate == "misconfigured" else outcome.retry_after
        return pause_before(self._failures, rare, self._config.retry_cap, random.uniform)

    def _note_failure(self, outcome: Outcome) -> None:
        """One line when trouble begins, none for each try."""
        self._failures += 1
        if self._failures == 1:
            level = logging.ERROR if outcome.fate == "misconfigured" else logging.WARNING
            logger.log(
                level,
                "Events wait, as %s does not take them (%s). They are kept and sent again.",
                self._config.url,
                outcome.reason,
            )

    def _note_success(self, outcome: Outcome) -> None:
        if self._failures:
            logger.info("%s takes events again after %d tries.", self._config.url, self._failures)
            self._failures = 0
        for verdict in outcome.rejected[:1]:
            logger.warning(
                "The collector set %d records aside in analytics_reject; the first: %s",
                len(outcome.rejected),
                verdict.get("message", ""),
            )
