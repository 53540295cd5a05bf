"""The least that can be done by hand: the floors that every SDK is compared with."""

from __future__ import annotations

import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from .contestant import Purpose, Tracker
from .event import TYPE, USER

Post = Callable[[bytes], object]


def open_floor(url: str, purpose: Purpose, spool: str) -> Tracker:
    """A dict with a uuid4 and the time, appended to a deque; nothing is sent."""
    waiting: deque[dict[str, Any]] = deque()

    def burst(orders: Iterable[dict[str, Any]]) -> None:
        for data in orders:
            waiting.append({"id": str(uuid.uuid4()), "time": time.time(), "type": TYPE, "user": USER, "data": data})

    return Tracker(burst=burst, drain=waiting.clear)


def posting(post: Post, batch: int) -> Tracker:
    """The same dict, but every so many are posted as JSON, at once and in the caller's thread."""
    import json

    def burst(orders: Iterable[dict[str, Any]]) -> None:
        events: list[dict[str, Any]] = []
        for data in orders:
            events.append({"id": str(uuid.uuid4()), "time": time.time(), "type": TYPE, "user": USER, "data": data})
            if len(events) == batch:
                post(json.dumps({"events": events}).encode())
                events.clear()
        if events:
            post(json.dumps({"events": events}).encode())

    return Tracker(burst=burst, drain=bool)


def open_http_client(url: str, purpose: Purpose, spool: str, batch: int) -> Tracker:
    """http.client of the standard library, one connection for each thread."""
    import http.client

    threads = threading.local()
    address = urlsplit(url).netloc

    def post(body: bytes) -> None:
        if not hasattr(threads, "connection"):
            threads.connection = http.client.HTTPConnection(address)
        threads.connection.request("POST", "/v1/floor", body, {"Content-Type": "application/json"})
        threads.connection.getresponse().read()

    return posting(post, batch)


def open_httpx(url: str, purpose: Purpose, spool: str, batch: int) -> Tracker:
    """httpx, one client for all threads."""
    import httpx

    client = httpx.Client(headers={"Content-Type": "application/json"})
    return posting(lambda body: client.post(f"{url}/v1/floor", content=body).raise_for_status(), batch)


http_client_100, http_client_500 = (partial(open_http_client, batch=size) for size in (100, 500))
httpx_100, httpx_500 = (partial(open_httpx, batch=size) for size in (100, 500))
