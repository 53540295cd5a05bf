"""Looks at what a client would meet here: settings, network, collector, spool, process.

`_settings_diagnosis`, `_diagnosis` and `_spool_diagnosis` judge what it finds. Nothing is stored in the collector,
nothing left in the spool.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import socket
import ssl
import sys
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from importlib import metadata, util
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from . import _diagnosis, _file_system, _settings_diagnosis, _spool_diagnosis
from ._config import Config
from ._diagnosis import Answer, Reply, Trouble, TroubleKind
from ._finding import Finding, cleaned
from ._segment import FORMAT, SUFFIX, count_records
from ._settings_diagnosis import Settings
from ._spool import bytes_of, ending_for
from ._spool_diagnosis import SegmentCount, SpoolFacts
from ._transport import new_http_client, new_http_transport, proxy_for

_PATIENCE: Final = 5.0  # seconds for each step of a request, at most
_EMPTY_BATCH: Final = b'{"sessions":[],"users":[],"events":[]}'
_NO_KEY: Final = "none"  # to hear a collector's no

_GREEN: Final = (  # who replaces threads, and how to ask
    ("gevent", "gevent.monkey", "is_module_patched", "threading"),
    ("eventlet", "eventlet.patcher", "is_monkey_patched", "thread"),
)
_WATCHERS: Final = {"opentelemetry-api": "OpenTelemetry", "sentry-sdk": "Sentry"}


def examine(options: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> list[Finding]:
    """Look at everything.

    Args:
        options: Settings, as the arguments of `Client`; None counts as not given.
        environ: The environment; that of this process if left out.
    """
    environ = os.environ if environ is None else environ
    settings = _settings_diagnosis.judge_settings(options, environ)
    findings = [*settings.findings, *_examine_collector(settings), *_examine_spool(settings), *_examine_process()]
    secret = [str(options.get("write_key") or ""), environ.get("ANALYTICS_WRITE_KEY", "")]
    return [cleaned(finding, secret) for finding in findings]


# The collector


def _examine_collector(settings: Settings) -> Iterator[Finding]:
    url, key = settings.text("url").rstrip("/"), settings.text("write_key")
    if not url:
        yield Finding("skip", "collector", "there is no url to go to")
        return
    name = list(_examine_name(url))
    yield from name
    if any(finding.status == "fail" for finding in name):
        return
    with contextlib.closing(_Line(url, key or _NO_KEY, settings.config)) as line:
        health = line.ask("GET", "/healthz")
        yield _diagnosis.judge_connection(url, health)
        if isinstance(health, Answer):
            yield from _examine_answers(line, health, has_key=bool(key))


def _examine_name(url: str) -> Iterator[Finding]:
    if proxy := proxy_for(url):
        yield _diagnosis.judge_proxy(proxy)
        return
    parts = urlsplit(url)
    host = parts.hostname or ""
    addresses, error = _resolve(host, parts.port or (443 if parts.scheme == "https" else 80))
    if addresses != [host]:
        yield _diagnosis.judge_name(host, addresses, error)
    yield from _diagnosis.judge_encryption(url, addresses)


def _resolve(host: str, port: int) -> tuple[list[str], str]:
    """The addresses of a host, or why there are none."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return [], str(error)
    return list(dict.fromkeys(str(address[0]) for *_, address in found)), ""


def _examine_answers(line: _Line, health: Answer, *, has_key: bool) -> Iterator[Finding]:
    ingest = line.ask("POST", "/v1/events", _EMPTY_BATCH)
    collector = _diagnosis.judge_collector(health, ingest)
    yield collector
    if collector.status == "fail":
        return
    yield _diagnosis.judge_readiness(line.ask("GET", "/readyz"))
    if has_key:
        yield _diagnosis.judge_key(ingest, line.ask("GET", "/v1/profiles?user_id=0"))
    else:
        yield Finding("skip", "write key", "there is none to try")
    near = line.ask("GET", "/healthz")
    if isinstance(near, Answer):
        yield _diagnosis.judge_clock(_clock_ahead(near))
        yield _diagnosis.judge_round_trip(near.seconds)


def _clock_ahead(answer: Answer) -> float | None:
    try:
        date = parsedate_to_datetime(answer.headers["date"]).timestamp()
    except (KeyError, ValueError):
        return None
    return _diagnosis.clock_ahead(date, answer.asked_at, answer.seconds)


class _Line:
    """Goes to the collector by the way that the events go.

    Args:
        url: Where it is.
        key: Goes into the Authorization header.
        config: Has the time-outs.
    """

    def __init__(self, url: str, key: str, config: Config) -> None:
        self._url = url
        self._http = new_http_client(key, new_http_transport(url), timeout=min(_PATIENCE, config.read_timeout))
        self.close = self._http.close

    def ask(self, method: str, path: str, body: bytes | None = None) -> Reply:
        """Send one request; whatever goes wrong is a reply, too."""
        asked_at, began = time.time(), time.perf_counter()
        try:
            answer = self._http.request(method, self._url + path, content=body)
        except Exception as error:  # noqa: BLE001  # of httpx, of the network, of what the environment says of proxies
            return _trouble(error)
        return Answer(
            status=answer.status_code,
            headers={name.lower(): value for name, value in answer.headers.items()},
            content=answer.content,
            asked_at=asked_at,
            seconds=time.perf_counter() - began,
        )


