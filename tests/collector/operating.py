"""A collector as an operator has it: behind gunicorn with its own options, its log in a file, asked over HTTP."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import READ_KEY
from tests.programs import Collector, free_port, running, wait_until

READ: Mapping[str, str] = {"Authorization": f"Bearer {READ_KEY}"}


@attrs.frozen
class Reply:
    """What came back, with its headers in lower case."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.text)


def ask(
    url: str,
    path: str,
    headers: Mapping[str, str] = READ,
    *,
    method: str = "GET",
    content: bytes | None = None,
    timeout: float = 30.0,
) -> Reply:
    """Send one request on a connection of its own; the time-out is in seconds."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=timeout)
    with contextlib.closing(connection):
        connection.request(method, path, content, dict(headers))
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, found, response.read().decode())


@contextlib.contextmanager
def logging_collector(
    dsn: str, log: Path, *options: str, workers: int = 2, ready: bool = True, **environ: str
) -> Iterator[Collector]:
    """A collector behind gunicorn with the configuration that `serve` uses; all that it says is in a file."""
    port = free_port()
    address = ("--bind", f"127.0.0.1:{port}", "--config", "python:analytics_collector.gunicorn_config")
    command = [sys.executable, "-m", "gunicorn", *address, *options, "analytics_collector.app:create_app()"]
    settings = {"ANALYTICS_DATABASE_URL": dsn, "ANALYTICS_WORKERS": str(workers), **environ}
    url = f"http://127.0.0.1:{port}"
    with log.open("ab") as stream, running(command, settings, stdout=stream, stderr=stream) as process:
        wait_until(lambda: answers(url, "/readyz" if ready else "/healthz"), within=20, what="the collector")
        yield Collector(url, dsn, process)


def answers(url: str, path: str) -> bool:
    """Whether a path is answered 200 now."""
    try:
        return ask(url, path, timeout=5).status == 200
    except (OSError, http.client.HTTPException):
        return False


def workers_of(process_id: int) -> set[int]:
    """The processes that gunicorn has forked, without those that have ended."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(parent) == process_id and state != "Z":
                found.add(int(folder.name))
    return found - {os.getpid()}


def samples(text: str, name: str) -> dict[tuple[str, ...], float]:
    """The samples of one name in Prometheus's text format, by the values of their labels."""
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }
