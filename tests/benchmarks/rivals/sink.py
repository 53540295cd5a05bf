"""The other side: an HTTP server in a process of its own that takes everything, answers fast and counts.

It speaks as much of every contestant's protocol as makes it content. `python -m tests.benchmarks.rivals.sink` prints
its address and obeys the words on its standard input: digest, forget, heal.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import IO, Any, Final, Self
from urllib.parse import parse_qs

from .event import MARK

# Everyone finds in it what makes them content: Segment and Rudder the status 200, PostHog and Mixpanel the status 1,
# Amplitude the code.
WELCOME: Final = b'{"status":1,"code":200,"success":true,"error":null}'
INVALID: Final = b'{"status":0,"code":"malformed","message":"invalid JSON","error":"invalid JSON"}'
RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER that makes close() a reset


class Desk:
    """What has arrived.

    Args:
        delay: Seconds before each answer; what came is counted before.
        hang: Answer nothing and count nothing.
        reset: Count the first batch, then reset the connection without an answer.
        drop: Reset the connection, but without counting the batch.
        strict: Refuse with 400 what is no JSON, as real servers do.
    """

    def __init__(
        self,
        *,
        delay: float = 0.0,
        hang: bool = False,
        reset: bool = False,
        drop: bool = False,
        strict: bool = False,
    ) -> None:
        self.delay, self.hang, self.reset, self.drop, self.strict = delay, hang, reset, drop, strict
        self._bodies: list[bytes] = []
        self._rows: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        self._numbers: dict[str, set[int]] = defaultdict(set)
        self._lock = threading.Lock()

    def heal(self) -> None:
        """Be an ordinary server from now on."""
        self.delay, self.hang, self.reset, self.drop, self.strict = 0.0, False, False, False, False

    def take(self, body: bytes) -> None:
        """Keep a body; it is looked at later, when nobody is being timed."""
        with self._lock:
            self._bodies.append(body)

    def resets(self, body: bytes) -> bool:
        """Whether this connection is the one to be reset, before the body is taken or after."""
        if b"order-" not in body:
            return False
        with self._lock:
            reset, drop, self.reset, self.drop = self.reset, self.drop, False, False
        if reset:
            self.take(body)
        return reset or drop

    def forget(self) -> None:
        """Start anew."""
        with self._lock:
            for found in (self._bodies, self._rows, self._bytes, self._numbers):
                found.clear()

    def digest(self) -> dict[str, dict[str, int]]:
        """Rows, distinct events and bytes of each contestant since `forget()`."""
        with self._lock:
            bodies, self._bodies = self._bodies, []
        for body in bodies:
            self._count(body)
        return {
            name: {"rows": rows, "distinct": len(self._numbers[name]), "bytes": self._bytes[name]}
            for name, rows in self._rows.items()
        }

    def _count(self, body: bytes) -> None:
        found = MARK.findall(body)
        for name, number in found:
            self._rows[name.decode()] += 1
            self._numbers[name.decode()].add(int(number))
        if found:
            self._bytes[found[0][0].decode()] += len(body)


def read_request(stream: IO[bytes]) -> tuple[dict[str, str], bytes] | None:
    """Headers in lower case and the body as it was before gzip, or None at the end of the connection."""
    if not stream.readline():
        return None
    headers: dict[str, str] = {}
    while (line := stream.readline().strip()) != b"":
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    body = read_body(stream, headers)
    return headers, gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body


def read_body(stream: IO[bytes], headers: Mapping[str, str]) -> bytes:
    """A body of known length or in chunks."""
    if headers.get("transfer-encoding") != "chunked":
        return stream.read(int(headers.get("content-length", 0)))
    parts = []
    while size := int(stream.readline(), 16):
        parts.append(stream.read(size))
        stream.readline()
    stream.readline()
    return b"".join(parts)


def answer(status: str, kind: str, content: bytes) -> bytes:
    """An HTTP answer."""
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content


REFUSAL: Final = answer("400 Bad Request", "application/json", INVALID)


def welcome(headers: Mapping[str, str], body: bytes) -> bytes:
    """What the sender takes for success."""
    if headers.get("content-type") == "application/x-protobuf":
        return answer("200 OK", "application/x-protobuf", b"")
    if own := body.count(b'"event_id"'):
        stored = b'{"accepted":%d,"duplicates":0,"rejected":[]}' % own
        return answer("200 OK", "application/json", stored)
    return answer("200 OK", "application/json", WELCOME)


def no_number(text: str) -> None:
    """NaN and its like are no JSON."""
    raise ValueError(text)


def parse(text: str | bytes) -> Any:
    """Strict JSON."""
    return json.loads(text, parse_constant=no_number)


def acceptable(headers: Mapping[str, str], body: bytes) -> bytes:
    """The part of a body that a server could store; nothing of one that is no JSON.

    Snowplow packs every event into a string of its own, so there one bad event is only itself.
    """
    kind = headers.get("content-type", "")
    try:
        if kind == "application/x-protobuf":
            return body
        if kind.startswith("application/x-www-form-urlencoded"):
            parse(parse_qs(body.decode())["data"][0])
            return body
        if kind == "application/x-sentry-envelope":
            for line in body.splitlines():
                parse(line)
            return body
        batch = parse(body)
    except ValueError:
        return b""
    rows = batch.get("data") if isinstance(batch, dict) else None
    if isinstance(rows, list) and rows and "ue_pr" in rows[0]:
        return b"\n".join(row["ue_pr"].encode() for row in rows if well_formed(row["ue_pr"]))
    return body


def well_formed(text: str) -> bool:
    """Whether it is strict JSON."""
    try:
        parse(text)
    except ValueError:
        return False
    return True


def serve(connection: socket.socket, desk: Desk) -> None:
    """One connection, until the client closes it."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection, connection.makefile("rb", buffering=1 << 18) as stream, contextlib.suppress(OSError):
        while (request := read_request(stream)) is not None:
            headers, body = request
            if desk.hang:
                wait(desk)
                break
            if desk.resets(body):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                break
            kept = acceptable(headers, body) if desk.strict else body
            desk.take(kept)
            if desk.delay:
                time.sleep(desk.delay)
            connection.sendall(welcome(headers, body) if kept or not body else REFUSAL)
            if headers.get("connection", "").lower() == "close":
                break