def _trouble(error: BaseException) -> Trouble:
    """Name the trouble by what is at the bottom of an exception."""
    chain = [error]
    while (below := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(below)
    told = f"{type(error).__name__}: {error}".removesuffix(": ")
    if type(error).__name__ in _BY_NAME:
        return Trouble(_BY_NAME[type(error).__name__], told)
    return Trouble(next((kind for cause, kind in _BY_CAUSE if isinstance(chain[-1], cause)), "other"), told)


_BY_NAME: Final[Mapping[str, TroubleKind]] = {"ProxyError": "proxy", "RemoteProtocolError": "cut"}  # of httpx
_BY_CAUSE: Final[tuple[tuple[type[BaseException], TroubleKind], ...]] = (
    (socket.gaierror, "name"),
    (ConnectionRefusedError, "refused"),
    (ConnectionError, "cut"),
    (ssl.SSLCertVerificationError, "certificate"),
    (ssl.SSLError, "tls"),
    (TimeoutError, "timeout"),
)


# The spool


def _examine_spool(settings: Settings) -> list[Finding]:
    directory = settings.text("spool")
    if not directory:
        return [_spool_diagnosis.judge_no_spool()]
    facts = look_at_spool(Path(directory).absolute(), settings.text("url"))
    return _spool_diagnosis.judge_spool(facts, settings.config.max_spool_bytes)


def look_at_spool(directory: Path, url: str) -> SpoolFacts:
    """Try out what the spool does in its directory, and count what waits there.

    Args:
        directory: Absolute; made for the time of the look if it is missing.
        url: The collector that records would be for.
    """
    exists = directory.exists()
    try:
        with _made(directory):
            keeps_locks = _try_out(directory)
            disk = os.statvfs(directory)
            return SpoolFacts(
                directory=str(directory),
                exists=exists,
                keeps_locks=keeps_locks,
                file_system=_file_system.kind_of(directory),
                free_bytes=disk.f_bavail * disk.f_frsize,
                segments=_count_segments(directory, url),
            )
    except OSError as error:
        return SpoolFacts(directory=str(directory), exists=exists, error=error.strerror or str(error))


@contextlib.contextmanager
def _made(directory: Path) -> Iterator[None]:
    """Have a directory for a block; what had to be made for it is removed again."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # somebody else has begun to use it
            for path in missing:
                path.rmdir()


def _try_out(directory: Path) -> bool:
    """Write and lock a file as the spool does, and tell whether the lock keeps others out.

    Raises:
        OSError: It cannot be written or locked.
    """
    path = directory / f"doctor-{secrets.token_hex(8)}.tmp"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, FORMAT)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.fsync(fd)
        other = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            return not _can_lock(other)
        finally:
            os.close(other)
    finally:
        os.close(fd)
        path.unlink()


def _can_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _count_segments(directory: Path, url: str) -> SegmentCount:
    count = SegmentCount()
    for path in directory.glob(f"*{SUFFIX}"):
        try:
            count.used_bytes += bytes_of(path.stat())
            records = _records_of_the_dead(path)
        except OSError as error:
            count.unreadable += error.errno != errno.ENOENT  # delivered and removed meanwhile
            continue
        if records is None:
            count.living += 1
        elif path.name.endswith(ending_for(url)):
            count.waiting += records
        else:
            count.foreign += records
    return count


def _records_of_the_dead(path: Path) -> int | None:
    """How many records a segment has; None if its process is alive.

    Raises:
        OSError: It cannot be read.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if not _can_lock(fd):
            return None
        return count_records(fd)
    finally:
        os.close(fd)


# The process


def _examine_process() -> Iterator[Finding]:
    import multiprocessing

    yield _diagnosis.judge_forks(can_fork=hasattr(os, "fork"), start_method=multiprocessing.get_start_method())
    uwsgi = sys.modules.get("uwsgi")
    yield _diagnosis.judge_uwsgi(None if uwsgi is None else uwsgi.opt)
    yield _diagnosis.judge_green({name: _is_patched(*ask) for name, *ask in _GREEN if util.find_spec(name) is not None})
    python = ".".join(map(str, sys.version_info[:3]))
    packages = {name: _version(name) for name in ("analytics-sdk", "httpx", "msgspec")}
    yield _diagnosis.judge_versions({"Python": python, **packages})
    watchers = {name: _version(package) for package, name in _WATCHERS.items()}
    yield _diagnosis.judge_neighbours({name: version for name, version in watchers.items() if version})


def _is_patched(module: str, function: str, argument: str) -> bool:
    ask = getattr(sys.modules.get(module), function, None)
    return ask is not None and bool(ask(argument))


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
