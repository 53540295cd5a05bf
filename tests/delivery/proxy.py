"""A proxy in front of the real collector that fails in one chosen way, on real sockets."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import attrs

DRIP = 0.2  # seconds between two bytes of a dripping answer


@attrs.frozen
class Exchange:
    """One request and what can be done with it.

    Attributes:
        raw: The body as it came.
        over: Set when the proxy's mode changes.
        ended: Set when the proxy goes away.
    """

    handler: BaseHTTPRequestHandler
    raw: bytes
    collector: str
    over: threading.Event
    ended: threading.Event

    @property
    def body(self) -> bytes:
        """The body, inflated."""
        return gzip.decompress(self.raw) if self.handler.headers["Content-Encoding"] == "gzip" else self.raw

    def forward(self) -> bytes:
        """Let the collector have it; returns its whole answer."""
        with contextlib.closing(http.client.HTTPConnection(self.collector, timeout=60)) as upstream:
            upstream.request("POST", self.handler.path, self.raw, dict(self.handler.headers))
            response = upstream.getresponse()
            return answer(response.status, response.read(), **dict(response.getheaders()))

    def write(self, data: bytes) -> None:
        """Send bytes to the SDK."""
        self.handler.wfile.write(data)

    def reset(self) -> None:
        """End the connection by RST, as a proxy that dies or a firewall does."""
        self.handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.handler.connection.close()
        self.handler.close_connection = True


Mode = Callable[[Exchange], None]


def passing(exchange: Exchange) -> None:
    """As if there were no proxy."""
    exchange.write(exchange.forward())


def hanging(exchange: Exchange) -> None:
    """Take the request and never answer, not even once the fault is over."""
    exchange.ended.wait()


def dripping(exchange: Exchange) -> None:
    """Send the collector's answer byte by byte, so that no single read times out; the rest once that is over."""
    left = exchange.forward()
    while not exchange.over.wait(DRIP) and left:
        exchange.write(left[:1])
        left = left[1:]
    exchange.write(left)


def resetting_before(exchange: Exchange) -> None:
    """Reset the connection; the collector has seen nothing of it."""
    exchange.reset()


def resetting_after(exchange: Exchange) -> None:
    """Reset the connection once the collector has stored everything."""
    exchange.forward()
    exchange.reset()


def answering(status: int, **headers: str) -> Mode:
    """Answer with a status, as an overloaded collector or its proxy does."""
    return lambda exchange: exchange.write(answer(status, b"<html>not now</html>", **headers))


def refusing(word: bytes) -> Mode:
    """A web application firewall: 403 for every body that holds the word."""
    refusal = answer(403, b"<html>Forbidden</html>", Content_Type="text/html")
    return lambda exchange: exchange.write(refusal if word in exchange.body else exchange.forward())


def limiting(most: int) -> Mode:
    """413 for bodies of more bytes, as they are on the wire."""
    refusal = answer(413, b"<html>Request Entity Too Large</html>", Content_Type="text/html")
    return lambda exchange: exchange.write(refusal if len(exchange.raw) > most else exchange.forward())


def answer(status: int, content: bytes, **headers: str) -> bytes:
    """The bytes of an HTTP answer that keeps the connection open."""
    skipped = {"content-length", "transfer-encoding", "connection"}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items() if name.lower() not in skipped]
    head = "\r\n".join(
        [f"HTTP/1.1 {status} {http.client.responses[status]}", *lines, f"Content-Length: {len(content)}"]
    )
    return f"{head}\r\n\r\n".encode() + content


class Proxy:
    """Listens on one address for as long as the block lasts, except while it is down.

    Attributes:
        requests: How many have come.
    """

    def __init__(self, collector_url: str) -> None:
        self.requests = 0
        self._collector = urlsplit(collector_url).netloc
        self._ended = threading.Event()
        self._over = threading.Event()
        self._mode: Mode = passing
        self._server = self._listen(0)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def become(self, mode: Mode) -> None:
        """Do this with each request from now on."""
        self._mode = mode
        self._over.set()
        self._over = threading.Event()

    def down(self) -> None:
        """Let go of all connections and refuse new ones."""
        self._server.shutdown()
        self._server.server_close()
        self._server.drop_all()

    def up(self) -> None:
        """Listen again, on the same address."""
        self._server = self._listen(self._server.server_port)

    def close(self) -> None:
        """End whatever still hangs."""
        self.become(passing)
        self._ended.set()
        self.down()

    def _listen(self, port: int) -> _Server:
        server = _Server(("127.0.0.1", port), _handler(self))
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return server

    def take(self, handler: BaseHTTPRequestHandler, raw: bytes) -> None:
        """Do with a request what the mode says."""
        self.requests += 1
        self._mode(Exchange(handler, raw, self._collector, self._over, self._ended))


@contextlib.contextmanager
def proxy_to(collector_url: str) -> Iterator[Proxy]:
    """A proxy that lets everything pass at first."""
    proxy = Proxy(collector_url)
    with contextlib.closing(proxy):
        yield proxy


class _Server(ThreadingHTTPServer):
    """Knows its connections, so that it can drop them."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, *args: object) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(*args)  # type: ignore[arg-type]

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        self._open.add(request)
        super().process_request(request, client_address)  # type: ignore[arg-type]

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        self._open.discard(request)
        super().shutdown_request(request)

    def drop_all(self) -> None:
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """Hosts are killed in the midst of requests here; that is no news."""


def _handler(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            raw = self.rfile.read(length)
            if len(raw) == length:  # else the host was killed while it sent
                proxy.take(self, raw)

        def log_message(self, *_: object) -> None:
            """The tests look at the table."""

    return Handler


@contextlib.contextmanager
def unreachable() -> Iterator[str]:
    """An address that never answers the attempt to connect, as behind a firewall that swallows everything."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, contextlib.ExitStack() as stack:
        address = listener.getsockname()
        with contextlib.suppress(TimeoutError):
            while True:  # until the queue of connections that wait to be accepted is full
                stack.enter_context(socket.create_connection(address, timeout=0.2))
        yield f"http://127.0.0.1:{address[1]}"
