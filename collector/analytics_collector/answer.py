"""gunicorn's answer to a request, sent in one piece."""

from __future__ import annotations

import functools
import socket
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gunicorn.http.wsgi import Response
from gunicorn.util import http_date

from .heads import Repeated

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


class _Parts:
    """What is sent, before it is."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.sendall = self._parts.append

    def joined(self) -> bytes:
        """All of it."""
        return b"".join(self._parts)


class Answer(Response):  # type: ignore[misc]  # gunicorn has no types
    """One answer; nothing is sent before all of it is known.

    Args:
        request: To what.
        connection: Where it goes.
        cfg: gunicorn's.

    Attributes:
        was_sent: Whether it is on its way, and nothing else may be said.
    """

    def __init__(self, request: Repeated, connection: socket.socket, cfg: Any) -> None:
        self._parts = _Parts()
        self._connection = connection
        self.was_sent = False
        super().__init__(request, self._parts, cfg)

    def process_headers(self, headers: Sequence[tuple[str, str]]) -> None:
        """Take the application's headers; what gunicorn has checked it need not check again."""
        for header in headers:
            checked = _checked(*header)
            if checked is None:
                super().process_headers([header])
            else:
                self.headers += checked

    def default_headers(self) -> list[str]:
        """What gunicorn says of itself and of the connection; the date is written once a second."""
        if self.chunked or self.upgrade:
            return list(super().default_headers())
        major, minor = self.req.version
        connection = "close" if self.should_close() else "keep-alive"
        date = _date(int(time.time()))
        first = f"HTTP/{major}.{minor} {self.status}\r\n"
        return [f"{first}Server: {self.version}\r\nDate: {date}\r\nConnection: {connection}\r\n"]

    def send(self) -> None:
        """Send it."""
        self.close()
        self.was_sent = True
        self._connection.sendall(self._parts.joined())

    def give(self, app: WSGIApplication) -> None:
        """Have the request answered by an application (PEP 3333)."""
        parts = app(self.req.environ(), self.start_response)
        try:
            for part in parts:
                self.write(part)
            self.send()
        finally:
            if hasattr(parts, "close"):
                parts.close()


@functools.lru_cache(maxsize=1024)
def _checked(name: str, value: str) -> tuple[tuple[str, str], ...] | None:
    """What gunicorn makes of a header; None if it is one that changes the answer itself."""
    response = Response(None, None, None)
    response.process_headers([(name, value)])
    return None if response.upgrade or response.response_length is not None else tuple(response.headers)


@functools.lru_cache(maxsize=1)
def _date(second: int) -> str:
    return str(http_date(second))
