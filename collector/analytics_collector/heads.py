"""gunicorn's parser, which reads no head again that came before on the same connection.

A client says the same with each of its requests, but for the length of the body; to read that again is a sixth of what
a small request costs. What gunicorn has made of some bytes, it would make of the same bytes again.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gunicorn.http import wsgi
from gunicorn.http.body import LengthReader
from gunicorn.http.message import Request
from gunicorn.http.parser import RequestParser

from .intake import END_OF_HEAD, LENGTH

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from gunicorn.workers.gthread import TConn

_MOST_BYTES: Final = 4 * 1024  # of a head that is kept


class Start(NamedTuple):
    """The bytes that a request begins with, but for the digits of its Content-Length.

    Attributes:
        before: All of them, if there are no such digits.
        after: Nothing, if there are none.
    """

    before: bytes
    after: bytes


_NO_START: Final = Start(b"", b"")


class Head:
    """What gunicorn has made of a head.

    Args:
        start: Its bytes.
        request: gunicorn's.
        environ: What a WSGI application got to see of it (PEP 3333).
    """

    def __init__(self, start: Start, request: Request, environ: WSGIEnvironment) -> None:
        self.start = start
        self.request = request
        # Hints belong to one answer, and may as well not be heard.
        self._environ = {**environ, "wsgi.multithread": True, "wsgi.early_hints": lambda _headers: None}

    def environ(self, body: io.BytesIO, length: str) -> WSGIEnvironment:
        """The same for another body; without digits in the head its length is what it was."""
        environ = {**self._environ, "wsgi.input": body}
        if length:
            environ["CONTENT_LENGTH"] = length
        return environ

    def headers(self, length: str) -> list[tuple[str, str]]:
        """Names and values, likewise."""
        return [
            (name, length if length and name == "CONTENT-LENGTH" else value) for name, value in self.request.headers
        ]


class Repeated:
    """A request with a known head, all of which is there; to gunicorn it is a request like any other.

    Args:
        head: What it begins with.
        length: The digits of its Content-Length, if it has some.
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
        return self._head.headers(self._length)

    def environ(self) -> WSGIEnvironment:
        """What a WSGI application gets to see."""
        return self._head.environ(self.body, self._length)

    def should_close(self) -> bool:
        """Whether the connection ends with it: no head is kept that says so."""
        return False


class Parser(RequestParser):  # type: ignore[misc]  # gunicorn has no types
    """One connection's, in the place of gunicorn's; what arrives is put into the buffer of its `unreader`."""

    mesg: Request | Repeated | None

    def __init__(self, conn: TConn) -> None:
        super().__init__(conn.cfg, conn.sock, conn.client)
        if conn.parser is not None:
            self.unreader = conn.parser.unreader  # which has what gunicorn has looked at already
        # Not the connection itself: both would stay, and what was sent, until the garbage collector comes.
        self._server = conn.server
        self._start = _NO_START  # of the request that came last
        self._head: Head | None = None  # the same, once it has come twice

    def finish_body(self, *args: Any, **kwargs: Any) -> bool:
        """Read what the application has left of a body; tells whether the next request can be read."""
        if isinstance(self.mesg, Repeated):
            self.mesg = None  # or an idle connection would keep all of it
            return True
        return bool(super().finish_body(*args, **kwargs))

    def __next__(self) -> Request | Repeated:
        """Read the next request.

        Raises:
            StopIteration: There is none, or where it begins is not known.
        """
        if self.mesg is not None and (self.mesg.should_close() or not self.finish_body()):
            raise StopIteration
        arrived = self.unreader.buf.getvalue()
        start, length = _split(arrived)
        begin = len(start.before) + len(length) + len(start.after)
        end, head = begin + int(length or b"0"), self._head
        if head is not None and head.start == start and len(arrived) >= end:
            self.unreader.take_buffered()
            self.unreader.unread(arrived[end:])
            self.req_count += 1
            self.mesg = Repeated(head, length, arrived[begin:end])
            return self.mesg
        return self._read(start, end - begin)

    def _read(self, start: Start, length: int) -> Request:
        """Have gunicorn read a request, and keep its head if it came before."""
        request = super().__next__()
        is_known = start == self._start != _NO_START and _is_plain(request, length)
        self._start, self._head = start, self._made(start, request) if is_known else None
        return request

    def _made(self, start: Start, request: Request) -> Head:
        _, environ = wsgi.create(request, self.unreader.sock, self.source_addr, self._server, self.cfg)
        return Head(start, request, environ)


def _split(arrived: bytes) -> tuple[Start, bytes]:
    """How a request begins, and the digits of its Content-Length; nothing if there is no head, or a large one."""
    end = arrived.find(END_OF_HEAD, 0, _MOST_BYTES)
    if end < 0:
        return _NO_START, b""
    head = arrived[: end + len(END_OF_HEAD)]
    length = LENGTH.search(head)
    if length is None:
        return Start(head, b""), b""
    return Start(head[: length.start(1)], head[length.end(1) :]), length[1]


def _is_plain(request: Request, length: int) -> bool:
    """Whether a head says nothing but this length and these fields: all else has to be heard each time."""
    reader = request.body.reader
    is_of_length = isinstance(reader, LengthReader) and reader.length == length
    return is_of_length and not request.should_close() and all(name != "EXPECT" for name, _ in request.headers)
