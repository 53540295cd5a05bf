"""What a host process writes down: the ids that `track()` returned, and its accounts.

Hosts import the SDK from here: exit handlers run from the last to the first, so the last account is written after the
SDK's own handler has done what it could.

Two files, both opened O_APPEND and written by one `os.write` a line, so that any number of processes share them and
kill -9 takes nothing from them: `DELIVERY_IDS` has lines "pid id", `DELIVERY_ACCOUNTS` has lines of JSON.
"""

from __future__ import annotations

import atexit
import logging
import multiprocessing.util
import os
import resource
import time
from typing import Any

import msgspec


def _open(variable: str) -> int:
    return os.open(os.environ[variable], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


logging.basicConfig(format="%(levelname)s %(name)s %(message)s")

if limit := int(os.environ.get("DELIVERY_FILE_LIMIT", "0")):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

_ids = _open("DELIVERY_IDS")
_accounts = _open("DELIVERY_ACCOUNTS")


def track(count: int = 1, **event_data: Any) -> None:
    """Track so many events, and write the id of each down once it is accepted."""
    for number in range(count):
        event_id = analytics_sdk.track(os.environ["DELIVERY_KIND"], {"number": number, **event_data})
        if event_id is not None:
            os.write(_ids, f"{os.getpid()} {event_id}\n".encode())


def account(when: str) -> None:
    """Write down what `stats()` says at this moment."""
    line = {"pid": os.getpid(), "when": when, "at": time.monotonic(), "stats": analytics_sdk.stats()}
    os.write(_accounts, msgspec.json.encode(line) + b"\n")


def account_of_a_child() -> None:
    """Have a last account in a child of `multiprocessing`, too, which ends without exit handlers."""
    multiprocessing.util.Finalize(None, account, ("end",), exitpriority=-1000)  # the lowest comes last


atexit.register(account, "end")

import analytics_sdk  # noqa: E402
