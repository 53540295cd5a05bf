"""What every contestant can do, whoever made it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

# waiting: nothing is sent unless drain() asks. sending: as the SDK likes it, only its bounds on the number of waiting
# events are lifted. default: nothing is configured but the address.
Purpose = Literal["waiting", "sending", "default"]

MANY = 1_000_000  # events; more than any run tracks
LONG = 3600.0  # seconds; longer than any run takes


@dataclass(frozen=True, kw_only=True)
class Tracker:
    """One client, ready.

    Attributes:
        burst: Tracks one event for each of these properties. The loop is inside, so that no wrapper is timed.
        drain: Returns when all that was tracked has been answered, or raises.
    """

    burst: Callable[[Iterable[dict[str, Any]]], object]
    drain: Callable[[], object]


class Opener(Protocol):
    """Imports an SDK and makes its client."""

    def __call__(self, url: str, purpose: Purpose, spool: str) -> Tracker:
        """Make the client.

        Args:
            url: Where the sink is.
            purpose: How it is configured.
            spool: A directory of its own, for those who have a use for it.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """One row of the tables.

    Attributes:
        label: As printed.
        package: On PyPI; empty for what comes with Python.
        module: What its user imports; empty for a row that is imported elsewhere in the table.
        batch: Events in one request, in the tables of what is delivered.
        opener: Makes the client.
        holds: Most events that it lets wait; 0 for as many as fit.
        threads: Whether several threads may track at once.
        spools: Whether what it kept on disk is sent at the next start.
    """

    label: str
    package: str
    module: str
    batch: int
    opener: Opener
    holds: int = 0
    threads: bool = True
    spools: bool = False
