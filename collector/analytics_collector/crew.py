"""Serves small requests, as many as are there in one thread.

A thread for each of them would hand the interpreter over a dozen times before eight stand in line for the same COMMIT.
Here one thread takes all that have arrived, lets each come as far as its commit (`together`), and answers them one
after the other when it is done; what arrives meanwhile is its next batch. A second thread would only split the batches.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Generic, TypeVar

from . import together

_MOST: Final = 64  # requests at a time: a thousand of them would wait for each other

_T = TypeVar("_T")


class Crew(Generic[_T]):
    """The thread that does so; it comes and goes.

    Args:
        submit: Runs a function in a thread.
        serve: Serves one request, and tells whether its connection stays; raises nothing.
        finish: Is told of those that were served, in their thread.
    """

    def __init__(
        self,
        submit: Callable[[Callable[[], None]], object],
        serve: Callable[[_T], bool],
        finish: Callable[[Sequence[tuple[_T, bool]]], None],
    ) -> None:
        self._submit = submit
        self._serve = serve
        self._finish = finish
        self._lock = threading.Lock()
        self._ready: deque[_T] = deque()
        self._is_at_work = False

    def add(self, request: _T) -> None:
        """Have a request served; `call` lets it begin."""
        self._ready.append(request)

    def call(self) -> None:
        """Send the thread to work, if there is something to do and it is not at it."""
        with self._lock:
            is_wanted = bool(self._ready) and not self._is_at_work
            self._is_at_work |= is_wanted
        if is_wanted:
            self._submit(self._work)

    def _work(self) -> None:
        while requests := self._next():
            stays = together.serve([partial(self._serve, request) for request in requests])
            self._finish(list(zip(requests, stays, strict=True)))

    def _next(self) -> list[_T]:
        """All that are ready; without any the thread goes, and whoever comes after that is seen by `call`."""
        with self._lock:
            requests = [self._ready.popleft() for _ in range(min(len(self._ready), _MOST))]
            self._is_at_work = bool(requests)
        return requests
