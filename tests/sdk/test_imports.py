"""What the package costs and changes: nothing of the host's, and little of its time."""

from __future__ import annotations

import copy
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest

import analytics_sdk
from analytics_sdk import Client

LOOK = """
import asyncio, decimal, gc, locale, logging, os, signal, socket, sys, threading, time

def look():
    return {
        "threads": threading.active_count(),
        "environ": dict(os.environ),
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "hooks": (sys.excepthook, threading.excepthook, sys.unraisablehook),
        "root": (logging.root.level, list(logging.root.handlers), logging.root.disabled),
        "levels": {name: logger.level for name, logger in logging.root.manager.loggerDict.items()
                   if isinstance(logger, logging.Logger) and name != "analytics_sdk"},
        "level": logging.getLogger("analytics_sdk").level,
        "logging": (logging.raiseExceptions, logging.root.manager.disable, logging.getLoggerClass()),
        "warnings": list(__import__("warnings").filters),
        "recursion": sys.getrecursionlimit(),
        "random": __import__("random").getstate(),
        "decimal": repr(decimal.getcontext()),
        "locale": locale.setlocale(locale.LC_ALL),
        "sockets": socket.getdefaulttimeout(),
        "asyncio": type(asyncio.get_event_loop_policy()),
        "collector": (gc.isenabled(), gc.get_threshold(), list(gc.callbacks)),
        "interpreter": (list(sys.path), list(sys.meta_path), list(sys.path_hooks), sys.getswitchinterval()),
        "tracing": (sys.gettrace(), sys.getprofile(), threading.gettrace(), threading.getprofile()),
        "place": (os.getcwd(), time.tzname),
    }

os.environ["ANALYTICS_URL"] = "http://127.0.0.1:9"
os.environ["ANALYTICS_WRITE_KEY"] = "k"
logging.getLogger("analytics_sdk")
before = look()
"""


def run(script: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_importing_and_making_a_client_change_nothing_of_the_hosts() -> None:
    """Threads, environment, signal handlers, hooks, log levels and handlers are as they were."""
    run(LOOK + "import analytics_sdk\nassert look() == before, look()")
    run(LOOK + "import analytics_sdk\nanalytics_sdk.Client()\nanalytics_sdk.init()\nassert look() == before, look()")


def test_tracking_changes_nothing_but_one_thread() -> None:
    """After events were tracked, there is one thread more, and nothing else."""
    run(
        LOOK
        + "import analytics_sdk\nanalytics_sdk.init(flush_interval=60, exit_timeout=0.01)\n"
        + "for _ in range(10): analytics_sdk.track('click')\n"
        + "before['threads'] += 1\nassert look() == before, look()"
    )


UNNEEDED = ["httpx", "flask", "psycopg", "requests", "asyncio", "analytics_collector", "ssl"]
UNNEEDED += ["analytics_sdk._spool", "analytics_sdk._window", "analytics_sdk._doctor", "copy", "errno"]


@pytest.mark.parametrize("module", UNNEEDED)
def test_what_a_host_does_not_need_is_not_imported(module: str) -> None:
    """The package brings neither httpx nor anything of the collector or of a spool into a host that did not ask."""
    made = "import analytics_sdk; analytics_sdk.Client('http://127.0.0.1:9', write_key='k')"
    had = f"import sys; had = {module!r} in sys.modules"
    assert run(f"{had}; {made}; print({module!r} in sys.modules and not had)") == "False"


def test_it_loads_no_more_than_110_modules() -> None:
    """All that is imported with it, on CPython 3.11: nothing comes in unseen."""
    count = int(run("import sys; had = set(sys.modules); import analytics_sdk; print(len(set(sys.modules) - had))"))
    assert count <= 110 or sys.version_info[:2] != (3, 11)


def test_the_logger_is_silent_by_itself() -> None:
    """A host without logging reads nothing on stderr, as the logger has a NullHandler and no level."""
    script = """
import logging, analytics_sdk
logger = logging.getLogger("analytics_sdk")
assert [type(handler) for handler in logger.handlers] == [logging.NullHandler]
assert (logger.level, logger.propagate) == (logging.NOTSET, True)
analytics_sdk.track("before init")
"""
    assert run(script) == ""


def test_submodules_are_there_when_they_are_used() -> None:
    """`analytics_sdk.wsgi` and `analytics_sdk.testing` need no import of their own, and cost none before."""
    assert run("import sys, analytics_sdk; print('analytics_sdk.wsgi' in sys.modules)") == "False"
    run("import analytics_sdk; analytics_sdk.wsgi.AnalyticsMiddleware")
    run("import analytics_sdk; analytics_sdk.testing.RecordingTransport()")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        analytics_sdk.nothing  # noqa: B018


def test_the_package_exposes_exactly_what_it_says() -> None:
    """`__all__` is sorted, complete, and all of it is there."""
    exposed = {
        name
        for name, value in vars(analytics_sdk).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    exposed |= {"Reader"} if analytics_sdk.Reader else set()  # imported when it is first used
    helpers = {"annotations", "TYPE_CHECKING", "Any"}
    assert sorted(exposed - helpers) == sorted(analytics_sdk.__all__)
    assert analytics_sdk.__all__ == sorted(analytics_sdk.__all__, key=lambda name: (name.islower(), name))


def test_the_callers_data_is_not_touched(client: Client) -> None:
    """Dicts that are passed in are the same afterwards, also when they hold what JSON has no form for."""
    data: dict[Any, Any] = {"set": {1}, "nested": {"list": [1, 2, {"nul": "\0"}]}, (1, 2): float("nan"), 3: b"x"}
    same, before = data, copy.deepcopy(data)
    client.track("click", data)
    client.identify(42, data)
    assert data is same
    assert repr(data) == repr(before)