def wait(desk: Desk) -> None:
    """Let the sender wait, without a word, until the desk is healthy again; its request is then lost."""
    while desk.hang:
        time.sleep(0.05)


def listen(desk: Desk) -> int:
    """Serve in threads; returns the port."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)

    def accept() -> None:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(connection, desk), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return int(listener.getsockname()[1])


def main() -> None:
    """Serve until the standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--delay", type=float, default=0.0)
    for flag in ("--hang", "--reset", "--drop", "--strict"):
        parser.add_argument(flag, action="store_true")
    desk = Desk(**vars(parser.parse_args()))
    print(listen(desk), flush=True)
    words = {"digest": desk.digest, "forget": desk.forget, "heal": desk.heal}
    for line in sys.stdin:
        print(json.dumps(words[line.strip()]()), flush=True)


class Sink:
    """The server from outside: starts it, asks it, ends it.

    Args:
        flags: Of the command, for instance "--delay=0.3".
    """

    def __init__(self, *flags: str) -> None:
        command = [sys.executable, "-m", "tests.benchmarks.rivals.sink", *flags]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = f"http://127.0.0.1:{self._line()}"

    def ask(self, word: str) -> Any:
        """Say digest, forget or heal, and return the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        return json.loads(self._line())

    def found(self, name: str) -> dict[str, int]:
        """What arrived of a contestant."""
        return dict(self.ask("digest").get(name, {"rows": 0, "distinct": 0, "bytes": 0}))

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


if __name__ == "__main__":
    main()
