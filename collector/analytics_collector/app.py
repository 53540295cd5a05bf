"""The Flask application: views, and every error as the same JSON."""

from __future__ import annotations

import logging

import flask
import msgspec
from werkzeug.exceptions import HTTPException

from . import api, guard, health, ingest, trace
from .collector import Collector
from .config import Settings
from .exceptions import CollectorError, RequestError

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
    Collector(settings).attach(app)
    trace.attach(app)
    app.before_request(_begin_housekeeping)
    for part in (ingest, api, health):
        app.register_blueprint(part.blueprint)
    guard.install(app)
    app.register_error_handler(RequestError, _answer_request_error)
    app.register_error_handler(HTTPException, _answer_http_error)
    app.register_error_handler(Exception, _answer_bug)
    return app


def _begin_housekeeping() -> None:
    """With the first request of a process, and so never before gunicorn has forked."""
    Collector.current().housekeeper.start()


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
