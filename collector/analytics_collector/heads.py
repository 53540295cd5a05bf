"""gunicorn's parser, which reads no head again that came before on the same connection.

A client says the same with each of its requests, but for the length of the body; to read that again is a sixth of what
a small request costs. What gunicorn has made of some bytes, it would make of the same bytes again.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any, Final

from gunicorn.http import wsgi
from gunicorn.http.body import LengthReader
from gunicorn.http.message import Request
from gunicorn.http.parser import RequestParser

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from gunicorn.workers.gthread import TConn

_MOST_BYTES: Final = 4 * 1024  # of a head that is kept
_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,18})(?=[ \t]*\r\n)", re.IGNORECASE)


class Head:
    """What gunicorn has made of a head.

    Args:
        shape: Its bytes, without the digits of its Content-Length.
        request: gunicorn's.
        environ: What a WSGI application got to see of it (PEP 3333).
    """

    def __init__(self, shape: bytes, request: Request, environ: WSGIEnvironment) -> None:
        self.shape = shape
        self.request = request
        self._environ = environ
        self._has_length = "CONTENT_LENGTH" in environ

    @classmethod
    def of(cls, shape: bytes, request: Request, conn: TConn) -> Head:
        """What a request on this connection begins with."""
        _, environ = wsgi.create(request, conn.sock, conn.client, conn.server, conn.cfg)
        del environ["wsgi.early_hints"]  # which belongs to one answer
        return cls(shape, request, {**environ, "wsgi.multithread": True})

    def environ(self, body: io.BytesIO, length: str) -> WSGIEnvironment:
        """The same for another body."""
        environ = {**self._environ, "wsgi.input": body}
        if self._has_length:
            environ["CONTENT_LENGTH"] = length
        return environ


class Repeated:
    """A request with a known head, all of which is there; to gunicorn it is a request like any other.

    Args:
        head: What it begins with.
        length: The digits of its Content-Length.
        body: The rest.
    """

    def __init__(self, head: Head, length: bytes, body: bytes) -> None:
        self.body = io.BytesIO(body)
        self._head = head
        self._length = length.decode()

    def __getattr__(self, name: str) -> Any:
        """All else is as it was."""
        return getattr(self._head.request, name)

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Names and values."""
        known = self._head.request.headers
        return [(name, self._length if name == "CONTENT-LENGTH" else value) for name, value in known]

    def environ(self) -> WSGIEnvironment:
        """What a WSGI application gets to see."""
        return self._head.environ(self.body, self._length)

    def should_close(self) -> bool:
        """Whether the connection ends with it: no head is kept that says so."""
        return False


class Parser(RequestParser):  # type: ignore[misc]  # gunicorn has no types
    """One connection's; what arrives has been put into the buffer of its `unreader`."""

    mesg: Request | Repeated | None

    def __init__(self, conn: TConn) -> None:
        super().__init__(conn.cfg, conn.sock, conn.client)
        self._conn = conn
        self._shape = b""  # of the head that came last
        self._head: Head | None = None  # the same, once it has come twice

    def finish_body(self, *args: Any, **kwargs: Any) -> bool:
        """Read what the application has left of a body; tells whether the next request can be read."""
        if isinstance(self.mesg, Repeated):
            self.mesg = None  # or an idle connection would keep all of it
            return True
        return bool(super().finish_body(*args, **kwargs))

    def __next__(self) -> Request | Repeated:
        """Read the next request."""
        if self._head is not None and not self.finish_body():
            raise StopIteration
        arrived = self.unreader.buf.getvalue()
        shape, length = _split(arrived)
        begin = len(shape) + len(length)
        end, head = begin + int(length or b"0"), self._head
        if head is not None and head.shape == shape and len(arrived) >= end:
            self.unreader.take_buffered()
            self.unreader.unread(arrived[end:])
            self.req_count += 1
            self.mesg = Repeated(head, length, arrived[begin:end])
            return self.mesg
        return self._read(shape, end - begin)

    def _read(self, shape: bytes, length: int) -> Request:
        """Have gunicorn read a request, and keep its head if it came before."""
        request = super().__next__()
        is_known = shape != b"" and shape == self._shape and _is_plain(request, length)
        self._shape = shape
        self._head = Head.of(shape, request, self._conn) if is_known else None
        return request


def _split(arrived: bytes) -> tuple[bytes, bytes]:
    """A head without the digits of its Content-Length, and those; nothing if there is no head, or a large one."""
    end = arrived.find(_END, 0, _MOST_BYTES)
    if end < 0:
        return b"", b""
    head = arrived[: end + len(_END)]
    length = _LENGTH.search(head)
    return (head, b"") if length is None else (head[: length.start(1)] + head[length.end(1) :], length[1])


def _is_plain(request: Request, length: int) -> bool:
    """Whether a head says nothing but this length and these fields: all else has to be heard each time."""
    reader = request.body.reader
    is_of_length = isinstance(reader, LengthReader) and reader.length == length
    return is_of_length and not request.should_close() and all(name != "EXPECT" for name, _ in request.headers)
