"""The whole product at work: a shop with visitors, a collector with its own Postgres, and profiles to look at.

The profiles that the Reader shows are compared with the rows, counted by SQL, and with what the visitors know they
did: exit code 1 if anything differs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

import analytics_sdk
from analytics_collector.embedded import die_with_parent
from shop.visitors import visit_with_progress

HERE = Path(__file__).resolve().parent

os.environ["NO_PROXY"] = "127.0.0.1"  # whatever proxy leads out of here, all of this stays here


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that Postgres's user can reach, too, when this runs as root."""
    folder = Path(tempfile.mkdtemp(prefix="analytics-demo-", dir="/var/tmp" if Path("/var/tmp").is_dir() else None))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def program(*command: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a program for the time of a block. Ctrl-C is ours to handle, and it never outlives us."""
    process = subprocess.Popen(
        [sys.executable, *command],
        text=True,
        start_new_session=True,
        preexec_fn=die_with_parent(signal.SIGTERM),
        **options,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


@contextlib.contextmanager
def collector(data: Path) -> Iterator[dict[str, str]]:
    """The collector with a Postgres of its own; yields url, write_key, read_key and dsn."""
    command = ("-m", "analytics_collector", "dev", "--json", "--port", "0", "--data", str(data))
    with program(*command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            sys.exit("The collector did not start; its message is above.")
        yield json.loads(line)


@contextlib.contextmanager
def shop(access: dict[str, str]) -> Iterator[str]:
    """The shop under gunicorn with two workers; yields its address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        environment = {**os.environ, "ANALYTICS_URL": access["url"], "ANALYTICS_WRITE_KEY": access["write_key"]}
        options = ("--bind", f"fd://{listener.fileno()}", "--workers", "2", "--threads", "4", "--log-level", "warning")
        command = ("-m", "gunicorn", "--no-control-socket", "--chdir", str(HERE / "shop"), *options, "app:app")
        with program(*command, env=environment, pass_fds=[listener.fileno()]):
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def wait_for_events(dsn: str, expected: Counter[str]) -> Counter[str]:
    """The events by type, as soon as all have arrived, or as they are after ten seconds."""
    deadline = time.monotonic() + 10
    with psycopg.connect(dsn, autocommit=True) as connection:
        while True:
            rows = connection.execute((HERE / "event_types.sql").read_text()).fetchall()
            arrived = Counter(dict(rows))
            if arrived == expected or time.monotonic() > deadline:
                return arrived
            time.sleep(0.05)


def show_profiles(access: dict[str, str]) -> int:
    """Print each user's profile beside the figures from SQL; returns how many differ."""
    with psycopg.connect(access["dsn"]) as connection:
        rows = connection.execute((HERE / "profiles.sql").read_text()).fetchall()
    wrong = 0
    print(f"\n{'':>8}{'Reader.profile()':>24}{'SQL over the rows':>24}")
    print(f"{'user':>8}{'sessions':>12}{'events':>12}{'sessions':>12}{'events':>12}")
    with analytics_sdk.Reader(access["url"], read_key=access["read_key"]) as reader:
        for user_id, sessions, events, first_seen, last_seen in rows:
            profile = reader.profile(user_id)
            assert profile is not None, f"user {user_id} has rows but no profile"
            shown = (profile.total_sessions, profile.total_events, profile.first_seen, profile.last_seen)
            same = shown == (sessions, events, first_seen, last_seen)
            wrong += not same
            figures = (profile.total_sessions, profile.total_events, sessions, events)
            print(f"{user_id:>8}" + "".join(f"{figure:>12}" for figure in figures) + ("" if same else "   DIFFERS"))
    print(f"{len(rows)} profiles, {wrong} differ; first_seen and last_seen are compared, too.")
    return wrong


def show_events(expected: Counter[str], arrived: Counter[str]) -> int:
    """Print what the visitors did beside what arrived; returns how many types differ."""
    print(f"\n{'event':<12}{'done':>8}{'stored':>8}")
    for event_type in sorted(expected | arrived):
        print(f"{event_type:<12}{expected[event_type]:>8}{arrived[event_type]:>8}")
    return sum(expected[event_type] != arrived[event_type] for event_type in expected | arrived)


def wait_for_ctrl_c() -> None:
    """Return when the person has seen enough."""
    has_seen_enough = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: has_seen_enough.set())
    print("Visit the shop and look again. Ctrl-C ends it all.", flush=True)
    while not has_seen_enough.wait(0.5):  # what comes just before a wait shows when the wait is over
        pass


def main() -> int:
    """Run the demo; the exit code is 1 if a figure differs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--once", action="store_true", help="end after the comparison instead of staying up")
    parser.add_argument("--visitors", type=int, default=60)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the blocks below end what they started
    print("Starting Postgres, the collector and the shop ...", file=sys.stderr)
    with temporary_folder() as data, collector(data / "postgres") as access, shop(access) as address:
        expected = visit_with_progress(address, arguments.visitors)
        wrong = show_events(expected, wait_for_events(access["dsn"], expected)) + show_profiles(access)
        print(f"\nShop        {address}\nCollector   {access['url']}\nWrite key   {access['write_key']}")
        print(f"Read key    {access['read_key']}\nPostgres    {access['dsn']}\n", flush=True)
        if not arguments.once:
            wait_for_ctrl_c()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
