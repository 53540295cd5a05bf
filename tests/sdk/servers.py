"""Collectors that misbehave, on real sockets."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import attrs


@contextlib.contextmanager
def hanging_server() -> Iterator[str]:
    """Accepts every connection and never answers; yields its address."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@attrs.frozen
class Answer:
    """What a server says to one request."""

    status: int = 200
    body: bytes | None = None
    headers: Mapping[str, str] = attrs.field(factory=dict)


@attrs.define
class Request:
    """What a server got."""

    body: bytes
    headers: Mapping[str, str]
    peer: tuple[str, int]

    @property
    def batch(self) -> dict[str, Any]:
        """The body, inflated and read."""
        plain = gzip.decompress(self.body) if self.headers["Content-Encoding"] == "gzip" else self.body
        return dict(json.loads(plain))


@attrs.define
class Answering:
    """A server that answers what it was told to, and from then on as a collector that stores everything."""

    url: str
    answers: list[Answer]
    requests: list[Request] = attrs.field(factory=list)


@contextlib.contextmanager
def answering_server(answers: Iterable[Answer] = ()) -> Iterator[Answering]:
    """A real HTTP/1.1 server with keep-alive."""
    told = list(answers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            request = Request(body, self.headers, self.client_address)
            made.requests.append(request)
            answer = made.answers.pop(0) if made.answers else Answer()
            content = _stored(request) if answer.body is None else answer.body
            self.send_response(answer.status)
            for name, value in {"Content-Length": str(len(content)), **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """The tests look at `requests`."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made = Answering(f"http://127.0.0.1:{server.server_port}", told)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()


def _stored(request: Request) -> bytes:
    accepted = sum(len(request.batch[kind]) for kind in ("events", "sessions", "users"))
    return json.dumps({"accepted": accepted, "duplicates": 0, "rejected": []}).encode()
