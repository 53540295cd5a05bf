"""The Flask application: views, and every error as the same JSON."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

import flask
import msgspec
from werkzeug.exceptions import HTTPException

from . import api, health, ingest
from .api import Lookup
from .collector import Collector
from .config import Settings
from .exceptions import CollectorError, RequestError
from .guard import Guard
from .ingest import Ingest
from .shortcut import Shortcut, raise_error
from .trace import Trace, note_route

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

logger = logging.getLogger("analytics_collector")


def create_app(settings: Settings | None = None) -> flask.Flask:
    """Make the application.

    Args:
        settings: Taken from the environment if left out.

    Raises:
        ConfigError: A setting is missing or makes no sense.
    """
    settings = (settings or Settings.from_env()).require_database()
    app = flask.Flask(__name__, static_folder=None)
    app.url_map.converters["id"] = api.IdConverter
    app.url_map.merge_slashes = False  # an id may start with one
    app.before_request(_begin)
    for part in (ingest, api, health):
        app.register_blueprint(part.blueprint)
    app.register_error_handler(RequestError, _answer_request_error)
    app.register_error_handler(HTTPException, _answer_http_error)
    app.register_error_handler(Exception, _answer_bug)
    _put_before(app, Collector(settings))
    return app


def _put_before(app: flask.Flask, collector: Collector) -> None:
    """Put what every request passes before Flask."""
    collector.attach(app)
    inner = Guard(Shortcut(app.wsgi_app, (Ingest(collector), Lookup(collector))), collector.doorkeeper)
    app.wsgi_app = Trace(_with_housekeeping(inner, collector), collector)  # type: ignore[method-assign]


def _with_housekeeping(app: WSGIApplication, collector: Collector) -> WSGIApplication:
    """Begin it with the first request of a process, and so never before gunicorn has forked."""

    def begin(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        collector.housekeeper.start()
        return app(environ, start_response)

    return begin


def _begin() -> None:
    """Do what every request needs before its view."""
    if flask.request.url_rule is not None:
        note_route(flask.request.environ, flask.request.url_rule.rule)
    raise_error(flask.request.environ)


def _answer_request_error(error: RequestError) -> flask.Response:
    response = _problem(error.status, error.code, error.message, error.detail)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    if error.status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="analytics-collector"'
    return response


def _answer_http_error(error: HTTPException) -> flask.Response:
    response = _problem(error.code or 500, error.name.lower().replace(" ", "_"), error.name, error.description or "")
    response.headers.extend([(name, value) for name, value in error.get_headers() if name == "Allow"])
    return response


def _answer_bug(error: Exception) -> flask.Response:
    """Whatever nobody thought of: the log has it all, the answer has nothing of it."""
    logger.error("Unexpected error", exc_info=error)
    detail = str(error) if isinstance(error, CollectorError) else "the collector's log has it"
    return _problem(500, "internal", "Something went wrong in the collector", detail)


def _problem(status: int, code: str, message: str, detail: str) -> flask.Response:
    """The one shape of an error; real clients look for `code`, `message` and `detail` by these names."""
    body = msgspec.json.encode({"code": code, "message": message, "detail": detail})
    return flask.Response(body, status=status, mimetype="application/json")
