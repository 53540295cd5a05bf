"""A small shop: browse, log in, buy, log out. Two lines make it tracked; the rest says what only the shop knows.

Run it with: gunicorn --chdir examples/shop app:app, with ANALYTICS_URL and ANALYTICS_WRITE_KEY set.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import flask

import analytics_sdk

PRODUCTS = {1: ("Teapot", Decimal("24.90")), 2: ("Cup", Decimal("7.50")), 3: ("Oolong, 100 g", Decimal("11.00"))}

app = flask.Flask(__name__)
app.secret_key = "a shop of your own has a secret one"


def logged_in_user(environ: dict[str, Any]) -> int | None:
    """Who is logged in, from Flask's signed cookie."""
    session = app.session_interface.open_session(app, app.request_class(environ))
    return session.get("user_id") if session else None


analytics_sdk.init()  # ANALYTICS_URL, ANALYTICS_WRITE_KEY
app.wsgi_app = analytics_sdk.wsgi.AnalyticsMiddleware(app.wsgi_app, identify=logged_in_user)


@app.get("/")
def browse() -> str:
    """Everything there is."""
    return flask.render_template("browse.html", products=PRODUCTS)


@app.get("/products/<int:number>")
def product(number: int) -> str:
    """One product."""
    if number not in PRODUCTS:
        flask.abort(404)
    return flask.render_template("product.html", number=number, product=PRODUCTS[number])


@app.post("/products/<int:number>/buy")
def buy(number: int) -> Any:
    """Buy one; the event inherits session, user and address from the request."""
    name, price = PRODUCTS[number]
    analytics_sdk.track("purchase", {"product": name, "amount": price, "currency": "EUR"})
    return flask.redirect(flask.url_for("browse"))


@app.get("/login")
def login_form() -> str:
    """Who are you?"""
    return flask.render_template("login.html")


@app.post("/login")
def login() -> Any:
    """Log in; what was done in this session before belongs to the user from now on."""
    user_id = int(flask.request.form["user_id"])
    flask.session["user_id"] = user_id
    analytics_sdk.identify(user_id)
    analytics_sdk.track("login")
    return flask.redirect(flask.url_for("browse"))


@app.post("/logout")
def logout() -> Any:
    """Log out."""
    analytics_sdk.track("logout")
    flask.session.clear()
    return flask.redirect(flask.url_for("browse"))
