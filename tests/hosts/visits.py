"""Requests to a server under test."""

from __future__ import annotations

import time
import urllib.request

import attrs


@attrs.frozen
class Visit:
    """An answer.

    Attributes:
        pid: The process that gave it.
        took: Seconds.
    """

    pid: int
    took: float


def visit(url: str) -> Visit:
    """Ask for a page."""
    began = time.monotonic()
    with urllib.request.urlopen(url, timeout=30) as response:
        pid = int(response.read())
    return Visit(pid, time.monotonic() - began)
