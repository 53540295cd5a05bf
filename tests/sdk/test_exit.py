"""The end of the process: everything is delivered, or the log says how much is not, and it never takes long."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.conftest import WRITE_KEY
from tests.programs import Collector, free_port
from tests.sdk.scripts import run_script
from tests.sdk.servers import hanging_server
from tests.sdk.test_fork import stored_ids

TRACK = """
client = analytics_sdk.init()
tell(ids=[analytics_sdk.track("click", {{"number": number}}, user_id=42) for number in range({count})])
"""

ENDS = {
    "normal": ("", 0),
    "sys.exit": ("sys.exit(3)", 3),
    "sys.exit with a text": ("sys.exit('farewell')", 1),
    "unhandled exception": ("raise LookupError('the host has a bug')", 1),
    "after a fork": ("os._exit(5) if os.fork() == 0 else os.wait(); sys.exit(4)", 4),
    "beside a daemon thread": ("threading.Thread(target=time.sleep, args=(60,), daemon=True).start()", 0),
}


@pytest.mark.parametrize("count", [1, 25, 1000])
@pytest.mark.parametrize("end", ENDS)
def test_whatever_the_end_everything_is_delivered_once(
    collector: Collector, connection: psycopg.Connection, end: str, count: int
) -> None:
    """A process that ends without a flush has all its events in Postgres once, and its exit code is its own."""
    statement, code = ENDS[end]
    ran = run_script(TRACK.format(count=count) + statement, collector.url)
    assert (ran.code, len(ran.ids)) == (code, count)
    assert stored_ids(connection) == ran.ids
    assert "analytics_sdk" not in ran.stderr.replace("import analytics_sdk", "")
    profile = connection.execute("SELECT total_events FROM analytics_useranalyticsprofile WHERE user_id = 42")
    assert profile.fetchall() == [(count,)]


def test_an_event_of_another_exit_handler_is_delivered(collector: Collector, connection: psycopg.Connection) -> None:
    """What the host tracks in an exit handler of its own, registered after ours, arrives."""
    ran = run_script(
        """
        import atexit

        analytics_sdk.init()
        atexit.register(lambda: tell(ids=[analytics_sdk.track("bye")]))
        """,
        collector.url,
    )
    assert (ran.code, ran.stderr, len(ran.ids)) == (0, "", 1)
    assert stored_ids(connection) == ran.ids


def test_several_clients_share_the_budget(collector: Collector, connection: psycopg.Connection) -> None:
    """All clients of a process are drained at its end."""
    ran = run_script(
        """
        clients = [analytics_sdk.Client() for _ in range(3)]
        tell(ids=[client.track("click") for client in clients for _ in range(10)])
        """,
        collector.url,
    )
    assert (ran.code, ran.stderr, len(ran.ids)) == (0, "", 30)
    assert stored_ids(connection) == ran.ids


@pytest.mark.parametrize("wait", ["", "while not is_sending(client): time.sleep(0.001)\n"])
@pytest.mark.parametrize(("statement", "code"), [("", 0), ("sys.exit(3)", 3)])
def test_a_hanging_collector_does_not_hold_the_exit(wait: str, statement: str, code: int) -> None:
    """A process whose collector hangs ends within its budget and says in one line how many got no answer."""
    with hanging_server() as url:
        script = TRACK.format(count=25) + wait + "began = time.monotonic()\n" + TELL_DURATION + statement
        ran = run_script(script, url, ANALYTICS_EXIT_TIMEOUT="0.7")
    assert ran.code == code
    assert lines_of_loss(ran.stderr) == [DOUBT.format(count=25)]
    assert ran.told[-1]["exit_took"] < 5


def test_a_collector_that_is_down_does_not_hold_the_exit() -> None:
    """A process whose collector is down ends within its budget and says in one line how many records are lost."""
    script = TRACK.format(count=1000) + KNOW_TROUBLE + "began = time.monotonic()\n" + TELL_DURATION
    ran = run_script(script, f"http://127.0.0.1:{free_port()}", ANALYTICS_EXIT_TIMEOUT="2")
    assert ran.code == 0
    assert lines_of_loss(ran.stderr) == [LOSS.format(count=1000, budget=2.0)]
    assert ran.told[-1]["exit_took"] < 7


def test_a_closed_client_has_no_second_goodbye() -> None:
    """What close() has given up is not tried again at the end of the process."""
    script = (
        TRACK.format(count=3) + KNOW_TROUBLE + "client.close(timeout=1); began = time.monotonic()\n" + TELL_DURATION
    )
    ran = run_script(script, f"http://127.0.0.1:{free_port()}")
    assert lines_of_loss(ran.stderr) == [LOSS.format(count=3, budget=1.0)]
    assert ran.told[-1]["exit_took"] < 1.5  # another budget would be 2


# What is under way for the first time at the end may be at the collector, for all that is known: no answer came.
KNOW_TROUBLE = "while not client._engine.worker._sender.failures: time.sleep(0.001)\n"

# Exit handlers run from the last to the first: this one goes in below the SDK's, which is registered at import.
TELL_DURATION = """
import atexit

