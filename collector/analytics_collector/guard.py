"""Browsers at the door: the answers that make them let a page post (CORS). Which key a page may use, `auth` knows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from .auth import Doorkeeper
from .exceptions import UnavailableError
from .protocols import native
from .trace import Headers, note_route

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

logger = logging.getLogger("analytics_collector")

_MAX_AGE: Final = 600  # seconds that a browser remembers a preflight's answer
_MAY_POST: Final[Headers] = [
    ("Access-Control-Allow-Methods", "POST"),
    ("Access-Control-Allow-Headers", "authorization, content-type, content-encoding"),
    ("Access-Control-Max-Age", str(_MAX_AGE)),
]


class Guard:
    """A WSGI application before another one, which lets pages post that are on the list of a browser key.

    Args:
        app: The other.
        doorkeeper: Knows the lists.
    """

    def __init__(self, app: WSGIApplication, doorkeeper: Doorkeeper) -> None:
        self._app = app
        self._doorkeeper = doorkeeper

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Have a request answered (PEP 3333); what no page sends is passed on as it is."""
        origin = environ.get("HTTP_ORIGIN")
        method = environ["REQUEST_METHOD"].upper()
        if origin is None or method not in ("POST", "OPTIONS"):
            return self._app(environ, start_response)
        start = partial(self._start, start_response, origin)
        if method == "OPTIONS" and self._may_post(environ, origin):
            if native.is_path(environ.get("PATH_INFO", "")):
                note_route(environ, native.PATH)
            start("204 No Content", list(_MAY_POST))
            return []
        return self._app(environ, start)

    def _may_post(self, environ: WSGIEnvironment, origin: str) -> bool:
        """Whether a browser asks, without a key, for a page that is on a list."""
        return environ.get("HTTP_ACCESS_CONTROL_REQUEST_METHOD") == "POST" and self._is_welcome(origin)

    def _start(
        self, start_response: StartResponse, origin: str, status: str, headers: Headers, exc_info: Any = None
    ) -> Callable[[bytes], object]:
        """Let the page that posted read the answer, errors included."""
        headers.append(("Vary", "Origin"))
        if self._is_welcome(origin):
            headers += [("Access-Control-Allow-Origin", origin), ("Access-Control-Expose-Headers", "Retry-After")]
        return start_response(status, headers, exc_info)

    def _is_welcome(self, origin: str) -> bool:
        try:
            return origin in self._doorkeeper.origins()
        except UnavailableError:  # nothing is known of any key yet
            return False
        except Exception:  # of an answer that is known already, after COMMIT perhaps
            logger.exception("The pages of browser keys could not be read")
            return False
