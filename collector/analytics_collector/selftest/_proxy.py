"""A line between two programs that can be cut, at any moment or at just the wrong one."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from typing import Final, Literal

Moment = Literal["before", "after"]

_CHUNK: Final = 64 * 1024  # bytes
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends RST at once


class Proxy:
    """Passes bytes on, between whoever connects to its port of 127.0.0.1 and a server.

    Args:
        connect: Makes a connection to the server.
        mark: What the bytes of a decisive request hold; empty: every request is decisive.
    """

    def __init__(self, connect: Callable[[], socket.socket], mark: bytes = b"") -> None:
        self._connect = connect
        self._mark = mark
        self._due: Counter[Moment] = Counter()
        self._lines: set[_Line] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name="selftest-proxy", daemon=True).start()

    def reset_next(self, moment: Moment, times: int) -> None:
        """Cut the lines of the next decisive requests: "before" the server has them, or "after" it has done them.

        After means as its answer comes, of which nothing is passed on.
        """
        with self._lock:
            self._due[moment] += times

    def cut(self) -> int:
        """Cut all lines, now; returns how many there were."""
        with self._lock:
            lines = list(self._lines)
        for line in lines:
            line.cut()
        return len(lines)

    def close(self) -> None:
        """Take no more connections, and cut those that are there."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in accept()
        self._listener.close()
        self.cut()

    def is_decisive(self, chunk: bytes) -> bool:
        """Whether what a client sends makes the server do what may be cut."""
        return self._mark in chunk

    def take(self, moment: Moment) -> bool:
        """Whether a line is to be cut at this moment; counts as one of the times."""
        with self._lock:
            if self._due[moment] <= 0:
                return False
            self._due[moment] -= 1
            return True

    def add(self, line: _Line) -> None:
        """A line is there."""
        with self._lock:
            self._lines.add(line)

    def forget(self, line: _Line) -> None:
        """A line has ended."""
        with self._lock:
            self._lines.discard(line)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = self._connect()
        except OSError:  # it is away: so are we
            _reset(client)
            return
        for end in (client, server):
            with contextlib.suppress(OSError):  # a Unix socket has no such option
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _Line(self, client, server).pass_on()


class _Line:
    """One connection, both halves of it."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._is_decided = False

    def pass_on(self) -> None:
        """Return when the line has ended."""
        self._proxy.add(self)
        back = threading.Thread(target=self._pass, args=(self._server, self._client, self._may_answer), daemon=True)
        back.start()
        self._pass(self._client, self._server, self._may_ask)
        back.join()
        self._proxy.forget(self)
        self._client.close()
        self._server.close()

    def cut(self) -> None:
        """End both halves by RST: what is under way is gone."""
        for end in (self._client, self._server):
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                end.shutdown(socket.SHUT_RDWR)

    def _pass(self, source: socket.socket, target: socket.socket, may: Callable[[bytes], bool]) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(_CHUNK):
                if not may(chunk):
                    break
                target.sendall(chunk)
            else:
                target.shutdown(socket.SHUT_WR)
                return
        self.cut()

    def _may_ask(self, chunk: bytes) -> bool:
        if not self._proxy.is_decisive(chunk):
            return True
        self._is_decided = True
        return not self._proxy.take("before")

    def _may_answer(self, _: bytes) -> bool:
        is_answer, self._is_decided = self._is_decided, False
        return not (is_answer and self._proxy.take("after"))


def _reset(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    connection.close()
