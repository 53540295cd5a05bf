"""Sends one batch after the other, each until its fate is known. Whoever calls holds the worker's sending lock."""

from __future__ import annotations

import logging
import time
from collections import deque

from ._batch import Batch
from ._buffer import Buffer
from ._config import Config
from ._hooks import Hooks
from ._retry import pause_before
from ._transport import Outcome, Transport

logger = logging.getLogger("analytics_sdk")


class Sender:
    """Takes batches from the buffer, and gives each back to its account when it is known what became of it.

    Args:
        config: How often, how many.
        buffer: Where the records are.
        transport: What sends.
        hooks: What is told of losses.

    Attributes:
        failures: Tries that came to nothing, since something was stored.
        not_before: When Retry-After lets us try again, on the clock of `time.monotonic()`.
    """

    def __init__(self, config: Config, buffer: Buffer, transport: Transport, hooks: Hooks) -> None:
        self._config = config
        self._buffer = buffer
        self._transport = transport
        self._hooks = hooks
        self.reset()

    def reset(self) -> None:
        """Begin anew, with nothing in hand: what a forked child inherits is the parent's."""
        self._batches: deque[Batch] = deque()
        self._suspects: deque[Batch] = deque()
        self.failures = 0
        self.not_before = 0.0
        self._takes_adopted = False

    def send_one(self, timeout: float) -> float | None:
        """Send the next batch.

        Returns:
            Seconds to wait before the next one; None if there is nothing to send.
        """
        if not self._batches and (batch := self._next_batch()) is not None:
            self._batches.append(batch)
        if not self._batches:
            return None
        batch = self._batches[0]
        outcome = self._attempt(batch, timeout)
        return self._settle(batch, outcome)

    def _next_batch(self) -> Batch | None:
        """The next records: those of this process and those of an ended one take turns."""
        self._takes_adopted = not self._takes_adopted
        batch = self._buffer.take(
            self._config.max_batch_events, self._config.max_batch_bytes, prefer_adopted=self._takes_adopted
        )
        return self._suspects.popleft() if batch is None and self._suspects else batch

    def _attempt(self, batch: Batch, timeout: float) -> Outcome:
        before, batch.loss = batch.loss, "unanswered"
        try:
            outcome = self._transport.send(batch.body, timeout)
        except Exception as error:  # noqa: BLE001  # whatever went wrong, the records are still here
            return Outcome(fate="again", may_be_stored=True, reason=f"{type(error).__name__}: {error}")
        if not outcome.may_be_stored:
            batch.loss = before
        if outcome.fate == "stored" and not _is_about(outcome, len(batch.records)):
            words = "an answer with the numbers of another batch: is something between that keeps answers?"
            return Outcome(fate="misconfigured", may_be_stored=True, reason=words)
        return outcome

    def _settle(self, batch: Batch, outcome: Outcome) -> float:
        """Do what an outcome asks for, and tell for how many seconds to wait then."""
        if outcome.fate in ("again", "misconfigured"):
            return self._note_failure(outcome)
        self._batches.popleft()
        if outcome.fate == "stored":
            self._note_stored(batch, outcome)
        elif len(batch.records) > 1:
            self._batches.extendleft(reversed(self._buffer.halve(batch)))
        elif outcome.fate == "doubtful" and not batch.is_suspect:
            self._suspects.append(batch)
            return self._note_failure(outcome)
        else:
            self._set_aside(batch, outcome)
        return 0.0

    def _note_stored(self, batch: Batch, outcome: Outcome) -> None:
        rejected = len(outcome.rejected)
        is_booked = self._buffer.settle(
            batch,
            delivered=len(batch.records) - outcome.duplicates - rejected,
            duplicate=outcome.duplicates,
            rejected=rejected,
        )
        if self.failures:
            logger.info("%s takes events again after %d tries.", self._config.url, self.failures)
            self.failures = 0
        if rejected and is_booked:
            self._hooks.rejected(batch, outcome.rejected)
        self._try_suspects()

    def _try_suspects(self) -> None:
        """Something went through: records that are refused once more are refused for what they are."""
        for batch in self._suspects:
            batch.is_suspect = True
        self._batches.extendleft(reversed(self._suspects))
        self._suspects.clear()

    def _set_aside(self, batch: Batch, outcome: Outcome) -> None:
        if self._buffer.settle(batch, dropped="refused"):
            self._hooks.set_aside(batch, outcome.reason)

    def _note_failure(self, outcome: Outcome) -> float:
        """One line when trouble begins, none for each try; tells for how many seconds to wait."""
        self.failures += 1
        if self.failures == 1:
            logger.log(
                logging.WARNING if outcome.fate == "again" else logging.ERROR,
                "Events wait, as %s does not take them (%s). They are kept and sent again. "
                "What is wrong here, `python -m analytics_sdk doctor` tells.",
                self._config.url,
                outcome.reason,
            )
        import random  # not needed by a host without trouble

        uniform = random.SystemRandom().uniform  # the host's random.seed() and its numbers stay as they are
        least = self._config.retry_cap if outcome.fate == "misconfigured" else outcome.retry_after
        self.not_before = time.monotonic() + outcome.retry_after
        return pause_before(self.failures, least, self._config.retry_cap, uniform)


def _is_about(outcome: Outcome, count: int) -> bool:
    """Whether an answer can be about so many records: booked as it is, another one would spoil the account."""
    told = outcome.duplicates + len(outcome.rejected)
    accepted = count - told if outcome.accepted is None else outcome.accepted
    return min(accepted, outcome.duplicates) >= 0 and accepted + told == count
