"""A WSGI application that tracks in every request, as a host behind gunicorn does."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from tests.delivery.diary import track

track()  # as the application is loaded: with --preload in the server's first process, before it forks


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Track as many events as the query says; the answer is our process id."""
    track(int(environ["QUERY_STRING"]))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
