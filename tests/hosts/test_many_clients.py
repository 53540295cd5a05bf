"""Clients without number: those with the same settings are one engine, and an engine goes when nobody needs it."""

from __future__ import annotations

import psycopg

from tests.programs import Collector
from tests.sdk.scripts import run_script
from tests.sdk.test_fork import stored_ids

LOOK = """
import gc
import resource


def look():
    gc.collect()
    names = sorted(thread.name for thread in threading.enumerate())
    return {"files": len(os.listdir("/proc/self/fd")), "threads": names, "objects": len(gc.get_objects())}


def memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes
"""


def test_thousands_of_clients_are_one_engine(collector: Collector, connection: psycopg.Connection) -> None:
    """5,000 clients that all live cost one thread, one connection and little memory, and deliver as one."""
    ran = run_script(
        LOOK
        + """
clients = [analytics_sdk.Client() for _ in range(10)]
ids = [client.track("click") for client in clients]
clients[0].flush()
before, kilobytes = look(), memory()
for _ in range(5000):
    clients.append(analytics_sdk.Client())
    ids.append(clients[-1].track("click"))
clients[0].flush(20)
after = look()
tell(ids=ids, before=before, after=after, kilobytes=memory() - kilobytes,
     engines=len({id(client._engine) for client in clients}))
""",
        collector.url,
    )
    told = ran.told[-1]
    assert (ran.code, ran.stderr, told["engines"]) == (0, "", 1)
    assert told["after"]["threads"] == ["MainThread", "analytics_sdk"]
    assert told["after"]["files"] == told["before"]["files"]
    assert told["kilobytes"] < 20_000
    assert stored_ids(connection) == ran.ids


def test_clients_that_come_and_go_leave_nothing(collector: Collector, connection: psycopg.Connection) -> None:
    """2,000 clients, each used and dropped without a close, leave no objects, threads or files, and no event behind."""
    ran = run_script(
        LOOK
        + """
def use(number):
    return analytics_sdk.Client(flush_interval=0.05).track("click", {"number": number})


ids = [use(number) for number in range(200)]
before = look()
ids += [use(number) for number in range(2000)]
ids.append(use(0))
analytics_sdk.Client(flush_interval=0.05).flush(20)
tell(ids=ids, before=before, after=look())
""",
        collector.url,
    )
    before, after = ran.told[-1]["before"], ran.told[-1]["after"]
    assert (ran.code, ran.stderr) == (0, "")
    assert after["threads"] == ["MainThread", "analytics_sdk"]
    assert after["files"] <= before["files"] + 1  # the connection, which may not have been open yet
    assert after["objects"] < before["objects"] + 20_000  # httpx itself, if it has been imported since
    assert stored_ids(connection) == ran.ids


def test_other_settings_come_and_go(collector: Collector, connection: psycopg.Connection) -> None:
    """Clients with settings of their own, closed or dropped unused, leave no engines, threads or connections."""
    ran = run_script(
        LOOK
        + """
from analytics_sdk import _engine, _process

def use(number):
    client = analytics_sdk.Client(flush_interval=60 + number)
    ids.append(client.track("click"))
    client.close()
    analytics_sdk.Client(flush_interval=1000 + number)

def wait_for_threads():
    deadline = time.monotonic() + 10  # close() lets the thread go, with its connection, and does not wait
    while threading.active_count() > 1 and time.monotonic() < deadline:
        time.sleep(0.01)

ids = []
use(0)
wait_for_threads()
before = look()
for number in range(1, 100):
    use(number)
analytics_sdk.Client(flush_interval=1)
wait_for_threads()
tell(ids=ids, before=before, after=look(), engines=len(_process.engines()), shared=len(_engine._shared))
""",
        collector.url,
    )
    told = ran.told[-1]
    assert (ran.code, ran.stderr) == (0, "")
    assert told["after"]["threads"] == ["MainThread"]
    assert told["after"]["files"] == told["before"]["files"]
    assert told["engines"] <= 2
    assert told["shared"] <= 2
    assert stored_ids(connection) == ran.ids


def test_an_engine_without_clients_ends(collector: Collector, connection: psycopg.Connection) -> None:
    """What a client tracked that is garbage is delivered, and then its thread and its connection go."""
    ran = run_script(
        LOOK
        + """
from analytics_sdk import _process, _worker

_worker._REST = 0.1  # seconds in the place of a minute
before = look()
ids = [analytics_sdk.Client(flush_interval=0.1).track("click") for _ in range(50)]
gc.collect()
deadline = time.monotonic() + 10
while threading.active_count() > 1 and time.monotonic() < deadline:
    time.sleep(0.01)
tell(ids=ids, before=before, after=look(), engines=len(_process.engines()))
""",
        collector.url,
    )
    told = ran.told[-1]
    assert (ran.code, ran.stderr, told["engines"]) == (0, "", 0)
    assert told["after"]["threads"] == ["MainThread"]
    assert told["after"]["files"] == told["before"]["files"]
    assert stored_ids(connection) == ran.ids
