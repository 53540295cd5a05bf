"""What the doctor makes of network, collector and process: pure decisions, facts in, findings out."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import msgspec

from ._finding import Finding, duration, milliseconds
from ._process import has_uwsgi_threads

MAX_CLOCK_AHEAD: Final = 600.0  # seconds; the collector sets aside what is further in its future (docs/wire-format.md)
_CLOCK_TOLERANCE: Final = 30.0  # seconds
_SLOW: Final = 0.5  # seconds for one round trip


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a server said.

    Attributes:
        headers: Their names in lower case.
        asked_at: Seconds since 1970, by our clock, when the request began.
        seconds: How long it took.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes
    asked_at: float
    seconds: float

    def as_object(self) -> dict[str, Any]:
        """The JSON object that it is; empty if it is none."""
        try:
            return msgspec.json.decode(self.content, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return {}


TroubleKind = Literal["name", "refused", "timeout", "certificate", "tls", "cut", "proxy", "other"]


class Trouble(msgspec.Struct, frozen=True):
    """Why there is no answer."""

    kind: TroubleKind
    text: str


Reply = Answer | Trouble


# The way to the collector


def judge_encryption(url: str, addresses: Iterable[str]) -> list[Finding]:
    """Whether the key goes over the open internet in plain text; one finding or none.

    Args:
        url: Where the collector is.
        addresses: What its name resolves to.
    """
    if urlsplit(url).scheme != "http" or not any(_is_public(address) for address in addresses):
        return []
    return [Finding("warn", "encryption", "key and events cross the internet in plain text", "use https")]


def _is_public(address: str) -> bool:
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_global
    except ValueError:
        return False


def judge_name(host: str, addresses: Sequence[str], error: str) -> Finding:
    """Whether the host's name means anything.

    Args:
        host: The name.
        addresses: What it resolves to.
        error: Why it does not.
    """
    if not addresses:
        advice = "is it spelled right? does DNS work here?"
        return Finding("fail", "host name", f"{host} cannot be resolved: {error}", advice)
    more = f" and {len(addresses) - 3} more" if len(addresses) > 3 else ""
    return Finding("ok", "host name", f"{host} is {', '.join(addresses[:3])}{more}")


def judge_proxy(proxy: str) -> Finding:
    """Tell of the proxy that the environment asks for.

    Args:
        proxy: Its address.
    """
    return Finding("ok", "proxy", f"requests go through {proxy}", "NO_PROXY names hosts that need none")


_TROUBLE_ADVICE: Final[Mapping[TroubleKind, str]] = {
    "name": "is the host spelled right? does DNS work here?",
    "refused": "is the collector running? are host and port right? in a container 127.0.0.1 is the container itself",
    "timeout": "is there a firewall in between? does the collector hang?",
    "certificate": "for a certificate authority of your own set SSL_CERT_FILE; does the host's name fit?",
    "tls": "is this an https port? then url begins with https://, else with http://",
    "cut": "is this an https port? then url begins with https://; or does something in between cut connections?",
    "proxy": "HTTP_PROXY, HTTPS_PROXY and ALL_PROXY name the proxy; NO_PROXY names hosts that need none",
    "other": "",
}


def judge_connection(url: str, reply: Reply) -> Finding:
    """Whether anybody is there.

    Args:
        url: Where the collector is said to be.
        reply: To any request.
    """
    if isinstance(reply, Answer):
        return Finding("ok", "connection", f"{url} answers, the first time after {milliseconds(reply.seconds)}")
    return Finding("fail", "connection", f"{url} does not answer: {reply.text}", _TROUBLE_ADVICE[reply.kind])


def judge_collector(health: Reply, ingest: Reply) -> Finding:
    """Whether it is a collector of ours that answers.

    Args:
        health: To GET /healthz.
        ingest: To POST /v1/events, with whatever key.
    """
    if speaks_our_language(ingest):
        if _is_healthy(health):
            return Finding("ok", "collector", "this is an analytics collector")
        return Finding("ok", "collector", "this is an analytics collector", "whatever stands before it hides /healthz")
    target = _redirect(ingest) or _redirect(health)
    if target:
        advice = "make that the url: a redirected batch is not sent again"
        return Finding("fail", "collector", f"redirects to {target}", advice)
    advice = "is this the right host, port and path?"
    return Finding("fail", "collector", f"this is no analytics collector: {_described(ingest)}", advice)


def speaks_our_language(reply: Reply) -> bool:
    """Whether this is how POST /v1/events answers, be it with yes or with no (docs/wire-format.md)."""
    if isinstance(reply, Trouble):
        return False
    answer = reply.as_object()
    if reply.status == 200:
        return answer.keys() >= {"accepted", "duplicates", "rejected"}
    return reply.status not in (404, 405) and answer.keys() >= {"code", "message", "detail"}


def _is_healthy(reply: Reply) -> bool:
    return isinstance(reply, Answer) and reply.status == 200 and reply.as_object().get("status") == "ok"


def _redirect(reply: Reply) -> str:
    if isinstance(reply, Answer) and reply.status in (301, 302, 303, 307, 308):
        return reply.headers.get("location", "")
    return ""


def _described(reply: Reply) -> str:
    if isinstance(reply, Trouble):
        return reply.text
    kind = reply.headers.get("content-type", "").partition(";")[0] or "no content type"
    return f"POST /v1/events is answered with HTTP {reply.status}, {kind}"


def judge_readiness(ready: Reply) -> Finding:
    """Whether the collector can store anything.

    Args:
        ready: To GET /readyz.
    """
    if _is_healthy(ready):
        return Finding("ok", "database", "the collector is ready to store")
    if isinstance(ready, Answer) and "code" in ready.as_object() and ready.status >= 500:
        advice = str(ready.as_object().get("detail", ""))
        return Finding("fail", "database", f"the collector cannot store now: {_message(ready)}", advice)
    return Finding("skip", "database", "whatever stands before the collector hides /readyz")


def judge_key(ingest: Reply, read: Reply) -> Finding:
    """Whether the write key is one.

    Args:
        ingest: To an empty batch with that key, which stores nothing.
        read: To a look at a profile with that key, which only a read or admin key may have.
    """
    if isinstance(ingest, Trouble):
        return Finding("fail", "write key", f"could not be tried: {ingest.text}", _TROUBLE_ADVICE[ingest.kind])
    if ingest.status == 200 and isinstance(read, Answer) and read.status == 200:
        advice = "give the app a key that can only write: analytics-collector keys create --kind write NAME"
        return Finding("warn", "write key", "valid, but it may do everything: it is an admin key", advice)
    if ingest.status == 200:
        return Finding("ok", "write key", "valid (tried with an empty batch: nothing was stored)")
    if ingest.status == 401:
        return _judge_refused_key(ingest, read)
    return Finding("warn", "write key", f"the collector cannot tell now: {_message(ingest)}", "try again later")


def _judge_refused_key(ingest: Answer, read: Reply) -> Finding:
    if isinstance(read, Answer) and read.status == 200:
        what = "this is a read key, which belongs into ANALYTICS_READ_KEY"
    else:
        what = f"refused: {_message(ingest)}"
    advice = "analytics-collector keys list shows the valid ones, keys create --kind write NAME makes one"
    return Finding("fail", "write key", what, advice)


def _message(answer: Answer) -> str:
    return str(answer.as_object().get("message") or f"HTTP {answer.status}")


def clock_ahead(date: float, asked_at: float, seconds: float) -> float:
    """How far our clock is ahead of a server's, in seconds; negative if it is behind.

    The least that fits: a Date header has whole seconds, and the server wrote it at some time during the request.

    Args:
        date: The server's Date header, in seconds since 1970.
        asked_at: When the request began, by our clock.
        seconds: How long it took.
    """
    least, most = asked_at - date - 1.0, asked_at + seconds - date
    return max(least, min(0.0, most))


def judge_clock(ahead: float | None) -> Finding:
    """Whether our clock can be trusted with `created_at`.

    Args:
        ahead: Seconds that it is ahead of the collector's; None if that does not tell.
    """
    if ahead is None:
        return Finding("skip", "clock", "the collector's answer has no Date header")
    if ahead > MAX_CLOCK_AHEAD:
        what = f"{duration(ahead)} ahead of the collector's: all events are set aside as clock_ahead"
        return Finding("fail", "clock", what, "set this machine's clock, or the collector's")
    if abs(ahead) > _CLOCK_TOLERANCE:
        what = f"{duration(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} the collector's: created_at is wrong"
        return Finding("warn", "clock", what, "set this machine's clock, or the collector's")
    return Finding("ok", "clock", f"within {max(1, round(abs(ahead)))} s of the collector's")


def judge_round_trip(seconds: float) -> Finding:
    """Whether the collector is near enough for the end of a process.

    Args:
        seconds: That a small request takes over an open connection.
    """
    if seconds > _SLOW:
        advice = "give exit_timeout a few round trips, or use a spool"
        return Finding("warn", "round trip", milliseconds(seconds), advice)
    return Finding("ok", "round trip", milliseconds(seconds))


# The process


def judge_forks(*, can_fork: bool, start_method: str) -> Finding:
    """Tell how this host makes processes.

    Args:
        can_fork: Whether the system has fork().
        start_method: That of multiprocessing.
    """
    fork = "fork is there, and safe" if can_fork else "no fork"
    return Finding("ok", "processes", f"{fork}; multiprocessing starts its own by {start_method}")


def judge_uwsgi(options: Mapping[str, Any] | None) -> Finding:
    """Whether uWSGI lets our thread run.

    Args:
        options: `uwsgi.opt`; None outside of uWSGI.
    """
    if options is None:
        return Finding("ok", "uWSGI", "not here", "inside of it, enable-threads = true is needed")
    if has_uwsgi_threads(options):
        return Finding("ok", "uWSGI", "threads are on")
    what = "threads are off: events are only sent by flush() and at the end of the process"
    return Finding("fail", "uWSGI", what, "set enable-threads = true")


def judge_green(is_patched: Mapping[str, bool]) -> Finding:
    """Tell of libraries that replace threads.

    Args:
        is_patched: Of those that are installed, whether they have replaced the threads of this process.
    """
    states = {True: "has patched this process", False: "is installed"}
    told = [f"{name} {states[patched]}" for name, patched in is_patched.items()]
    return Finding("ok", "green", ", ".join(told) or "neither gevent nor eventlet is installed")


def judge_versions(versions: Mapping[str, str]) -> Finding:
    """Tell the versions.

    Args:
        versions: Of names; "" for what is not installed as a package.
    """
    told = [f"{name} {version or '(not installed as a package)'}" for name, version in versions.items()]
    return Finding("ok", "versions", ", ".join(told))


def judge_neighbours(versions: Mapping[str, str]) -> Finding:
    """Tell of tools that watch the host's requests, among which ours are.

    Args:
        versions: Of those that are installed.
    """
    told = ", ".join(f"{name} {version}" for name, version in versions.items())
    return Finding("ok", "neighbours", told or "neither OpenTelemetry nor Sentry is installed")
