"""Each example is run, as a person would."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import ROOT, wait_until

DEMO = [sys.executable, str(ROOT / "examples" / "demo.py"), "--visitors", "20"]


def test_demo_shows_profiles_equal_to_sql_and_ends() -> None:
    """`demo --once` prints every profile beside the same figures from SQL; it leaves nothing behind."""
    before = set(Path("/var/tmp").glob("analytics-demo-*"))
    run = subprocess.run([*DEMO, "--once"], capture_output=True, text=True, check=False, timeout=90)
    assert run.returncode == 0, run.stderr
    assert " 0 differ" in run.stdout
    assert "Write key   write_" in run.stdout
    assert "Visitors 20/20" in run.stderr
    assert set(Path("/var/tmp").glob("analytics-demo-*")) == before


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_demo_stays_up_until_it_is_asked_to_end(number: signal.Signals) -> None:
    """Without --once the demo stays up, and a signal ends it with all that it started."""
    with subprocess.Popen(DEMO, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Visit the shop"):
                break
        children = _descendants(process.pid)
        assert len(children) > 5, "collector, its gunicorn, Postgres, and the shop's gunicorn should be running"
        process.send_signal(number)
        assert process.wait(30) == (0 if number == signal.SIGINT else 143)
    wait_until(lambda: not any(_is_alive(pid) for pid in children), what="the end of all that the demo started")


def _descendants(pid: int) -> list[int]:
    listing = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(child): int(parent) for child, parent in (line.split() for line in listing.splitlines())}
    found = [pid]
    for candidate in found:
        found += [child for child, parent in parents.items() if parent == candidate]
    return found[1:]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
