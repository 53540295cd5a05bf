"""A fuzzer guided by coverage: `python -m tests.fuzz.guided -max_total_time=600 FOLDER tests/fuzz/corpus`.

Inflates and reads bodies in this process, and checks what `oracle` says. What it finds goes to the first folder; the
corpus of the project is only read. Needs atheris (dependency group `fuzz`); options are libFuzzer's.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["analytics_collector"]):
    from analytics_collector.protocols import native  # noqa: F401
    from tests.fuzz import oracle

NOW = datetime(2026, 6, 1, tzinfo=UTC)
WORDS = [
    *("events", "sessions", "users", "sent_at", "event_id", "event_type", "created_at", "session_id", "user_id"),
    *("event_data", "ip_address", "started_at", "ended_at", "user_agent", "referrer", "traits", "updated_at"),
    *(
        "2026-01-31T12:00:00Z",
        "0190a0b0-0000-7000-8000-000000000000",
        "1.2.3.4",
        "\\u0000",
        "\\u0065",
        "\\ud800",
        "1e400",
    ),
]


def write_dictionary(path: Path) -> Path:
    """Words that the fuzzer would take long to find, in libFuzzer's form."""
    escaped = (word.replace("\\", "\\\\") for word in WORDS)
    path.write_text("".join(f'"{word}"\n' for word in escaped))
    return path


def check(body: bytes) -> None:
    """What the fuzzer calls."""
    oracle.check(body, NOW)


if __name__ == "__main__":
    folder = next(Path(argument) for argument in sys.argv[1:] if not argument.startswith("-"))
    folder.mkdir(parents=True, exist_ok=True)
    dictionary = write_dictionary(folder.with_suffix(".words"))
    atheris.Setup([*sys.argv, f"-dict={dictionary}", f"-artifact_prefix={folder.with_suffix('.bad')}-"], check)
    atheris.Fuzz()
