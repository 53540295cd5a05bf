"""An application with the middleware, for the tests that serve it with gunicorn.

It does what a preloaded application may do: `init()` and a first event at import, before the server forks.
"""

from __future__ import annotations

import os

import flask

import analytics_sdk

analytics_sdk.init()  # ANALYTICS_URL, ANALYTICS_WRITE_KEY
analytics_sdk.track("loaded", {"pid": os.getpid()}, event_id=os.environ["LOADED_ID"])

app = flask.Flask(__name__)
app.wsgi_app = analytics_sdk.wsgi.AnalyticsMiddleware(app.wsgi_app)  # type: ignore[method-assign]


@app.get("/")
def page() -> str:
    """Track a click with the visitor's own id of it, and say which process did."""
    analytics_sdk.track("click", {"pid": os.getpid()}, event_id=flask.request.args["id"])
    return str(os.getpid())
