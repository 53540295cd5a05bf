"""gevent: whenever it patches, everything arrives once, and the hub never stands still for our sake."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import attrs
import psycopg
import pytest

from tests.delivery.trial import Trial
from tests.hosts.visits import visit
from tests.programs import ROOT, Collector, gunicorn, wait_until
from tests.sdk.scripts import Ran, run_script
from tests.sdk.servers import hanging_server
from tests.sdk.test_exit import lines_of_loss
from tests.sdk.test_fork import stored_ids

PATCH = "import gevent.monkey; gevent.monkey.patch_all()\n"


@attrs.frozen
class Moment:
    """When a host patches; each is a piece of its program, in this order."""

    before_import: str = ""
    after_import: str = ""
    after_init: str = ""
    after_flush: str = ""


MOMENTS = {
    "before the import": Moment(before_import=PATCH),
    "after the import": Moment(after_import=PATCH),
    "after init": Moment(after_init=PATCH),
    "after a flush": Moment(after_flush="client.flush(timeout=1)\n" + PATCH),
}
UNPATCHED = {"never": Moment(before_import="import gevent, gevent.monkey\n")}

# A greenlet that ticks, and remembers the longest time in which it could not.
TICK = """
import gevent

gaps = [0.0]

def tick():
    last = time.monotonic()
    while True:
        gevent.sleep(0.005)
        now = time.monotonic()
        gaps.append(now - last)
        last = now

gevent.spawn(tick)
gevent.sleep(0.02)
gaps[:] = [0.0]
"""


def run(moment: Moment, source: str, url: str, **environ: str) -> Ran:
    """Run a host that patches at a moment, and then does something with its `client` and `ids`."""
    begin = "client = analytics_sdk.init(flush_interval=0.05)\n"
    first = "ids = [client.track('first')]\n"
    parts = (moment.after_import, begin, moment.after_init, first, moment.after_flush, source)
    return run_script("".join(parts), url, before=moment.before_import, timeout=30, **environ)


@pytest.mark.parametrize("name", [*MOMENTS, *UNPATCHED])
def test_everything_arrives_once(collector: Collector, connection: psycopg.Connection, name: str) -> None:
    """What greenlets track, before, during and after their flushes, is in Postgres once."""
    ran = run(
        (MOMENTS | UNPATCHED)[name],
        """
import gevent

def work():
    ids.extend(client.track("of a greenlet") for _ in range(20))
    gevent.sleep(0.001)
    client.flush()
    ids.append(client.track("after the flush"))

gevent.joinall([gevent.spawn(work) for _ in range(10)], raise_error=True)
tell(ids=ids, duplicate=client.stats().duplicate)
""",
        collector.url,
    )
    assert (ran.code, ran.stderr, len(ran.ids), ran.told[-1]["duplicate"]) == (0, "", 211, 0)
    assert stored_ids(connection) == ran.ids


# Exit handlers run from the last to the first: this one goes in below the SDK's, which is registered at import.
TELL_EXIT = """
import atexit
from analytics_sdk import _process

atexit.unregister(_process.at_exit)
atexit.register(lambda clock: tell(ids=[], took=clock() - ended), time.monotonic)
atexit.register(_process.at_exit)
ended = time.monotonic()
"""


@pytest.mark.parametrize("name", MOMENTS)
def test_a_hanging_collector_stops_neither_hub_nor_exit(name: str) -> None:
    """While a flush waits for a collector that hangs, other greenlets go on; the exit takes its budget and no more."""
    with hanging_server() as url:
        ran = run(
            MOMENTS[name],
            TICK
            + """
client.track("click")
client.flush(timeout=3)
gevent.sleep(0.1)
tell(ids=[], longest=max(gaps), ticks=len(gaps), pending=client.stats().pending)
"""
            + TELL_EXIT,
            url,
            ANALYTICS_EXIT_TIMEOUT="0.5",
        )
    hub, exit_ = ran.told
    assert (ran.code, hub["pending"], len(lines_of_loss(ran.stderr))) == (0, 2, 1)
    assert hub["ticks"] > 50
    assert hub["longest"] < 2  # the import of httpx is within it
    assert exit_["took"] < 5


def test_an_exit_takes_its_budget_beside_gevent_unpatched() -> None:
    """A host that has gevent and does not patch ends within its budget, too."""
    with hanging_server() as url:
        ran = run(UNPATCHED["never"], TELL_EXIT, url, ANALYTICS_EXIT_TIMEOUT="0.5")
    assert (ran.code, len(lines_of_loss(ran.stderr))) == (0, 1)
    assert ran.told[-1]["took"] < 5


def test_sigterm_is_drained_by_a_greenlet(collector: Collector, connection: psycopg.Connection) -> None:
    """`handle_sigterm` works where there is no thread but the hub's: all is sent, and the signal ends the process."""
    ran = run_script(
        """
        import gevent, signal

        client = analytics_sdk.init(flush_interval=60, handle_sigterm=True)
        tell(ids=[client.track("click") for _ in range(45)])
        gevent.spawn_later(0.05, os.kill, os.getpid(), signal.SIGTERM)
        gevent.sleep(30)
        """,
        collector.url,
        before=PATCH,
        timeout=20,
    )
    assert (ran.code, ran.stderr) == (-15, "")
    assert stored_ids(connection) == ran.ids


LOADED = pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["loaded by workers", "preloaded"])


def serve(trial: Trial, *options: str) -> Callable[..., object]:
    """The host's application behind gunicorn's gevent workers, which end late now and then, also without us."""
    settled = (
        "--graceful-timeout",
        "2",
        "--worker-class",
        "gevent",
        "--workers",
        "2",
        "--no-control-socket",
        "--pythonpath",
        str(ROOT),
    )
    return gunicorn("tests.hosts.web_app:app", trial.settings(), *settled, *options)


@LOADED
def test_gunicorn_with_gevent(make_trial: Callable[..., Trial], collector: Collector, preload: tuple[str, ...]) -> None:
    """Workers that patch after the fork deliver what the application tracked, while loaded and in requests, once."""
    trial = make_trial(collector.url, ANALYTICS_EXIT_TIMEOUT="10", ANALYTICS_FLUSH_INTERVAL="0.05")
    with serve(trial, *preload) as (url, _), ThreadPoolExecutor(4) as visitors:
        list(visitors.map(visit, [f"{url}/?3"] * 40))
        wait_until(lambda: not trial.verdict().lost, what="the delivery")
    verdict = trial.verdict()
    verdict.assert_nothing_lost()
    assert len(verdict.accepted) > 120


def test_gunicorn_serves_others_while_a_request_flushes(make_trial: Callable[..., Trial]) -> None:
    """A request that waits in flush() for a collector that hangs holds no other request of the same worker."""
    with hanging_server() as collector_url:
        trial = make_trial(collector_url, ANALYTICS_EXIT_TIMEOUT="0.5", ANALYTICS_FLUSH_INTERVAL="0.05")
        with serve(trial, "--workers", "1", "--preload") as (url, _), ThreadPoolExecutor(2) as visitors:
            visit(f"{url}/?1")
            flushing = visitors.submit(visit, f"{url}/flush?3")
            others = [visit(f"{url}/?1") for _ in range(20)]
            is_flushing = not flushing.done()
            assert flushing.result().took >= 3
    assert is_flushing
    assert max(other.took for other in others) < 2
