"""What the WSGI middleware costs a request: CPU time of the thread that serves it, in microseconds.

The application does nothing, so the difference to the bare one is the middleware's. The rounds take turns, and the
least of them counts: what else the machine does only adds to it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from analytics_sdk import Client
from analytics_sdk.testing import RecordingTransport
from analytics_sdk.wsgi import AnalyticsMiddleware

ROUNDS = 30
REQUESTS = 500  # in each round

PAGE = {
    "REQUEST_METHOD": "GET",
    "SCRIPT_NAME": "",
    "PATH_INFO": "/products/1",
    "QUERY_STRING": "",
    "REMOTE_ADDR": "192.0.2.1",
    "HTTP_ACCEPT": "text/html,application/xhtml+xml,*/*;q=0.8",
    "HTTP_COOKIE": "analytics_session=0123456789abcdefg",
    "HTTP_REFERER": "https://example.com/products",
    "HTTP_SEC_FETCH_DEST": "document",
    "HTTP_USER_AGENT": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "wsgi.url_scheme": "http",
}
REQUESTS_OF = {
    "a page view": PAGE,
    "a page view of a new visitor": {**PAGE, "HTTP_COOKIE": ""},
    "a script's request": {**PAGE, "HTTP_SEC_FETCH_DEST": "empty"},
    "an excluded path": {**PAGE, "PATH_INFO": "/static/app.css"},
}


def empty(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """An application that does nothing."""
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
    return [b""]


def cost(app: Any, environ: dict[str, Any]) -> float:
    """Microseconds of CPU for a request, over one round."""
    started = time.thread_time()
    for _ in range(REQUESTS):
        body = app(dict(environ), lambda status, headers: None)
        for _ in body:
            pass
        if hasattr(body, "close"):
            body.close()
    return (time.thread_time() - started) / REQUESTS * 1e6


def main() -> None:
    """Print the table."""
    client = Client(transport=RecordingTransport(), flush_interval=600, max_batch_events=10_000)
    app = AnalyticsMiddleware(empty, client)
    bare = []
    wrapped: dict[str, list[float]] = {name: [] for name in REQUESTS_OF}
    for _ in range(ROUNDS):
        bare.append(cost(empty, PAGE))
        for name, environ in REQUESTS_OF.items():
            wrapped[name].append(cost(app, environ))
        client.flush()
    floor = min(bare)
    print(f"{'bare application':32}{floor:8.1f} us")
    for name, costs in wrapped.items():
        print(f"{name:32}{min(costs) - floor:+8.1f} us")
    client.close()


if __name__ == "__main__":
    main()
