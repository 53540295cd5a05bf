"""Cut `{"name": [record, ...], ...}` into its records without judging what is inside one.

A decoder gives up at the first NaN or at the thousandth bracket, and with it would go every record of the
request. Brackets and quotes alone tell where a record ends, whatever nonsense it holds.
"""

from __future__ import annotations

import re
from typing import Final

import attrs
import msgspec

from ..exceptions import TooLargeError

_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|["\[\]{},:]', re.DOTALL)
_ARRAYS: Final = 1  # depth of the names
_RECORDS: Final = 2  # depth of the records in an array


@attrs.frozen
class Pieces:
    """A body cut apart.

    Attributes:
        frame: The body with its arrays empty: what has to be JSON, whatever the records are.
        arrays: The records of each array, by its name.
    """

    frame: bytes
    arrays: dict[str, list[bytes]]


def split(body: bytes, most: int) -> Pieces | None:
    """Cut a body apart, or return None if brackets and quotes do not match up.

    Args:
        body: The JSON text.
        most: Records that it may have.

    Raises:
        TooLargeError: It has more; the rest was not looked at.
    """
    cutter = _Cutter(body)
    for token in _TOKEN.finditer(body):
        if not cutter.take(token.group(), token.start()):
            return None
        if cutter.records > most:
            raise too_many(most)
    return cutter.pieces() if cutter.finished else None


def too_many(most: int) -> TooLargeError:
    """What is said of a body with more records than it may have."""
    return TooLargeError("The body has too many records", f"send at most {most} at a time")


class _Cutter:
    """Follows brackets, and cuts at the commas between records."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._arrays: dict[str, list[bytes]] = {}
        self._open = bytearray()  # a byte each: a body can be nothing but brackets
        self._name: str | None = None
        self._record_from = 0
        self._frame: list[bytes] = []
        self._frame_from = 0
        self.records = 0
        self.finished = False

    def pieces(self) -> Pieces:
        """All of it, once it is finished."""
        return Pieces(b"".join([*self._frame, self._body[self._frame_from :]]), self._arrays)

    def take(self, mark: bytes, at: int) -> bool:
        """Take the next token; False if the text cannot be followed any further."""
        if self.finished or mark == b'"':
            return False
        if mark in (b"[", b"{"):
            return self._enter(mark, at)
        if mark in (b"]", b"}"):
            return self._leave(mark, at)
        if mark == b"," and self._is_between_records:
            return self._cut(at)
        if len(self._open) == _ARRAYS and mark.startswith(b'"'):
            self._name = _read(mark)
        return bool(self._open)

    @property
    def _is_between_records(self) -> bool:
        """Whether the next comma is one; what is no array in the place of one is not cut, and judged with the frame."""
        return len(self._open) == _RECORDS and self._open.endswith(b"[")

    def _enter(self, mark: bytes, at: int) -> bool:
        self._open += mark
        if self._is_between_records:
            self._record_from = at + 1
            self._frame.append(self._body[self._frame_from : at + 1])
            if self._name is None or self._name in self._arrays:
                return False
            self._arrays[self._name] = []
        return self._open.startswith(b"{")

    def _leave(self, mark: bytes, at: int) -> bool:
        if bytes(self._open[-1:]) + mark not in (b"[]", b"{}"):
            return False
        if self._is_between_records:
            self._frame_from = at
            if self._body[self._record_from : at].strip():
                self._cut(at)
        self._open.pop()
        self.finished = not self._open
        return True

    def _cut(self, at: int) -> bool:
        assert self._name is not None  # _enter refused an array without one
        self._arrays[self._name].append(self._body[self._record_from : at].strip())
        self._record_from = at + 1
        self.records += 1
        return True


def _read(name: bytes) -> str:
    """A name, however it is written; what is none is refused with the frame."""
    try:
        return msgspec.json.decode(name, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return name.decode(errors="replace")
