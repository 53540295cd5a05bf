"""Forks: each process delivers what it tracked itself, once, and none ever waits for a lock of another's thread."""

from __future__ import annotations

import psycopg

from tests.programs import Collector
from tests.sdk.scripts import Ran, run_script


def stored_ids(connection: psycopg.Connection) -> set[str]:
    """The ids of all events in Postgres."""
    return {str(event_id) for (event_id,) in connection.execute("SELECT event_id FROM analytics_event")}


def assert_each_delivered_once(ran: Ran, connection: psycopg.Connection) -> None:
    """Every id is in Postgres, and no process sent what another one had sent."""
    assert ran.stderr == ""
    assert ran.code == 0
    assert stored_ids(connection) == ran.ids
    for facts in ran.told:
        sent = (facts["accepted"], facts["delivered"], facts["duplicate"], facts["pending"])
        assert sent == (len(facts["ids"]), len(facts["ids"]), 0, 0), facts


def test_a_child_leaves_the_inherited_events_to_its_parent(
    collector: Collector, connection: psycopg.Connection
) -> None:
    """Events that waited at the fork are sent by the parent alone; the child, and its child, send their own."""
    ran = run_script(
        """
        client = analytics_sdk.Client(flush_interval=60)
        ids = [client.track("of the parent") for _ in range(20)]
        if os.fork() == 0:
            ids = [client.track("of the child") for _ in range(5)]
            if os.fork() == 0:
                ids = [client.track("of the grandchild") for _ in range(3)]
                client.flush()
                tell_account(client, "grandchild", ids)
                os._exit(0)
            os.wait()
            client.flush()
            tell_account(client, "child", ids)
            os._exit(0)
        os.wait()
        ids.append(client.track("of the parent"))
        client.flush()
        tell_account(client, "parent", ids)
        """,
        collector.url,
    )
    assert_each_delivered_once(ran, connection)
    assert {facts["who"]: len(facts["ids"]) for facts in ran.told} == {"grandchild": 3, "child": 5, "parent": 21}


def test_a_child_that_ends_normally_delivers_its_own(collector: Collector, connection: psycopg.Connection) -> None:
    """A child that runs to its end, without a flush, delivers what it tracked and nothing else."""
    ran = run_script(
        """
        client = analytics_sdk.Client(flush_interval=60)
        ids = [client.track("of the parent") for _ in range(20)]
        is_child = os.fork() == 0
        if is_child:
            ids = [client.track("of the child") for _ in range(5)]
        else:
            os.wait()
        tell(who="child" if is_child else "parent", ids=ids)
        """,
        collector.url,
    )
    assert (ran.code, ran.stderr, len(ran.ids)) == (0, "", 25)
    assert stored_ids(connection) == ran.ids


def test_the_parents_connection_survives_its_children(collector: Collector, connection: psycopg.Connection) -> None:
    """A child opens a connection of its own; the parent's goes on, whatever the child does with its copy."""
    ran = run_script(
        """
        client = analytics_sdk.Client(flush_interval=60)
        ids = []
        for _ in range(5):
            ids.append(client.track("of the parent"))
            assert client.flush().pending == 0
            connection = client._engine.transport._http
            if os.fork() == 0:
                ids = [client.track("of the child")]
                assert client.flush().pending == 0
                tell_account(client, "child", ids)
                client.close()
                sys.exit()
            os.wait()
            assert client._engine.transport._http is connection
        tell_account(client, "parent", ids)
        client.close()
        """,
        collector.url,
    )
    assert_each_delivered_once(ran, connection)
    assert len(ran.ids) == 10


def test_forks_beside_busy_threads(collector: Collector, connection: psycopg.Connection) -> None:
    """Children forked while four threads track and the worker sends neither hang nor lose nor double anything."""
    ran = run_script(
        """
        client = analytics_sdk.Client(flush_interval=0.02)
        ids, done = [], threading.Event()

        def work():
            while not done.is_set():
                ids.append(client.track("of the parent"))
                time.sleep(0.002)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        children = 0
        while children < 20:
            children += 1
            if os.fork() == 0:
                ids = [client.track("of the child") for _ in range(3)]
                client.flush(20)
                tell_account(client, "child", ids)
                os._exit(0)
        for _ in range(children):
            os.wait()
        done.set()
        for thread in threads:
            thread.join()
        client.flush(20)
        tell_account(client, "parent", ids)
        client.close()
        """,
        collector.url,
    )
    assert_each_delivered_once(ran, connection)
    assert len(ran.told) == 21


