"""Run by the nox session `plain`, in an environment with the wheel and no extras: the SDK alone works."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import analytics_sdk
from analytics_sdk.testing import RecordingTransport


def check_track() -> None:
    """track() works, and its event would have been sent."""
    transport = RecordingTransport()
    client = analytics_sdk.Client(transport=transport)
    event_id = client.track("purchase", {"amount": 9.99}, user_id=42)
    client.close()
    assert [event["event_id"] for event in transport.events] == [event_id]


def check_absent() -> None:
    """Nothing of the collector's dependencies came along."""
    for name in ("flask", "psycopg", "psycopg_pool", "gunicorn", "click"):
        assert importlib.util.find_spec(name) is None, f"{name} is installed"


def check_typed() -> None:
    """Both packages tell type checkers that they are typed, and the wheel has its data files."""
    for package in ("analytics_sdk", "analytics_collector"):
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        assert (Path(spec.origin).parent / "py.typed").exists()
    assert spec is not None
    assert spec.origin is not None
    assert (Path(spec.origin).parent / "sql" / "migrations" / "0001_tables.sql").exists()
    assert (Path(spec.origin).parent / "openapi.json").exists()


def check_message() -> None:
    """The command says what to install."""
    command = Path(sys.executable).with_name("analytics-collector")
    run = subprocess.run([command, "dev"], capture_output=True, text=True, check=False)
    assert run.returncode == 1, run
    assert "pip install 'analytics-sdk[collector]'" in run.stderr, run.stderr
    assert "Traceback" not in run.stderr, run.stderr


if __name__ == "__main__":
    for check in (check_track, check_absent, check_typed, check_message):
        check()
        print(f"ok  {check.__doc__}")
