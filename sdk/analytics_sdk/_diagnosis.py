"""What the doctor makes of what it found: pure decisions, facts in, findings out.

A finding is one line: how grave it is, what was looked at, how it is, and what to do about it.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import msgspec

from ._config import Config, make_config, variable
from ._process import has_uwsgi_threads
from .exceptions import ConfigError

Status = Literal["ok", "warn", "fail", "skip"]

MAX_CLOCK_AHEAD: Final = 600.0  # seconds; the collector sets aside what is further in its future (docs/wire-format.md)
_CLOCK_TOLERANCE: Final = 30.0  # seconds
_SLOW: Final = 0.5  # seconds for one round trip
_LEAST_FREE: Final = 16 * 1024 * 1024  # bytes

_OTHER_VARIABLES: Final = frozenset({"ANALYTICS_READ_KEY", "ANALYTICS_MAX_BODY_BYTES"})  # and no slips of the pen
_HIDDEN: Final = "***"


class Finding(msgspec.Struct, frozen=True):
    """One line of the doctor's report.

    Attributes:
        status: "fail" makes the exit code 1. "skip" could not be looked at, as something before it failed.
        check: What was looked at.
        what: How it is.
        advice: What to do about it; may be empty.
    """

    status: Status
    check: str
    what: str
    advice: str = ""


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


TroubleKind = Literal["name", "refused", "timeout", "certificate", "tls", "proxy", "other"]


class Trouble(msgspec.Struct, frozen=True):
    """Why there is no answer."""

    kind: TroubleKind
    text: str


Reply = Answer | Trouble


# Settings


class Settings(msgspec.Struct, frozen=True):
    """The settings as far as they are usable.

    Attributes:
        config: With what a client would have; defaults in the place of what is not usable.
        given: The names of those that were given and make sense.
        findings: What is to be said of them.
    """

    config: Config
    given: frozenset[str]
    findings: tuple[Finding, ...]

    def text(self, name: str) -> str:
        """A setting's value if it was given and makes sense, else the empty text."""
        return str(getattr(self.config, name)) if name in self.given else ""


def judge_settings(options: Mapping[str, Any], environ: Mapping[str, str]) -> Settings:
    """Read the settings as a client does, but each by itself, so that all that is wrong is said at once.

    Args:
        options: Arguments; None counts as not given.
        environ: The environment.
    """
    problems: list[Finding] = []
    good_options: dict[str, Any] = {}
    good_environ: dict[str, str] = {}
    for name in Config.__struct_fields__:
        option = {name: options[name]} if options.get(name) is not None else {}
        text = {variable(name): environ[variable(name)]} if environ.get(variable(name)) and not option else {}
        try:
            make_config(option, text, needs_collector=False)
        except ConfigError as error:
            problems.append(Finding("fail", "settings", str(error)))
        else:
            good_options |= option
            good_environ |= text
    config = make_config(good_options, good_environ, needs_collector=False)
    given = [name for name in Config.__struct_fields__ if name in good_options or variable(name) in good_environ]
    told = ", ".join(f"{name}={_told(name, getattr(config, name))}" for name in given)
    summary = [Finding("ok", "settings", told)] if told else []
    findings = (*summary, *problems, *_judge_required(options, environ), *_judge_rest(config, environ))
    return Settings(config, frozenset(given), findings)


def _told(name: str, value: Any) -> str:
    if name == "write_key":
        return "(given)"
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _judge_required(options: Mapping[str, Any], environ: Mapping[str, str]) -> Iterable[Finding]:
    for name, what in (("url", "where the collector is"), ("write_key", "a key of kind write")):
        if options.get(name) is None and not environ.get(variable(name)):
            advice = f"{what}: set {variable(name)}, or pass {name}=... to init() and --{name.replace('_', '-')} to me"
            yield Finding("fail", "settings", f"no {name} is given", advice)


def _judge_rest(config: Config, environ: Mapping[str, str]) -> Iterable[Finding]:
    for name in sorted(environ):
        if (meant := suspect(name)) is not None:
            yield Finding("warn", "settings", f"{name} is no setting", f"did you mean {meant}?")
    if not config.enabled:
        yield Finding("warn", "settings", "enabled is false: nothing is tracked", "set ANALYTICS_ENABLED=true")
    if config.strict:
        yield Finding("warn", "settings", "strict is true: track() raises", "that is for development only")
    if config.write_key[:1] == config.write_key[-1:] and config.write_key[:1] in ("'", '"'):
        yield Finding("warn", "settings", "the write key is in quotes", "take them away: as it is they belong to it")


