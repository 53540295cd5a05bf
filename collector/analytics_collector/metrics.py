"""The figures of this collector, for Prometheus: counted in each worker, shown as the sum of all of them.

Under gunicorn each process counts in files of its own below PROMETHEUS_MULTIPROC_DIR, which `gunicorn_config` makes
before anything imports this module; elsewhere, as under Flask's test client, in memory. The files belong to a slot and
not to a process: who comes after a worker that has ended takes its slot and counts on, so their number stays that of
the workers, and no counter ever goes back.
"""

from __future__ import annotations

import fcntl
import os
from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Final

import attrs
import prometheus_client.values
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector

from . import logs
from .records import REASONS

DIRECTORY: Final = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_MOST_SLOTS: Final = 10_000
_COMMIT_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_COMMIT_RECORDS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
_POOL: Final = {  # names of psycopg_pool, and ours
    "pool_size": ("connections", "Connections to Postgres that are open."),
    "pool_available": ("connections_idle", "Connections to Postgres that wait for work."),
    "pool_max": ("connections_most", "Connections to Postgres that there may be."),
    "requests_waiting": ("requests_waiting", "Requests that wait for a connection to Postgres."),
}


class _Slots:
    """Tells which files this process counts in: those of the first slot that no living process has."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._slot = -1
        self._lock: IO[bytes] | None = None  # held as long as the process lives; the kernel lets it go

    def mine(self) -> int:
        """The number of this process's slot."""
        if self._slot < 0:
            self._slot, self._lock = next(
                (slot, lock) for slot in range(_MOST_SLOTS) if (lock := self._take(slot)) is not None
            )
        return self._slot

    def leave(self) -> None:
        """Take another one at the next call: this process is the child of the one whose slot it is."""
        self._slot = -1

    def forget_the_dead(self) -> None:
        """Remove what processes that have ended say of the present; what they counted stays."""
        for path in self._directory.glob("*.slot"):
            lock = self._take(int(path.stem))
            if lock is not None:
                for gauges in self._directory.glob(f"gauge_live*_{path.stem}.db"):
                    gauges.unlink(missing_ok=True)
                lock.close()

    def _take(self, slot: int) -> IO[bytes] | None:
        try:
            lock = (self._directory / f"{slot}.slot").open("ab")
        except PermissionError:  # of a master that was another user
            return None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return None
        return lock


_slots: Final = _Slots(Path(os.environ[DIRECTORY])) if os.environ.get(DIRECTORY) else None
if _slots is not None:
    os.register_at_fork(after_in_child=_slots.leave)
    prometheus_client.values.ValueClass = prometheus_client.values.MultiProcessValue(_slots.mine)  # type: ignore[no-untyped-call]

_registry: Final = CollectorRegistry()  # of our own: whatever else counts in this process is not ours to show

_accepted = Counter(
    "analytics_events_accepted", "Events stored for the first time, and other records applied.", registry=_registry
)
_duplicates = Counter("analytics_events_duplicate", "Events that were stored before.", registry=_registry)
_rejected = Counter("analytics_records_rejected", "Records set aside, by reason.", ["code"], registry=_registry)
_flagged = Counter(
    "analytics_events_flagged",
    "Events that are not as planned, and are stored all the same.",
    ["event_type", "code"],
    registry=_registry,
)
_commit_seconds = Histogram(
    "analytics_commit_seconds",
    "How long a transaction that stores records took.",
    buckets=_COMMIT_SECONDS,
    registry=_registry,
)
_commit_records = Histogram(
    "analytics_commit_records",
    "How many records such a transaction had.",
    buckets=_COMMIT_RECORDS,
    registry=_registry,
)
_requests = Counter("analytics_requests", "Requests answered.", ["method", "path", "status"], registry=_registry)
_request_seconds = Histogram(
    "analytics_request_seconds",
    "How long a request took, from its headers to its answer.",
    ["method", "path"],
    buckets=_COMMIT_SECONDS,
    registry=_registry,
)
_pool = {
    name: Gauge(f"analytics_pool_{ours}", help_text, multiprocess_mode="livesum", registry=_registry)
    for name, (ours, help_text) in _POOL.items()
}
# With labels looked up once: that is half of what counting costs. Both sets are closed.
_rejected_with: Final = {code: _rejected.labels(code) for code in REASONS}
_requests_with: Final[dict[tuple[str, str, int], Counter]] = {}
_request_seconds_with: Final[dict[tuple[str, str], Histogram]] = {}


def note_commit(seconds: float, records: int) -> None:
    """Count a transaction.

    Args:
        seconds: From BEGIN to the answer to COMMIT.
        records: How many it stored or set aside.
    """
    _commit_seconds.observe(seconds)
    _commit_records.observe(records)


def note_verdict(accepted: int, duplicates: int, codes: Sequence[str]) -> None:
    """Count what became of a request's records, in the thread that answers it: its log line tells their number, too.

    Args:
        accepted: As in the verdict.
        duplicates: As in the verdict.
        codes: The reason of every record that was rejected, of `records.REASONS`.
    """
    _accepted.inc(accepted)
    if duplicates:
        _duplicates.inc(duplicates)
    for code, count in Tally(codes).items() if codes else ():
        (_rejected_with.get(code) or _rejected.labels(code)).inc(count)
    logs.note(records=accepted + duplicates + len(codes))


def note_flagged(counts: Mapping[tuple[str, str], int]) -> None:
    """Count events that are not as planned, by event type, of a closed set, and code."""
    for (event_type, code), count in counts.items():
        _flagged.labels(event_type, code).inc(count)


def note_request(method: str, path: str, status: int, seconds: float) -> None:
    """Count an answer.

    Args:
        method: Of a closed set.
        path: Of a closed set: a route, not what was asked for.
        status: The HTTP status.
        seconds: How long it took.
    """
    requests = _requests_with.get((method, path, status))
    if requests is None:
        requests = _requests_with[method, path, status] = _requests.labels(method, path, status)
    requests.inc()
    durations = _request_seconds_with.get((method, path))
    if durations is None:
        durations = _request_seconds_with[method, path] = _request_seconds.labels(method, path)
    durations.observe(seconds)


def note_pool(stats: Mapping[str, int]) -> None:
    """Keep what `psycopg_pool` says of this process's connections; others add theirs."""
    for name, gauge in _pool.items():
        gauge.set(stats.get(name, 0))


@attrs.frozen
class Figure:
    """A figure that is the same in all workers, as it is the database's.

    Attributes:
        name: The metric's.
        help: What it is, in one sentence.
    """

    name: str
    help: str
    value: float


def render(figures: Iterable[Figure]) -> bytes:
    """All figures of all workers, and those of the database, in Prometheus's text format 0.0.4."""
    return generate_latest(_all_workers()) + generate_latest(_Now(figures))


class _Now:
    """Figures that are shown and forgotten: a gauge of the library would stay in this worker's file."""

    def __init__(self, figures: Iterable[Figure]) -> None:
        self._figures = figures

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The figures, as the library wants to have them."""
        for figure in self._figures:
            yield GaugeMetricFamily(figure.name, figure.help, figure.value)


def _all_workers() -> CollectorRegistry:
    if _slots is None:
        return _registry
    _slots.forget_the_dead()
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry
