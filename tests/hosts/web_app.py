"""A WSGI application that tracks as it is loaded and in its requests, and flushes when it is asked to."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from tests.delivery.diary import analytics_sdk, track

track()


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """`/flush?2` flushes for up to 2 seconds, any other path tracks so many events; the answer is our process id."""
    number = environ["QUERY_STRING"]
    if environ["PATH_INFO"] == "/flush":
        analytics_sdk.flush(timeout=float(number))
    else:
        track(int(number))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
