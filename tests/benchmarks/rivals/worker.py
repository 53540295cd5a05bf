"""A process in which one contestant works, and which waits while the others have their turns.

`python -m tests.benchmarks.rivals.worker NAME PURPOSE URL SPOOL` obeys lines of JSON: the name of a measurement
and its arguments. Each contestant has a process of its own, so that nobody pays for another's threads and garbage.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Self

from . import caller, delivery, memory, threads
from .lineup import ALL

MEASUREMENTS: Final[Mapping[str, Callable[..., Any]]] = {
    "caller": caller.measure,
    "delivery": delivery.measure,
    "threads": threads.measure,
    "memory": memory.measure,
}


def main() -> None:
    """Obey until the standard input ends."""
    name, purpose, url, spool = sys.argv[1:]
    began = time.process_time()
    tracker = ALL[name].opener(url, purpose, spool)  # type: ignore[arg-type]
    reply({"opened": time.process_time() - began})
    for line in sys.stdin:
        task, arguments = json.loads(line)
        reply(MEASUREMENTS[task](tracker, name, **arguments))
    os._exit(0)  # what ends here is not measured


def reply(found: Any) -> None:
    """Answer in one line."""
    print("=" + json.dumps(found), flush=True)


def environment() -> dict[str, str]:
    """Ours without what would configure an SDK, send it through a proxy, or put other code before what is installed."""
    foreign = ("ANALYTICS_", "POSTHOG_", "OTEL_", "SENTRY_", "PYTHON")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)} | {"NO_PROXY": "*"}


class AbsentError(Exception):
    """A contestant cannot take part; the text says why."""


class Worker:
    """The process from outside.

    Args:
        name: The contestant.
        purpose: How it is configured.
        url: Where the sink is.
        spool: A directory of its own.

    Raises:
        AbsentError: Its client could not be made.
    """

    def __init__(self, name: str, purpose: str, url: str, spool: str) -> None:
        self.name = name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed in close()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.rivals.worker", name, purpose, url, spool],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment(),
            text=True,
        )
        self._line()

    def ask(self, task: str, **arguments: Any) -> Any:
        """Have something measured.

        Raises:
            AbsentError: It failed.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([task, arguments]) + "\n")
        self._process.stdin.flush()
        return self._line()

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _line(self) -> Any:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("="):  # some SDKs print
                return json.loads(line[1:])
        self._errors.seek(0)
        last = self._errors.read().decode().strip().rpartition("\n")[2]
        raise AbsentError(last.partition(";")[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


if __name__ == "__main__":
    main()
