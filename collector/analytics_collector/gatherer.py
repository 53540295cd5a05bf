"""gunicorn's threaded worker, with requests gathered before a thread gets them.

A thread of gthread reads a request with a blocking `recv` that has no time limit: as many clients as there are threads
that send one byte and then nothing keep everybody else out, for as long as they like. Here the one loop that watches
all idle connections anyway also takes in what arrives, and a thread gets a request when all of it is there. So a slow
client costs a buffer and not a thread; what takes too long is closed, and when the buffers are full, the oldest are.

What writes a few records is served by a `Crew`, many in one thread; all else has a thread of its own. And the
workers have about as many connections each (`peers`), as one whose clients all sit with another worker is of no use.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import selectors
import socket
import termios
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import attrs
from gunicorn import glogging
from gunicorn.http.parser import RequestParser
from gunicorn.workers.gthread import TConn, ThreadWorker

from .answer import Answer
from .config import Settings
from .crew import Crew
from .heads import Parser, Repeated
from .intake import Intake
from .peers import Peers

MOST_BUFFERED: Final = 128 * 1024 * 1024  # bytes of unfinished requests in one worker
_STEP: Final = 256 * 1024  # bytes read at a time
_PAUSE: Final = 0.1  # seconds between two looks at the clock
_CROWDED: Final = 0.9  # share of gunicorn's `worker_connections` from which on there is no room for slow ones
_SLOW: Final = 1.0  # seconds that a request may take to arrive even then
_LINGER: Final = 2.0  # seconds that a stopping worker waits for the first byte of a request
_COURTESY: Final = 0.0005  # seconds in which a worker with fewer connections may take the next one
_ANSWER: Final = 128 * 1024  # bytes that the kernel takes of an answer, whether somebody reads it or not
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


_peers: Final = Peers()


@attrs.frozen
class _Done:
    """What gunicorn wants to have of a future."""

    value: bool

    def cancelled(self) -> bool:
        """It never is."""
        return False

    def result(self) -> bool:
        """Whether the connection stays."""
        return self.value


class Gatherer(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """What `gunicorn_config` names as the worker's class."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        settings = Settings.from_env()
        self._patience = settings.request_seconds
        self._most_bytes = settings.max_body_bytes
        self._intakes: dict[TConn, Intake] = {}  # the oldest first
        self._reading_until: dict[TConn, float] = {}
        self._is_ssl = self.cfg.is_ssl
        self._has_listeners = has_listeners(self.cfg, self.log)
        self._looked_at = float("-inf")
        self._crew = Crew(lambda work: self.tpool.submit(work), self._serve, self._finish_later)

    def accept(self, listener: object) -> None:
        """Take a connection, unless a worker that has fewer is as quick."""
        if _peers.have_fewer(self.nr_conns, time.monotonic()):
            time.sleep(_COURTESY)
        super().accept(listener)

    def enqueue_req(self, conn: TConn) -> None:
        """Gather a request; gunicorn calls this for each connection that is new or has become readable."""
        if self._is_ssl:  # what is behind the handshake only gunicorn can read
            super().enqueue_req(conn)
            return
        intake = self._intakes[conn] = Intake(time.monotonic(), self._patience, self._most_bytes)
        intake.add(_pipelined(conn))
        conn.sock.setblocking(False)
        if not conn.initialized:
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _ANSWER)
        self._receive(conn, intake)  # most have sent it all by now

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Take in what arrives, and have served what is whole."""
        super().wait_for_and_dispatch_events(timeout)
        self._crew.call()

    def handle(self, conn: TConn) -> Any:
        """Serve a request, in a thread."""
        try:
            return super().handle(conn)
        finally:
            self._reading_until.pop(conn, None)

    def handle_request(self, req: Any, conn: TConn) -> Any:
        """Answer a request."""
        if not (isinstance(req, Repeated) and self._is_usual()):
            return super().handle_request(req, conn)
        self.nr += 1
        answer = Answer(req, conn.sock, self.cfg)
        try:
            answer.give(self.wsgi)
        except Exception as error:
            if isinstance(error, OSError) or not answer.was_sent:
                raise  # gunicorn knows what to do
            self.log.exception("Error handling request")
            return False
        return not answer.should_close()

    def _is_usual(self) -> bool:
        """Whether nobody wants to hear of a request, and neither worker nor connection ends with it."""
        has_room = len(self.keepalived_conns) < self.max_keepalived
        return self.alive and has_room and self.nr + 1 < self.max_requests and not self._has_listeners

    def notify(self) -> None:
        """Look at the clock; gunicorn calls this at each turn of its loop, once a second at least."""
        now = time.monotonic()
        if self.alive:
            _peers.tell(self.age, self.nr_conns, now)
        if now - self._looked_at >= _PAUSE:
            self._looked_at = now
            super().notify()
            self._look(now)

    def _look(self, now: float) -> None:
        """Close what takes too long, and the oldest if it is too much."""
        buffered = sum(len(intake.buffer) for intake in self._intakes.values())
        for conn, intake in list(self._intakes.items()):
            if buffered > MOST_BUFFERED or self._is_over(intake, now):
                buffered -= len(intake.buffer)
                self._drop(conn)
        for conn, until in list(self._reading_until.items()):
            if now > until:
                self._stop_reading(conn)

    def _is_over(self, intake: Intake, now: float) -> bool:
        age = now - intake.started_at
        is_crowded = self.nr_conns >= _CROWDED * self.worker_connections
        is_idle_at_the_end = not self.alive and not intake.buffer and age > _LINGER
        return now > intake.deadline or is_idle_at_the_end or (is_crowded and age > _SLOW)

    def _on_readable(self, conn: TConn, _: object) -> None:
        self.poller.unregister(conn.sock)
        self._receive(conn, self._intakes[conn])

    def _receive(self, conn: TConn, intake: Intake) -> None:
        """Take in what is there; if that is not all of it, wait for more."""
        data = _received(conn.sock)
        if data == b"":
            self._drop(conn)
            return
        intake.add(data or b"")
        self._go_on(conn, intake)

    def _go_on(self, conn: TConn, intake: Intake) -> None:
        if intake.state == "expects":
            intake.continue_was_sent()
            with contextlib.suppress(OSError):
                conn.sock.send(_CONTINUE)
        if intake.state == "partial":
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._on_readable, conn))
        else:
            self._hand_on(conn, intake)

    def _hand_on(self, conn: TConn, intake: Intake) -> None:
        """Let a thread have it, with what has arrived to read first."""
        del self._intakes[conn]
        # A thread may have to read the rest of what is too large, and of what was not quite whole.
        self._reading_until[conn] = time.monotonic() + self._patience
        self._init(conn)
        conn.parser.unreader.unread(bytes(intake.buffer))
        conn.data_ready = True
        if intake.is_quick and _has_been_heard(conn.sock):
            self._crew.add(conn)
        else:
            super().enqueue_req(conn)

    def _init(self, conn: TConn) -> None:
        if not conn.initialized:
            conn.init()
            if isinstance(conn.parser, RequestParser):  # and not HTTP/2's
                conn.parser = Parser(conn)

    def _serve(self, conn: TConn) -> bool:
        """Serve a request of the crew's; whatever happens to it is not its neighbours' concern."""
        try:
            return bool(self.handle(conn))
        except BaseException:
            self.log.exception("A request was given up")
            return False

    def _finish_later(self, served: Sequence[tuple[TConn, bool]]) -> None:
        self.method_queue.defer(self._finish, served)

    def _finish(self, served: Sequence[tuple[TConn, bool]]) -> None:
        for conn, stays in served:
            self.finish_request(conn, _Done(stays))

    def _drop(self, conn: TConn) -> None:
        del self._intakes[conn]
        with contextlib.suppress(KeyError):  # it has just been read from
            self.poller.unregister(conn.sock)
        self.nr_conns -= 1
        conn.close()

    def _stop_reading(self, conn: TConn) -> None:
        """Wake the thread that waits for more: to it, the connection ends here."""
        self._reading_until.pop(conn, None)
        with contextlib.suppress(OSError):
            conn.sock.shutdown(socket.SHUT_RD)


def has_listeners(cfg: Any, log: Any) -> bool:
    """Whether gunicorn has to tell somebody of each request: a hook, an access log, statsd."""
    hooks = [cfg.settings[name] for name in ("pre_request", "post_request")]
    is_logged = log.access_log_enabled or type(log).access is not glogging.Logger.access
    return is_logged or any(hook.get() != hook.default for hook in hooks)


def _has_been_heard(connection: socket.socket) -> bool:
    """Whether the other side has all that was sent: who never reads may keep a thread waiting, but not the crew's."""
    unsent = array.array("i", [0])
    with contextlib.suppress(OSError):  # a kind of socket that does not know
        fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, unsent)
    return unsent[0] == 0


def _received(connection: socket.socket) -> bytes | None:
    """What has arrived: None if it is nothing yet, and nothing if the connection has ended."""
    try:
        return connection.recv(_STEP)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def _pipelined(conn: TConn) -> bytes:
    """What gunicorn has read of a next request already."""
    if conn.parser is None:
        return b""
    data: bytes = conn.parser.unreader.buf.getvalue()
    conn.parser.unreader.buf.seek(0)
    conn.parser.unreader.buf.truncate()
    return data
