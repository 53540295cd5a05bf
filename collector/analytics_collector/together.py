"""Several requests in one thread: each runs in a greenlet of its own, and one that has to wait lets the others go on.

A thread for each request would hand the interpreter over a dozen times before eight of them stand in line for one
COMMIT; here they come to that line one after the other, and go on one after the other when it is done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar, cast

from greenlet import getcurrent, greenlet

_T = TypeVar("_T")


class _Request(greenlet):
    """One of those that share a thread; any other greenlet is somebody else's, as under gevent."""


def serve(tasks: Sequence[Callable[[], _T]]) -> list[_T]:
    """Call all of these in this thread, each up to its `let_others_come` before any goes on from there.

    Args:
        tasks: They raise nothing.

    Returns:
        What they return, in their order.
    """
    requests = [_Request(task) for task in tasks]
    results = [request.switch() for request in requests]
    return [
        cast("_T", result if request.dead else request.switch())
        for request, result in zip(requests, results, strict=True)
    ]


def let_others_come() -> None:
    """Let the others in this thread come as far as this; nothing happens where a thread serves one request."""
    current = getcurrent()
    if isinstance(current, _Request) and current.parent is not None:
        current.parent.switch()
