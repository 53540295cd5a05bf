"""Those that are compared: an empty Flask view, the collector, and a Django app, behind the same gunicorn."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

import attrs

from tests.benchmarks.serving.databases import Databases
from tests.benchmarks.serving.load import Load, put_on
from tests.benchmarks.serving.turn import Server
from tests.benchmarks.serving.usage import children_of
from tests.programs import ROOT, gunicorn, run_collector, wait_until

WORKERS: Final = 2
THREADS: Final = 16  # of each, as many as the collector has
_OPTIONS: Final = ("--worker-class", "gthread", "--workers", str(WORKERS), "--threads", str(THREADS))
_LIKE_OURS: Final = (*_OPTIONS, "--keep-alive", "75", "--no-control-socket", "--chdir", str(ROOT))


@attrs.frozen
class Servers:
    """All of them, warm.

    Attributes:
        view: Flask; reads the body, and forgets it.
        collector: As `serve` runs it.
        django: Connections to Postgres stay open, which its default is not.
        django_default: With Django's defaults: a connection for each request.
    """

    view: Server
    collector: Server
    django: Server
    django_default: Server


@contextlib.contextmanager
def running(databases: Databases) -> Iterator[Servers]:
    """Serve until the end of the block."""
    with contextlib.ExitStack() as stack:
        view = stack.enter_context(_plain("tests.benchmarks.serving.view:app", None))
        collector = stack.enter_context(_collector(databases))
        django = [
            stack.enter_context(
                _plain(
                    "tests.benchmarks.serving.django_view:app",
                    databases.postmaster,
                    DJANGO_DSN=databases.django,
                    DJANGO_CONN_MAX_AGE=age,
                )
            )
            for age in ("null", "0")
        ]
        for server, path in ((view, "/v1/events"), (collector, "/v1/events"), *((one, "/create") for one in django)):
            _warm(server, path)
        yield Servers(view, collector, *django)


@contextlib.contextmanager
def _plain(target: str, postmaster: int | None, **environ: str) -> Iterator[Server]:
    with gunicorn(target, environ, *_LIKE_OURS) as (url, process):
        yield Server(_port(url), process.pid, postmaster)


@contextlib.contextmanager
def _collector(databases: Databases) -> Iterator[Server]:
    with run_collector(databases.ours, workers=WORKERS, ANALYTICS_THREADS=str(THREADS)) as collector:
        yield Server(_port(collector.url), collector.process.pid, databases.postmaster)


def _port(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


def _warm(server: Server, path: str) -> None:
    """Let every worker do some work, so that none is still starting when the first turn begins."""
    wait_until(lambda: len(children_of(server.pid)) == WORKERS, within=30, what="the workers")
    for _ in range(2):
        put_on(server.port, Load(visitors=THREADS, seconds=1.0, paths=(path,), events=1))