def suspect(name: str) -> str | None:
    """The setting that a variable was probably meant to be; None if it is one, or nothing like one."""
    known = {variable(field) for field in Config.__struct_fields__}
    if name in known | _OTHER_VARIABLES or not name.upper().startswith("ANALYTIC"):
        return None
    return next(iter(difflib.get_close_matches(name.upper(), sorted(known), n=1, cutoff=0.9)), None)


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
        return Finding("ok", "connection", f"{url} answers, the first time after {_milliseconds(reply.seconds)}")
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
    advice = "is this the right host, port and path? the url goes without /v1/events"
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
    is_redirect = isinstance(reply, Answer) and reply.status in (301, 302, 303, 307, 308)
    return reply.headers.get("location", "") if is_redirect and isinstance(reply, Answer) else ""


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
        what = f"{_duration(ahead)} ahead of the collector's: all events are set aside as clock_ahead"
        return Finding("fail", "clock", what, "set this machine's clock, or the collector's")
    if abs(ahead) > _CLOCK_TOLERANCE:
        what = f"{_duration(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} the collector's: created_at is wrong"
        return Finding("warn", "clock", what, "set this machine's clock, or the collector's")
    return Finding("ok", "clock", f"within {max(1, round(abs(ahead)))} s of the collector's")


def judge_round_trip(seconds: float) -> Finding:
    """Whether the collector is near enough for the end of a process.

    Args:
        seconds: That a small request takes over an open connection.
    """
    if seconds > _SLOW:
        advice = "give exit_timeout a few round trips, or use a spool"
        return Finding("warn", "round trip", _milliseconds(seconds), advice)
    return Finding("ok", "round trip", _milliseconds(seconds))


# The spool


class SegmentCount(msgspec.Struct):
    """What is in a spool.

    Attributes:
        used_bytes: Of all segments.
        waiting: Records of processes that have ended, for this collector.
        foreign: The same, for other collectors.
        unreadable: Segments that this user may not read.
        living: Segments of living processes.
    """

    used_bytes: int = 0
    waiting: int = 0
    foreign: int = 0
    unreadable: int = 0
    living: int = 0


class SpoolFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in and around the spool's directory.

    Attributes:
        directory: Absolute.
        exists: Whether it was there already.
        error: Why it cannot be used; empty if it can.
        keeps_locks: Whether a lock of one process keeps others out.
        file_system: Its kind, as the kernel calls it; empty if that is not known.
        free_bytes: What the file system has left.
        segments: What is in it.
    """

    directory: str
    exists: bool = True
    error: str = ""
    keeps_locks: bool = True
    file_system: str = ""
    free_bytes: int = 0
    segments: SegmentCount = msgspec.field(default_factory=SegmentCount)


def judge_no_spool() -> Finding:
    """What it means to have none."""
    return Finding(
        "ok", "spool", "none: what waits in memory ends with the process", "ANALYTICS_SPOOL names a directory"
    )


def judge_spool(facts: SpoolFacts, max_spool_bytes: int) -> list[Finding]:
    """Whether the spool does what it is for.

    Args:
        facts: What was found.
        max_spool_bytes: The setting.
    """
    if facts.error:
        advice = "every user whose processes track must be able to write there"
        return [Finding("fail", "spool", f"{facts.directory} cannot be used: {facts.error}", advice)]
    if not facts.keeps_locks:
        advice = "use a directory on a local disk, or events are sent by several processes at once"
        return [Finding("fail", "spool", f"{facts.directory} keeps no locks", advice)]
    state = "writable, and locks hold" if facts.exists else "will be made, and locks hold there"
    return [
        Finding("ok", "spool", f"{facts.directory}: {state}"),
        *_judge_file_system(facts.file_system),
        _judge_room(facts.free_bytes, facts.segments.used_bytes, max_spool_bytes),
        *_judge_segments(facts.segments),
    ]


_NETWORK: Final = re.compile(r"nfs4?|cifs|smb[23]?|smbfs|9p|afs|ceph|glusterfs|lustre|gpfs|beegfs|ocfs2|fuse\..+")
_VOLATILE: Final = frozenset({"tmpfs", "ramfs", "rootfs"})


def _judge_file_system(kind: str) -> list[Finding]:
    if kind in _VOLATILE:
        return [Finding("warn", "spool", f"is on {kind}, in memory: a reboot empties it", "use a directory on a disk")]
    if kind == "overlay":
        advice = "mount a volume for it"
        return [Finding("warn", "spool", "is in the container's own layer, and goes with the container", advice)]
    if _NETWORK.fullmatch(kind):
        what = f"is on {kind}: each track() waits for it, and locks of other machines may not hold"
        return [Finding("warn", "spool", what, "use a directory on a local disk")]
    return []


def _judge_room(free: int, used: int, most: int) -> Finding:
    if free < _LEAST_FREE:
        advice = "make room; until then events stay in memory"
        return Finding("fail", "spool room", f"{_size(free)} left on the disk", advice)
    if used >= most:
        advice = "let it be delivered, or raise max_spool_bytes; until then events stay in memory"
        return Finding("fail", "spool room", f"{_size(used)} used of max_spool_bytes={_size(most)}", advice)
    if free + used < most:
        what = f"{_size(free)} left on the disk, which is less than max_spool_bytes={_size(most)}"
        return Finding("warn", "spool room", what, "lower max_spool_bytes, or make room")
    return Finding("ok", "spool room", f"{_size(used)} used of {_size(most)}, {_size(free)} left on the disk")


def _judge_segments(segments: SegmentCount) -> Iterable[Finding]:
    if segments.living:
        yield Finding("ok", "spool", f"{_count(segments.living, 'segment')} of living processes")
    if segments.waiting:
        what = f"{_count(segments.waiting, 'record')} of processes that have ended, not sent yet"
        yield Finding("ok", "spool", what, "the next process that tracks sends them")
    if segments.foreign:
        what = f"{_count(segments.foreign, 'record')} for a collector at another url"
        yield Finding("warn", "spool", what, "a process with that url and this spool sends them")
    if segments.unreadable:
        what = f"{_count(segments.unreadable, 'segment')} that this user cannot read"
        yield Finding("warn", "spool", what, "a process of the user who owns them sends them")


def file_system_of(path: str, mountinfo: str) -> str:
    """The kind of file system that a path is on, or "" if that does not tell.

    Args:
        path: Absolute and without symbolic links.
        mountinfo: As in /proc/self/mountinfo (proc(5)).
    """
    best, kind = -1, ""
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        if len(fields.split()) < 5 or not rest:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), fields.split()[4])
        is_above = path == point or path.startswith(point.rstrip("/") + "/")
        if is_above and len(point) >= best:  # of several on the same point, the last one shows
            best, kind = len(point), rest.split()[0]
    return kind


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


# Text


def report(findings: Sequence[Finding]) -> str:
    """Findings for people to read: a line for each, and the sum of it."""
    width = max((len(finding.check) for finding in findings), default=0)
    lines = [f"{finding.status:<4}  {finding.check:<{width}}  {_sentence(finding)}" for finding in findings]
    count = Counter(finding.status for finding in findings)
    told = [f"{count['ok']} ok", *(f"{count[status]} {status}" for status in ("warn", "fail", "skip") if count[status])]
    return "\n".join([*lines, "", ", ".join(told), ""])


def _sentence(finding: Finding) -> str:
    return f"{finding.what}  ({finding.advice})" if finding.advice else finding.what


def cleaned(finding: Finding, secrets: Iterable[str]) -> Finding:
    """A finding that can be shown: on one line, without keys, passwords and control characters.

    Args:
        finding: Its texts may hold what a server said.
        secrets: What must not be in it.
    """
    return Finding(finding.status, finding.check, _clean(finding.what, secrets), _clean(finding.advice, secrets))


def _clean(text: str, secrets: Iterable[str]) -> str:
    for secret in filter(None, secrets):
        # Of a short one only whole words: the key "a" is in most sentences.
        pattern = re.escape(secret) if len(secret) >= 8 else rf"(?<!\w){re.escape(secret)}(?!\w)"
        text = re.sub(pattern, _HIDDEN, text)
    text = re.sub(r"//[^/\s]*@", f"//{_HIDDEN}@", text)
    text = "".join(character if character.isprintable() else " " for character in text)
    return text if len(text) <= 300 else f"{text[:297]}..."


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"


def _size(count: int) -> str:
    for unit, length in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= length:
            return f"{count / length:.1f} {unit}"
    return f"{count} bytes"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
