"""Real programs for the tests: started, waited for with a deadline, and ended by their own pid."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import attrs

ROOT = Path(__file__).parent.parent


def wait_until(condition: Callable[[], object], *, within: float = 10.0, what: str = "it") -> None:
    """Poll until the condition holds; a failure after so many seconds says what did not happen."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {within} seconds"
        time.sleep(0.01)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def running(command: list[str], environ: Mapping[str, str], **options: object) -> Iterator[subprocess.Popen[str]]:
    """Start a program; at the end of the block it gets SIGTERM and must end within 40 seconds (gunicorn has 30)."""
    process = subprocess.Popen(command, env={**os.environ, **environ}, text=True, **options)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()


@contextlib.contextmanager
def gunicorn(target: str, environ: Mapping[str, str], *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Serve a WSGI application; yields its address once it accepts connections."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--log-level", "warning"]
    with running([*command, *options, target], environ) as process:
        wait_until(lambda: _listens(port) or process.poll() is not None, what=f"{target} listening")
        assert process.poll() is None, f"gunicorn ended with {process.returncode}"
        yield f"http://127.0.0.1:{port}", process


@attrs.frozen
class Collector:
    """A collector that runs in processes of its own."""

    url: str
    dsn: str
    process: subprocess.Popen[str]


@contextlib.contextmanager
def run_collector(dsn: str, *, workers: int = 2, **environ: str) -> Iterator[Collector]:
    """A real collector behind gunicorn, with the configuration that `serve` uses, and without housekeeping."""
    quiet = {"ANALYTICS_HOUSEKEEPING_SECONDS": "0"}
    settings = {"ANALYTICS_DATABASE_URL": dsn, "ANALYTICS_WORKERS": str(workers), **quiet, **environ}
    configuration = ("--config", "python:analytics_collector.gunicorn_config")
    with gunicorn("analytics_collector.app:create_app()", settings, *configuration) as (url, process):
        wait_until(lambda: _answers(f"{url}/readyz"), what="the collector being ready")
        yield Collector(url, dsn, process)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False
