"""What counts as a page view, whose it is, and what is recorded of it: pure decisions about requests.

A page view is a person's browser asking for a document and getting one: not a prefetch, not a fragment, not a
script's call, not a redirect. The headers' meanings: Fetch Metadata (W3C), RFC 9110, and the pages of the
projects named beside them.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec

from ._event import checked_address

DEFAULT_EXCLUDE: Final = ("/static/*", "/favicon.ico", "/robots.txt", "/healthz", "/readyz", "/metrics")

_SESSION_ID: Final = re.compile(r"[-_0-9A-Za-z]{17}")
_HTML: Final = ("text/html", "application/xhtml+xml")


class Request(msgspec.Struct, frozen=True):
    """What is looked at of a request.

    Attributes:
        path: Decoded, with the prefix that the application is mounted at, without the query.
        header: Gives a header by its name in lower case, "" if it is missing.
        remote_address: The other end of the connection.
        is_https: Whether the connection is.
    """

    method: str
    path: str
    query: str
    header: Callable[[str], str]
    remote_address: str
    is_https: bool


def any_of(patterns: Iterable[str]) -> re.Pattern[str]:
    """One pattern that matches a whole path if one of these (shell style: `*` is anything) does."""
    return re.compile("|".join(map(fnmatch.translate, patterns)) or "(?!)")  # of none: nothing


def wants_page(request: Request) -> bool:
    """Whether a person's browser asks for a document here."""
    header = request.header
    if request.method != "GET" or _is_prefetch(header) or header("x-requested-with") == "XMLHttpRequest":
        return False
    if header("hx-request") == "true":  # htmx: a script that fetches fragments, but for boosted links a whole page
        return header("hx-boosted") == "true"
    destination = header("sec-fetch-dest")  # all engines since 2023
    if destination:
        return destination == "document"
    return "text/html" in header("accept")


def is_page(status: int, content_type: str) -> bool:
    """Whether an answer shows the person a document; an error page is one, too, and so is a cached one (304)."""
    if 300 <= status < 400:
        return status == 304
    return content_type.partition(";")[0].strip().lower() in _HTML


def may_carry_cookie(cache_control: Iterable[str]) -> bool:
    """Whether no shared cache may keep the answer (RFC 9111): a session cookie in it would be handed to strangers."""
    parts = [part.strip().lower() for value in cache_control for part in value.split(",")]
    directives = {part.partition("=")[0] for part in parts}
    if directives & {"public", "s-maxage"}:
        return False
    is_private = directives & {"private", "no-store", "no-cache"}
    return bool(is_private) or "max-age" not in directives or "max-age=0" in parts


def client_address(request: Request, trusted_proxies: int) -> str | None:
    """The address of the person.

    Args:
        request: Any.
        trusted_proxies: How many proxies of yours stand in front. Each appends the address it saw to
            X-Forwarded-For, so the value is so many places from the right; what is further left, anybody can claim.

    Returns:
        A valid address, or None.
    """
    claims = [part.strip() for part in request.header("x-forwarded-for").split(",") if part.strip()]
    if 0 < trusted_proxies <= len(claims):
        return _valid_address(claims[-trusted_proxies])
    return _valid_address(request.remote_address)


def is_secure(request: Request, trusted_proxies: int) -> bool:
    """Whether the person's browser speaks https, here or with the outermost trusted proxy."""
    if trusted_proxies and (claims := request.header("x-forwarded-proto")):
        return claims.split(",")[-min(trusted_proxies, claims.count(",") + 1)].strip().lower() == "https"
    return request.is_https


def session_from_cookie(cookies: str, name: str) -> str | None:
    """The session id in a Cookie header, if it is one of ours."""
    for part in cookies.split(";"):
        key, _, value = part.strip().partition("=")
        if key == name and _SESSION_ID.fullmatch(value):
            return value
    return None


def session_cookie(name: str, session_id: str, max_age: int, *, secure: bool) -> str:
    """A Set-Cookie header (RFC 6265bis).

    Args:
        name: The cookie's.
        session_id: Its value.
        max_age: Seconds that it lives; each answer begins them anew.
        secure: Whether it may travel over https only.
    """
    cookie = f"{name}={session_id}; Max-Age={max_age}; Path=/; HttpOnly; SameSite=Lax"
    return f"{cookie}; Secure" if secure else cookie


def page_view_data(request: Request, status: int, duration: float, *, capture_query: bool) -> Mapping[str, Any]:
    """What is recorded: of the query only `utm_...`, as the rest may hold what is nobody's business.

    Args:
        request: The request.
        status: The HTTP status of the answer.
        duration: Seconds from the request to the end of the answer.
        capture_query: True records the whole query, and that of the referrer.
    """
    data: dict[str, Any] = {"path": request.path, "status": status, "duration": round(duration, 6)}
    if capture_query and request.query:
        data["query"] = request.query
    if "utm_" in request.query:
        data.update((key, value) for key, value in parse_qsl(request.query) if key.startswith("utm_"))
    data.update(
        (key, value)
        for key, value in (
            ("referrer", referrer(request, capture_query=capture_query)),
            ("user_agent", request.header("user-agent")),
        )
        if value
    )
    return data


def referrer(request: Request, *, capture_query: bool) -> str:
    """Where the person came from, without the query unless that is wanted."""
    value = request.header("referer")
    return value if capture_query else value.partition("#")[0].partition("?")[0]


def _is_prefetch(header: Callable[[str], str]) -> bool:
    """Looked at before Sec-Fetch-Dest, as speculation rules say "document" there."""
    purpose = header("sec-purpose") or header("purpose") or header("x-purpose") or header("x-moz")
    return "prefetch" in purpose.lower() or "preview" in purpose.lower()


def _valid_address(text: str) -> str | None:
    """An address without the port and the brackets that some proxies add."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    return checked_address(text)