from analytics_sdk import _process

atexit.unregister(_process.at_exit)
atexit.register(lambda: tell(ids=[], exit_took=time.monotonic() - began))
atexit.register(_process.at_exit)
"""

LOSS = "WARNING analytics_sdk {count} records could not be sent within {budget} seconds and are lost."

DOUBT = "WARNING analytics_sdk {count} records were sent, and no answer came: whether they are stored is not known."


def lines_of_loss(stderr: str) -> list[str]:
    """The lines of a log that tell of loss."""
    return [line for line in stderr.splitlines() if "lost" in line or "not known" in line]


def test_a_client_out_of_scope_is_drained(collector: Collector, connection: psycopg.Connection) -> None:
    """What a client accepted arrives, also if nobody holds the client any more when the process ends."""
    ran = run_script(
        """
        def main():
            tell(ids=[analytics_sdk.Client(flush_interval=60).track("click")])

        main()
        """,
        collector.url,
    )
    assert (ran.code, len(ran.ids)) == (0, 1)
    assert stored_ids(connection) == ran.ids


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize(
    "begin", ["analytics_sdk.init(flush_interval=60)", ""], ids=["client before", "client in the child"]
)
def test_children_of_multiprocessing_deliver(
    collector: Collector, connection: psycopg.Connection, tmp_path: Path, method: str, begin: str
) -> None:
    """A child of multiprocessing ends without exit handlers, and its events arrive all the same, once."""
    program = tmp_path / "program.py"
    program.write_text(
        f"""
import multiprocessing
import os
import analytics_sdk

def work(path):
    client = analytics_sdk._default.client
    if client.engine_so_far is None:
        analytics_sdk.init(flush_interval=60)
    with open(path, "a") as file:
        for _ in range(10):
            file.write(f"{{client.track('click')}}\\n")

if __name__ == "__main__":
    {begin or "pass"}
    context = multiprocessing.get_context("{method}")
    children = [context.Process(target=work, args=("{tmp_path}/ids",)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
"""
    )
    settings = {"ANALYTICS_URL": collector.url, "ANALYTICS_WRITE_KEY": WRITE_KEY, "ANALYTICS_EXIT_TIMEOUT": "20"}
    environ = {**os.environ, **settings}
    subprocess.run([sys.executable, program], env=environ, check=True, timeout=60)
    ids = (tmp_path / "ids").read_text().split()
    assert len(ids) == 30
    assert stored_ids(connection) == set(ids)


def test_sigterm_and_the_end_of_the_main_thread_at_once(collector: Collector, connection: psycopg.Connection) -> None:
    """A main thread that ends on the signal does not cut short what `handle_sigterm` sends."""
    ran = run_script(
        """
        import signal

        client = analytics_sdk.init(flush_interval=60, handle_sigterm=True)
        tell(ids=[client.track("click") for _ in range(45)])
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
        signal.pause()
        """,
        collector.url,
    )
    assert ran.stderr == ""
    assert ran.code in (0, -15)  # whichever of the two comes to its end first
    assert stored_ids(connection) == ran.ids


def test_a_server_that_shuts_down_and_then_ends_by_sigterm(
    collector: Collector, connection: psycopg.Connection
) -> None:
    """With `handle_sigterm`, a server that has SIGTERM for itself and raises it again, as uvicorn, has sent all."""
    ran = run_script(
        """
        import signal

        client = analytics_sdk.init(flush_interval=60, handle_sigterm=True)
        tell(ids=[client.track("click") for _ in range(45)])
        came = []
        before = signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
        os.kill(os.getpid(), signal.SIGTERM)
        while not came:
            time.sleep(0.001)
        signal.signal(signal.SIGTERM, before)
        signal.raise_signal(signal.SIGTERM)
        """,
        collector.url,
    )
    assert ran.stderr == ""
    assert ran.code in (0, -15)  # whichever comes to its end first: the main thread or the one that sends
    assert stored_ids(connection) == ran.ids
