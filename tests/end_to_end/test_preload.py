"""A preloaded application under gunicorn: every event of every process is in Postgres once."""

from __future__ import annotations

import contextlib
import http.client
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.conftest import WRITE_KEY
from tests.programs import ROOT, Collector, gunicorn, wait_until

VISITORS = 8
PAGES = 38  # for each of them


def visit(url: str, ids: list[str]) -> list[tuple[str, int]]:
    """Open a page for each id, as one visitor who keeps the cookie; which process answered each."""
    cookie = ""
    answers = []
    for event_id in ids:
        with contextlib.closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)) as connection:
            connection.request("GET", f"/?id={event_id}", headers={"Accept": "text/html", "Cookie": cookie})
            response = connection.getresponse()
            answers.append((event_id, int(response.read())))
            cookie = response.headers["Set-Cookie"].partition(";")[0]
    return answers


def visit_all(url: str) -> list[tuple[str, int]]:
    """Let all visitors come at once; which process answered each of their visits."""
    visits = [[str(uuid.uuid4()) for _ in range(PAGES)] for _ in range(VISITORS)]
    with ThreadPoolExecutor(VISITORS) as visitors:
        return [answer for seen in visitors.map(visit, [url] * VISITORS, visits) for answer in seen]


@pytest.mark.parametrize(
    ("flush_interval", "options"),
    [
        pytest.param("0.01", [], id="all along"),
        pytest.param("600", [], id="at the end"),
        pytest.param("600", ["--max-requests", "40"], id="workers that are replaced"),
        pytest.param("0.5", ["--threads", "4"], id="workers with threads"),
    ],
)
def test_a_preloaded_application_delivers_everything_once(
    flush_interval: str, options: list[str], collector: Collector, connection: psycopg.Connection
) -> None:
    """What the master tracked before the fork and what each worker tracked until its end has arrived, once each.

    That holds whether events leave as they come or all when the process ends.
    """
    loaded = str(uuid.uuid4())
    environ = {"ANALYTICS_URL": collector.url, "ANALYTICS_WRITE_KEY": WRITE_KEY}
    environ |= {"ANALYTICS_FLUSH_INTERVAL": flush_interval, "ANALYTICS_EXIT_TIMEOUT": "20", "LOADED_ID": loaded}
    preload = ("--preload", "--workers", "3", "--no-control-socket", "--pythonpath", str(ROOT), *options)
    answers: list[tuple[str, int]] = []
    with gunicorn("tests.end_to_end.apps:app", environ, *preload) as (url, server):
        wait_until(lambda: answers.extend(visit_all(url)) or len({pid for _, pid in answers}) >= 3, within=60)
    rows = connection.execute("SELECT event_type, event_id::text, (event_data->>'pid')::int FROM analytics_event")
    kinds, ids, pids = zip(*rows, strict=True)
    clicks = [(event_id, pid) for kind, event_id, pid in zip(kinds, ids, pids, strict=True) if kind == "click"]
    assert sorted(clicks) == sorted(answers)
    assert Counter(kinds) == {"click": len(answers), "page_view": len(answers), "loaded": 1}
    assert (loaded, server.pid) in zip(ids, pids, strict=True)
    sessions = len(answers) // PAGES
    assert connection.execute("SELECT count(*) FROM analytics_session").fetchone() == (sessions,)
