"""What the doctor makes of the way to a running collector: pure decisions, answers in, findings out."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import attrs
import msgspec

from .finding import Finding, size

_LOCAL_NAMES: Final = ("localhost", "")


@attrs.frozen
class Answer:
    """What came back.

    Attributes:
        headers: Their names in lower case.
        error: Why nothing came back; empty if something did.
    """

    status: int = 0
    headers: Mapping[str, str] = {}
    body: bytes = b""
    error: str = ""

    @property
    def code(self) -> str:
        """The word that our errors have; empty if it is none of ours."""
        return str(self._object.get("code", ""))

    @property
    def message(self) -> str:
        """The sentence that our errors have; empty if it is none of ours."""
        return str(self._object.get("message", ""))

    @property
    def _object(self) -> dict[str, Any]:
        try:
            return msgspec.json.decode(self.body, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return {}


def judge_collector(url: str, health: Answer) -> Finding:
    """Whether a collector answers there."""
    if health.error:
        return Finding("fail", "collector", f"{url}: {health.error}", "does it run? is the proxy's upstream right?")
    if health.status != 200 or b'"ok"' not in health.body:
        return Finding("fail", "collector", f"{url}/healthz answers {health.status}", "another server answers there")
    return Finding("ok", "collector", f"{url} answers")


def judge_readiness(ready: Answer) -> Finding:
    """Whether it can store."""
    if ready.status == 200:
        return Finding("ok", "readiness", "ready to store")
    if ready.code:
        return Finding("fail", "readiness", ready.message, "see the findings about the database")
    return Finding("warn", "readiness", f"/readyz answers {ready.status}", "does the proxy hide it on purpose?")


def judge_authorization(tried: Answer) -> Finding:
    """Whether keys arrive.

    Args:
        tried: To a request with a key that nobody has.
    """
    if tried.code != "unauthorized":
        return Finding("skip", "keys arrive", f"the request was answered {tried.status} {tried.code}")
    if tried.message.startswith("No key"):
        advice = "nginx passes it by itself; other proxies have to be told: no app can send anything like this"
        return Finding("fail", "keys arrive", "the proxy drops the header Authorization", advice)
    return Finding("ok", "keys arrive", "the header Authorization reaches the collector")


def judge_request_id(sent: str, tried: Answer) -> Finding:
    """Whether a request has the same id before and behind the proxy."""
    came = tried.headers.get("x-request-id", "")
    if came == sent:
        return Finding("ok", "request ids", "a sender's X-Request-ID is kept")
    advice = "good if the proxy logs the id that it sends: proxy_set_header X-Request-ID $request_id"
    return Finding("ok", "request ids", f"the proxy replaces X-Request-ID ({came or 'none came back'})", advice)


def judge_body(limit: int, tried: Answer) -> Finding:
    """Whether large batches pass.

    Args:
        limit: ANALYTICS_MAX_BODY_BYTES.
        tried: To a request of almost that size with a key that nobody has.
    """
    if tried.code == "unauthorized":
        return Finding("ok", "large bodies", f"{size(limit)} reach the collector")
    if tried.status == 413:
        return Finding("fail", "large bodies", f"the proxy refuses {size(limit)}", f"client_max_body_size {limit};")
    return Finding("skip", "large bodies", f"not to be told: {tried.error or tried.status}")


def judge_exposure(url: str, metrics: Answer) -> Iterator[Finding]:
    """What strangers could see; nothing if the collector is on this machine only."""
    if _is_local(url):
        return
    if urlsplit(url).scheme != "https":
        yield Finding("warn", "encryption", "keys and events cross the network in plain text", "use https")
    if metrics.status == 200:
        advice = "unset ANALYTICS_METRICS_OPEN, or let the proxy answer 404 for /metrics"
        yield Finding("warn", "figures", "/metrics is open to whoever reaches this address", advice)


def _is_local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in _LOCAL_NAMES