def test_a_fork_while_every_lock_is_held(collector: Collector, connection: psycopg.Connection) -> None:
    """A child works although another thread of its parent held every lock of the SDK at the fork."""
    ran = run_script(
        """
        from analytics_sdk import _default, _engine

        client = analytics_sdk.init(flush_interval=60)
        ids = [analytics_sdk.track("of the parent")]
        held, forked = threading.Event(), threading.Event()

        def hold():
            engine = client._engine
            queue, worker = engine.buffer._queue, engine.worker
            locks = (queue.lock, worker._sending, worker._guard, _default._lock, _engine._lock)
            for lock in locks:
                lock.acquire()
            held.set()
            forked.wait()
            for lock in locks:
                lock.release()

        holder = threading.Thread(target=hold)
        holder.start()
        held.wait()
        if os.fork() == 0:
            ids = [analytics_sdk.track("of the child")]
            analytics_sdk.flush()
            tell_account(client, "child", ids)
            analytics_sdk.init(flush_interval=60)
            os._exit(0)
        forked.set()
        holder.join()
        os.wait()
        ids.append(analytics_sdk.track("of the parent"))
        analytics_sdk.flush()
        tell_account(client, "parent", ids)
        analytics_sdk.close()
        """,
        collector.url,
        timeout=30,
    )
    assert_each_delivered_once(ran, connection)
    assert len(ran.ids) == 3


def test_a_fork_from_a_thread(collector: Collector, connection: psycopg.Connection) -> None:
    """A child that was forked by another thread than the main one delivers, also inside a session."""
    ran = run_script(
        """
        client = analytics_sdk.Client(flush_interval=60)
        ids = [client.track("of the parent")]

        def fork():
            with client.session(session_id="s", user_id=42):
                if os.fork() == 0:
                    ids = [client.track("of the child")]
                    client.flush()
                    tell(who="child", ids=ids)
                    os._exit(0)
                os.wait()

        thread = threading.Thread(target=fork)
        thread.start()
        thread.join()
        client.close(timeout=20)
        tell(who="parent", ids=ids)
        """,
        collector.url,
    )
    assert (ran.code, ran.stderr, len(ran.ids)) == (0, "", 2)
    assert stored_ids(connection) == ran.ids
    rows = connection.execute("SELECT session_id, user_id FROM analytics_event WHERE event_type = 'of the child'")
    assert rows.fetchall() == [("s", 42)]


def test_a_fork_that_python_did_not_see(collector: Collector, connection: psycopg.Connection) -> None:
    """Children of a server written in C show by their pid: each delivers its own, under ids of its own."""
    ran = run_script(
        """
        import ctypes
        from unittest import mock

        fork = ctypes.PyDLL(None).fork  # no hook of Python's runs
        client = analytics_sdk.Client(flush_interval=60)
        client._engine.worker.notice = lambda waiting: None  # such servers fork before there are threads
        ids = [client.track("of the parent") for _ in range(3)]
        for _ in range(4):
            if fork() == 0:
                with mock.patch("time.time_ns", return_value=time.time_ns() // 10**12 * 10**12):
                    ids = [client.track("of the child") for _ in range(3)]
                client.flush()
                tell_account(client, "child", ids)
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
    assert len(ran.ids) == 15


def test_a_child_inherits_no_thread_and_starts_one_when_it_needs_it(
    collector: Collector, connection: psycopg.Connection
) -> None:
    """The child has no worker before its first event, and then one that sends without being told to."""
    ran = run_script(
        """
        client = analytics_sdk.Client(flush_interval=0.01)
        ids = [client.track("of the parent")]
        client.flush()
        if os.fork() == 0:
            assert threading.active_count() == 1
            ids = [client.track("of the child")]
            assert threading.active_count() == 2
            deadline = time.monotonic() + 10
            while client.stats().pending and time.monotonic() < deadline:
                time.sleep(0.01)
            tell_account(client, "child", ids)
            os._exit(0)
        os.wait()
        tell_account(client, "parent", ids)
        client.close()
        """,
        collector.url,
    )
    assert_each_delivered_once(ran, connection)


def test_a_closed_client_has_an_account_of_its_own_in_a_child(collector: Collector) -> None:
    """In a child a closed client counts what is done there from zero, sends nothing, and stays closed."""
    ran = run_script(
        """
        client = analytics_sdk.Client(flush_interval=60)
        client.track("of the parent", {"odd": object()})
        client.close()
        client.track("too late")
        if os.fork() == 0:
            inherited = client.stats()
            event_id = client.track("of the child")
            client.flush()
            stats = client.stats()
            tell(counted=[inherited.accepted, inherited.altered, sum(inherited.refused.values())],
                 event_id=event_id, refused=stats.refused, accepted=stats.accepted)
            os._exit(0)
        os.wait()
        tell(accepted=client.stats().accepted, refused=client.stats().refused)
        """,
        collector.url,
    )
    assert (ran.code, ran.stderr.count("not accepted (closed)")) == (0, 1)  # the child has nothing new to say
    child, parent = ran.told
    assert child == {"counted": [0, 0, 0], "event_id": None, "refused": {"closed": 1}, "accepted": 0}
    assert parent == {"accepted": 1, "refused": {"closed": 1}}
