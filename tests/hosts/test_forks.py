"""Forks at the worst moments, beside those of tests/sdk/test_fork.py."""

from __future__ import annotations

import psycopg
import pytest

from tests.programs import Collector
from tests.sdk.scripts import run_script
from tests.sdk.test_fork import assert_each_delivered_once, stored_ids

# Another thread holds all locks that the SDK has, wherever they are, also those of its modules.
HOLD = """
import contextlib, types
from analytics_sdk import _default, _engine, _process, _transport

LOCKS = (type(threading.Lock()), type(threading.RLock()))


def all_locks(*holders):
    return [value for holder in holders for value in vars(holder).values() if isinstance(value, LOCKS)]


def hold(held, forked):
    engine = client._engine
    parts = (engine, engine.buffer, engine.worker, engine.hooks, _default, _engine, _process)
    with contextlib.ExitStack() as stack:
        for lock in all_locks(*parts):
            stack.enter_context(lock)
        tell(ids=[], locks=len(all_locks(*parts)))
        held.set()
        forked.wait(10)
"""


def test_a_fork_while_every_lock_is_held(collector: Collector, connection: psycopg.Connection) -> None:
    """A child works, ends and delivers although another thread held every lock that can be found at the fork."""
    ran = run_script(
        HOLD
        + """
client = analytics_sdk.init(flush_interval=60, handle_sigterm=True)
ids = [analytics_sdk.track("of the parent")]
held, forked = threading.Event(), threading.Event()
holder = threading.Thread(target=hold, args=(held, forked))
holder.start()
held.wait()
is_child = os.fork() == 0
if is_child:
    ids = [analytics_sdk.track("of the child"), analytics_sdk.Client(flush_interval=61).track("of the child")]
    analytics_sdk.stats()
else:
    forked.set()
    holder.join()
    assert os.wait()[1] == 0
tell(ids=ids)
""",
        collector.url,
        timeout=30,
    )
    assert (ran.code, ran.stderr, len(ran.ids)) == (0, "", 3)
    assert next(facts["locks"] for facts in ran.told if "locks" in facts) >= 6
    assert stored_ids(connection) == ran.ids


@pytest.mark.parametrize("first", ["client.flush()", "client.stats()", "client.close()", "_process.at_exit()"])
def test_a_fork_in_c_shows_whatever_comes_first(
    collector: Collector, connection: psycopg.Connection, first: str
) -> None:
    """A child that C made, and that does not track, neither sends nor loses nor waits for what its parent accepted."""
    ran = run_script(
        f"""
        import ctypes
        from analytics_sdk import _process

        client = analytics_sdk.Client(flush_interval=60, exit_timeout=20)
        client._engine.worker.notice = lambda waiting: None  # such servers fork before there are threads
        ids = [client.track("of the parent") for _ in range(3)]
        if ctypes.PyDLL(None).fork() == 0:
            began = time.monotonic()
            {first}
            assert time.monotonic() - began < 10
            tell_account(client, "child", [])
            os._exit(0)
        os.wait()
        client.flush()
        tell_account(client, "parent", ids)
        client.close()
        """,
        collector.url,
        timeout=30,
    )
    assert_each_delivered_once(ran, connection)
    assert [facts["accepted"] for facts in ran.told] == [0, 3]


def test_forks_from_a_thread_that_end_normally(collector: Collector, connection: psycopg.Connection) -> None:
    """Children that several threads fork, while they track, come to their ends and deliver, each its own."""
    ran = run_script(
        """
        client = analytics_sdk.Client(flush_interval=0.02)

        def fork(number):
            ids = [client.track("of the parent")]
            child = os.fork()
            if child == 0:
                ids = [client.track("of the child") for _ in range(3)]
                client.close(timeout=20)
                tell_account(client, "child", ids)
                os._exit(0)
            os.waitpid(child, 0)
            tell(ids=ids)

        threads = [threading.Thread(target=fork, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        """,
        collector.url,
        timeout=30,
    )
    assert (ran.code, ran.stderr, len(ran.ids)) == (0, "", 32)
    assert stored_ids(connection) == ran.ids
