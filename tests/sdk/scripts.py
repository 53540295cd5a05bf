"""Programs that use the SDK, run by an interpreter of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from typing import Any

import attrs

from tests.conftest import WRITE_KEY

PRELUDE = """
import json, logging, os, sys, threading, time
import analytics_sdk

logging.basicConfig(format="%(levelname)s %(name)s %(message)s")


def tell(**facts):
    os.write(1, json.dumps(facts).encode() + b"\\n")


def is_sending(client):
    sending = client._engine.worker._sending
    return sending is not None and sending.locked()


def tell_account(client, who, ids):
    stats = client.stats()
    tell(who=who, ids=ids, accepted=stats.accepted, delivered=stats.delivered, duplicate=stats.duplicate,
         pending=stats.pending)
"""


@attrs.frozen
class Ran:
    """What a program came to.

    Attributes:
        told: What it said with `tell(...)`, in order.
        elapsed: Seconds.
    """

    code: int
    told: list[dict[str, Any]]
    stderr: str
    elapsed: float

    @property
    def ids(self) -> set[str]:
        """All ids that it told of."""
        return {event_id for facts in self.told for event_id in facts["ids"]}


def run_script(source: str, url: str, *, before: str = "", timeout: float = 60, **environ: str) -> Ran:
    """Run a program against a collector; warnings are errors in it, and it must end by itself.

    Args:
        source: The program; it finds the SDK imported.
        url: Where the collector is.
        before: What it does before it imports the SDK.
        timeout: Seconds.
        environ: Further settings of the SDK.
    """
    # On a busy machine a process that has just begun needs more than the usual two seconds to import what sends.
    settings = {"ANALYTICS_URL": url, "ANALYTICS_WRITE_KEY": WRITE_KEY, "ANALYTICS_EXIT_TIMEOUT": "20", **environ}
    # From 3.12 on Python warns of every fork beside a thread, which is the very thing that is tried out here; and
    # a child drops the parent's connection without closing it properly, as the locks of that may be held for ever.
    expected = ("ignore:This process:DeprecationWarning", "ignore:unclosed:ResourceWarning")
    command = [sys.executable, "-W", "error", *(part for text in expected for part in ("-W", text)), "-c"]
    started = time.monotonic()
    done = subprocess.run(
        [*command, textwrap.dedent(before) + PRELUDE + textwrap.dedent(source)],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    elapsed = time.monotonic() - started
    return Ran(done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr, elapsed)
