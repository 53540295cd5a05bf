"""Cut `{"name": [record, ...], ...}` into its records without judging what is inside one.

A decoder gives up at the first NaN or at the thousandth bracket, and with it would go every record of the
request. Brackets and quotes alone tell where a record ends, whatever nonsense it holds.
"""

from __future__ import annotations

import re
from typing import Final

_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|["\[\]{},:]', re.DOTALL)
_ARRAYS: Final = 1  # depth of the names
_RECORDS: Final = 2  # depth of the records in an array


def split(body: bytes) -> dict[str, list[bytes]] | None:
    """The arrays of records by name, or None if brackets and quotes do not match up."""
    cutter = _Cutter(body)
    for token in _TOKEN.finditer(body):
        if not cutter.take(token.group(), token.start()):
            return None
    return cutter.arrays if cutter.finished else None


class _Cutter:
    """Follows brackets, and cuts at the commas between records."""

    def __init__(self, body: bytes) -> None:
        self.arrays: dict[str, list[bytes]] = {}
        self._body = body
        self._open: list[bytes] = []
        self._name: str | None = None
        self._record_from = 0
        self.finished = False

    def take(self, mark: bytes, at: int) -> bool:
        """Take the next token; False if the text cannot be followed any further."""
        if self.finished or mark == b'"':
            return False
        if mark in (b"[", b"{"):
            return self._enter(mark, at)
        if mark in (b"]", b"}"):
            return self._leave(mark, at)
        if mark == b"," and len(self._open) == _RECORDS:
            return self._cut(at)
        if len(self._open) == _ARRAYS and mark.startswith(b'"'):
            self._name = mark[1:-1].decode(errors="replace")
        return bool(self._open)

    def _enter(self, mark: bytes, at: int) -> bool:
        self._open.append(mark)
        depth = len(self._open)
        if depth == _RECORDS:
            self._record_from = at + 1
            if self._name is None or self._name in self.arrays:
                return False
            self.arrays[self._name] = []
        return depth > _RECORDS or mark == (b"{" if depth == _ARRAYS else b"[")

    def _leave(self, mark: bytes, at: int) -> bool:
        if not self._open or self._open[-1] + mark not in (b"[]", b"{}"):
            return False
        if len(self._open) == _RECORDS and self._body[self._record_from : at].strip():
            self._cut(at)
        self._open.pop()
        self.finished = not self._open
        return True

    def _cut(self, at: int) -> bool:
        assert self._name is not None  # _enter refused an array without one
        self.arrays[self._name].append(self._body[self._record_from : at].strip())
        self._record_from = at + 1
        return True
