"""A request on its way in: has all of it arrived, and how long may the rest take? Pure: bytes and time are passed in.

Only where a request ends is looked at; what it says, and whether it is HTTP at all, is for gunicorn to judge.
"""

from __future__ import annotations

import re
from typing import Final, Literal

State = Literal["partial", "expects", "whole", "too_large", "broken"]

END_OF_HEAD: Final = b"\r\n\r\n"
LENGTH: Final = re.compile(rb"^content-length:[ \t]*([0-9]{1,18})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
GZIP_MAGIC: Final = b"\x1f\x8b"  # RFC 1952
MOST_HEAD_BYTES: Final = 64 * 1024  # gunicorn refuses less than that; it only has to see it
SMALL: Final = 32 * 1024  # bytes of a request that takes a millisecond or so
MOST_OBJECTS: Final = 100  # JSON objects in one; their verdicts have 1,200 bytes at most, each
SLOWEST: Final = 10 * 1024  # bytes a second that earn a sender more time

_CHUNKED: Final = re.compile(rb"^transfer-encoding:.*chunked", re.IGNORECASE | re.MULTILINE)
_EXPECTS: Final = re.compile(rb"^expect:[ \t]*100-continue", re.IGNORECASE | re.MULTILINE)
_CHUNK_SIZE: Final = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;[^\r\n]*)?")
_LONGEST_LINE: Final = 8 * 1024  # bytes of a chunk's size and extensions, or of a trailer


class Intake:
    """What has arrived of one request.

    Args:
        started_at: When its first byte could have come, in seconds.
        patience: Seconds that it may take, however large it is.
        most_bytes: Largest body; a larger one is handed on, as the answer to it is an error.

    Attributes:
        started_at: The same.
        buffer: All of it.
    """

    def __init__(self, started_at: float, patience: float, most_bytes: int) -> None:
        self.started_at = started_at
        self._patience = patience
        self._most_bytes = most_bytes
        self._body_at: int | None = None
        self._body_bytes = 0
        self._chunks: _Chunks | None = None
        self._is_expecting = False
        self.buffer = bytearray()

    def add(self, data: bytes) -> None:
        """Take in what has arrived."""
        searched = max(0, len(self.buffer) - len(END_OF_HEAD) + 1)
        self.buffer += data
        if self._body_at is None and (end := self.buffer.find(END_OF_HEAD, searched)) >= 0:
            self._read_head(end)

    def continue_was_sent(self) -> None:
        """The sender was told to go on."""
        self._is_expecting = False

    @property
    def is_quick(self) -> bool:
        """Whether it is whole and writes a few records, so that others may be served in the same thread.

        What is compressed or comes in chunks may be anything; and as many answers as `MOST_OBJECTS` records may get
        go into a socket without waiting for whoever should read them.
        """
        if self._body_at is None or self._chunks is not None or len(self.buffer) > SMALL or self.state != "whole":
            return False
        is_post = self.buffer.startswith(b"POST ") and not self.buffer.startswith(GZIP_MAGIC, self._body_at)
        return is_post and self.buffer.count(b"{") <= MOST_OBJECTS

    @property
    def deadline(self) -> float:
        """When all of it must have arrived, in seconds: those who send much, and go on sending, have longer."""
        return self.started_at + self._patience + len(self.buffer) / SLOWEST

    @property
    def state(self) -> State:
        """What is to be done with it."""
        if self._body_at is None:
            return "too_large" if len(self.buffer) > MOST_HEAD_BYTES else "partial"
        arrived = len(self.buffer) - self._body_at
        state = self._chunks.follow(self.buffer) if self._chunks else _state_of(arrived, self._body_bytes)
        if state != "partial":
            return state
        if max(arrived, self._body_bytes) > self._most_bytes:
            return "too_large"
        return "expects" if self._is_expecting else "partial"

    def _read_head(self, end: int) -> None:
        head = bytes(self.buffer[: end + 2])
        length = LENGTH.search(head)
        self._body_at = end + len(END_OF_HEAD)
        self._body_bytes = int(length[1]) if length else 0
        self._chunks = _Chunks(self._body_at) if _CHUNKED.search(head) else None
        self._is_expecting = _EXPECTS.search(head) is not None


def _state_of(arrived: int, announced: int) -> State:
    return "whole" if arrived >= announced else "partial"


class _Chunks:
    """Follows chunks (RFC 9112, section 7.1) to the end of the last one, each byte once."""

    def __init__(self, start: int) -> None:
        self._at = start
        self._is_last = False

    def follow(self, buffer: bytearray) -> State:
        """Go on as far as the bytes reach; what are no chunks is broken."""
        while (end := buffer.find(b"\r\n", self._at, self._at + _LONGEST_LINE)) >= 0:
            if self._is_last:
                if end == self._at:
                    return "whole"
                self._at = end + 2  # a trailer
                continue
            size = _CHUNK_SIZE.fullmatch(buffer, self._at, end)
            if size is None:
                return "broken"
            after = end + 2 + int(size[1], 16)
            if int(size[1], 16) == 0:
                self._is_last, self._at = True, end + 2
            elif len(buffer) < after + 2:
                return "partial"
            elif buffer[after : after + 2] != b"\r\n":
                return "broken"
            else:
                self._at = after + 2
        return "broken" if len(buffer) > self._at + _LONGEST_LINE else "partial"
