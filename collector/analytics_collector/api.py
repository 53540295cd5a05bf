"""The reads: profiles, sessions and events as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import flask
import msgspec
from werkzeug.routing import BaseConverter

from . import reader
from .collector import Collector
from .exceptions import MalformedError, NotFoundError
from .records import UserId
from .trace import path_of

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

blueprint = flask.Blueprint("api", __name__)

_MAX_PROFILES: Final = 100  # in one request
_PROFILES: Final = "/v1/profiles/"


class IdConverter(BaseConverter):
    """An id in a path: any text. Werkzeug's own converter for paths drops a slash at the start."""

    regex = "(?s:.+)"
    part_isolating = False


@blueprint.before_request
def check_key() -> None:
    """All of it wants a read key, but for the description."""
    if flask.request.endpoint != "api.get_openapi":
        Collector.current().doorkeeper.admit(flask.request.headers.get("Authorization"), "read")


class Lookup:
    """Looks up one profile.

    Args:
        collector: Where.
    """

    rule = f"{_PROFILES}<id:user_id>"

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def takes(self, environ: WSGIEnvironment) -> bool:
        """Whether a request asks for one."""
        path: str = environ.get("PATH_INFO", "")
        return environ["REQUEST_METHOD"] == "GET" and path.startswith(_PROFILES) and path != _PROFILES

    def answer(self, environ: WSGIEnvironment) -> bytes:
        """Find it."""
        self._collector.doorkeeper.admit(environ.get("HTTP_AUTHORIZATION"), "read")
        return self.find(path_of(environ)[len(_PROFILES) :])

    def find(self, user_id: str) -> bytes:
        """One profile, as JSON.

        Raises:
            NotFoundError: There is none.
        """
        asked = [_read("user_id", _user_id, user_id)]
        found = self._collector.database.autocommit(lambda connection: reader.profiles(connection, asked))
        if not found:
            raise NotFoundError(f"User {user_id} has not been seen")
        return msgspec.json.encode(found[0])


@blueprint.get(Lookup.rule)
def get_profile(user_id: str) -> flask.Response:
    """One profile, for whoever comes the long way."""
    return flask.Response(Lookup(Collector.current()).find(user_id), mimetype="application/json")


@blueprint.get("/v1/profiles")
def get_profiles() -> flask.Response:
    """Several profiles: `?user_id=1&user_id=2`."""
    _known_parameters({"user_id"})
    asked = [_read("user_id", _user_id, user_id) for user_id in flask.request.args.getlist("user_id")]
    if not 1 <= len(asked) <= _MAX_PROFILES:
        raise MalformedError(f"Ask for 1 to {_MAX_PROFILES} users", "as in ?user_id=1&user_id=2")
    found = Collector.current().database.autocommit(lambda connection: reader.profiles(connection, asked))
    return _json({"profiles": found})


@blueprint.get("/v1/sessions")
def get_sessions() -> flask.Response:
    """A page of sessions."""
    filters = _filters({"user_id": _user_id, "active": _boolean, "since": _time, "until": _time})
    limit, cursor = _paging()
    page = Collector.current().database.autocommit(
        lambda connection: reader.sessions(connection, filters, limit, cursor)
    )
    return _json({"sessions": page.rows, "next_cursor": page.next_cursor})


@blueprint.get("/v1/sessions/<id:session_id>")
def get_session(session_id: str) -> flask.Response:
    """One session."""
    filters = {"session_id": _read("session_id", _text, session_id)}
    page = Collector.current().database.autocommit(lambda connection: reader.sessions(connection, filters, 1, None))
    if not page.rows:
        raise NotFoundError(f"There is no session {session_id}")
    return _json(page.rows[0])


@blueprint.get("/v1/events")
def get_events() -> flask.Response:
    """A page of events."""
    filters = _filters({"user_id": _user_id, "session_id": _text, "event_type": _text, "since": _time, "until": _time})
    limit, cursor = _paging()
    page = Collector.current().database.autocommit(lambda connection: reader.events(connection, filters, limit, cursor))
    return _json({"events": page.rows, "next_cursor": page.next_cursor})


@blueprint.get("/openapi.json")
def get_openapi() -> flask.Response:
    """The description of all of it, for programs."""
    return flask.Response((files(__package__) / "openapi.json").read_bytes(), mimetype="application/json")


def _json(value: Any) -> flask.Response:
    return flask.Response(msgspec.json.encode(value), mimetype="application/json")


def _filters(readers: dict[str, Callable[[str], Any]]) -> dict[str, Any]:
    _known_parameters({*readers, "limit", "cursor"})
    given = flask.request.args
    return {name: _read(name, read, given[name]) for name, read in readers.items() if name in given}


def _read(name: str, read: Callable[[str], Any], text: str) -> Any:
    try:
        return read(text)
    except ValueError as error:
        raise MalformedError(f"The parameter {name} makes no sense", f"{text!r}: {error}") from None


def _known_parameters(known: Iterable[str]) -> None:
    strange = flask.request.args.keys() - set(known)
    if strange:
        raise MalformedError(f"There is no parameter {min(strange)}", f"there are: {', '.join(sorted(known))}")


def _paging() -> tuple[int, str | None]:
    limit = _read("limit", _page_size, flask.request.args.get("limit", str(reader.DEFAULT_PAGE)))
    return limit, flask.request.args.get("cursor")


def _page_size(text: str) -> int:
    # Four digits at most: int() refuses thousands of them with words that nobody needs to read.
    if not (text.isascii() and text.isdecimal() and len(text) <= 4 and 1 <= int(text) <= reader.MAX_PAGE):
        raise ValueError(f"it is 1 to {reader.MAX_PAGE} rows")
    return int(text)


def _user_id(text: str) -> UserId:
    """The id as text: "42" and 42 are the same user."""
    return _text(text)


def _text(text: str) -> str:
    if "\0" in text or not text:
        raise ValueError("it is a text that is not empty and holds no NUL character")
    return text


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("it is true or false")
    return text == "true"


def _time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("it is a time with its zone, as in 2026-01-31T12:00:00Z (write + as %2B)") from None
    if moment.tzinfo is None:
        raise ValueError("it lacks a time zone, as in 2026-01-31T12:00:00Z")
    return moment
