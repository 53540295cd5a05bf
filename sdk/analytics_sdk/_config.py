"""The SDK's settings: one value, from arguments first and the environment second.

Every attribute but the callables is also one variable, `ANALYTICS_` and its name in capitals.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from ._redaction import DEFAULT_REDACT
from .exceptions import ConfigError

_FLAGS: Final = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}

_WRITE_KEY: Final = re.compile(r"[!-~]([ -~]*[!-~])?")  # what an HTTP header can carry
_MOST: Final = 2**32  # seconds or bytes; what waits for longer overflows the clocks of Python
_SPOOL_MODES: Final = ("always", "overflow")


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """How a client works.

    Attributes:
        url: Where the collector is, for instance http://127.0.0.1:8000.
        write_key: A key of kind "write".
        enabled: False accepts nothing and sends nothing.
        strict: True makes `track()` raise what it otherwise only counts; for development.
        spool: A directory that keeps what was accepted when the process ends, however it ends; "" for none.
        spool_mode: "always" writes every record there before it is accepted; "overflow" only what memory has no
            room for, and what the end of the process leaves over.
        max_spool_bytes: Most bytes in that directory, of all processes that share it.
        spool_fsync: Seconds between two times that the disk itself is made to take what was written; 0 for never.
            Only a power cut or a crash of the operating system can lose what was not.
        flush_interval: Longest time, in seconds, that an event waits for company before it is sent.
        max_batch_events: Most records in one request.
        max_batch_bytes: Most bytes in one request, before gzip.
        max_event_bytes: Largest event, in bytes of JSON; the largest values of a larger one are cut.
        max_buffer_events: Most records in memory; further ones go to the spool or are not accepted.
        max_buffer_bytes: Most bytes of them.
        connect_timeout: Seconds to wait for a connection.
        read_timeout: Seconds to wait for each part of an answer; also for sending.
        retry_cap: Longest pause, in seconds, between two tries.
        exit_timeout: Seconds that the end of the process may take for sending what is left.
        handle_sigterm: True makes SIGTERM send what is left before the process ends, or does what it did before.
        sample_rate: The share of sessions that is tracked, from 0 to 1; a session is tracked as a whole or not at all.
        redact: Names of properties whose values are not to be kept, as shell patterns; any case, any depth.
        before_send: Called with each event before it is encoded; returns the event to be kept, or None for none.
        encoder: Called with a value that JSON has no form for; returns one that it has a form for.
        on_drop: Called with a reason and a number when records are lost or not accepted.
        on_reject: Called with an event that the collector will never store, and the reason.
    """

    url: str
    write_key: str
    enabled: bool = True
    strict: bool = False
    spool: str = ""
    spool_mode: str = "always"
    max_spool_bytes: int = 1024 * 1024 * 1024
    spool_fsync: float = 0.0
    flush_interval: float = 0.5
    max_batch_events: int = 2000
    max_batch_bytes: int = 1024 * 1024
    max_event_bytes: int = 256 * 1024
    max_buffer_events: int = 100_000
    max_buffer_bytes: int = 64 * 1024 * 1024
    connect_timeout: float = 3.0
    read_timeout: float = 10.0
    retry_cap: float = 30.0
    exit_timeout: float = 2.0
    handle_sigterm: bool = False
    sample_rate: float = 1.0
    redact: tuple[str, ...] = DEFAULT_REDACT
    before_send: Callable[[dict[str, Any]], dict[str, Any] | None] | None = None
    encoder: Callable[[Any], Any] | None = None
    on_drop: Callable[[str, int], object] | None = None
    on_reject: Callable[[dict[str, Any], str], object] | None = None

    def __repr__(self) -> str:
        """As usual, but without the key: a configuration may land in a log or a traceback."""
        shown = (f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__ if name != "write_key")
        return f"Config({', '.join(shown)})"

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            check = _CHECKS.get(name) or _CHECK_OF_KIND[type(DEFAULTS[name])]
            check(name, value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_positive(name: str, value: Any) -> None:
    if not _is_number(value) or not 0 < value <= _MOST:
        raise ConfigError(f"{name} is a number above zero and at most {_MOST}, not {value!r}")


def _check_fsync(name: str, value: Any) -> None:
    if not _is_number(value) or not 0 <= value <= _MOST:
        raise ConfigError(f"{name} is a number of seconds, or 0 for never, not {value!r}")


def _check_share(name: str, value: Any) -> None:
    if not _is_number(value) or not 0 <= value <= 1:
        raise ConfigError(f"{name} is a number from 0 to 1, not {value!r}")


def _check_flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise ConfigError(f"{name} is True or False, not {value!r}")


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str) or "\0" in value:
        raise ConfigError(f"{name} is a text, not {value!r}")


def _check_mode(name: str, value: Any) -> None:
    if value not in _SPOOL_MODES:
        raise ConfigError(f"{name} is one of {', '.join(_SPOOL_MODES)}, not {value!r}")


def _check_names(name: str, value: Any) -> None:
    if not isinstance(value, tuple) or not all(isinstance(part, str) for part in value):
        raise ConfigError(f"{name} is a list of patterns, as in ['*password*'], or [] for none, not {value!r}")


def _check_callable(name: str, value: Any) -> None:
    if value is not None and not callable(value):
        raise ConfigError(f"{name} is a function, not {value!r}")


def _check_address(_: str, value: Any) -> None:
    if not isinstance(value, str) or not _is_address(value):
        raise ConfigError(f"url is the collector's address, as in http://127.0.0.1:8000, not {value!r}")


def _is_address(text: str) -> bool:
    """Whether it is one of a server, perhaps with a prefix; not that of `POST /v1/events` itself, which we know."""
    from urllib.parse import urlsplit  # not needed by a process that only imports us

    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:  # no port has this number, or a bracket is missing
        return False
    is_server = bool(parts.hostname) and "@" not in parts.netloc and port != 0
    is_prefix = not parts.path.rstrip("/").endswith("/v1/events") and not parts.query and not parts.fragment
    return parts.scheme in ("http", "https") and is_server and is_prefix


def _check_key(_: str, value: Any) -> None:
    if not isinstance(value, str) or not _WRITE_KEY.fullmatch(value):
        raise ConfigError("write_key is missing or is not printable ASCII; `analytics-collector keys create` makes one")


_CHECKS: Final[Mapping[str, Callable[[str, Any], None]]] = {
    "url": _check_address,
    "write_key": _check_key,
    "spool_mode": _check_mode,
    "spool_fsync": _check_fsync,
    "sample_rate": _check_share,
}
_CHECK_OF_KIND: Final[Mapping[type, Callable[[str, Any], None]]] = {
    bool: _check_flag,
    int: _check_positive,
    float: _check_positive,
    str: _check_text,
    tuple: _check_names,
    type(None): _check_callable,
}

_REQUIRED: Final = ("url", "write_key")
DEFAULTS: Final[Mapping[str, Any]] = dict(
    zip(Config.__struct_fields__, ("", "", *Config.__struct_defaults__), strict=True)
)


def make_config(
    options: Mapping[str, Any], environ: Mapping[str, str] = os.environ, *, needs_collector: bool = True
) -> Config:
    """Put the settings together; an argument that is None counts as not given.

    Args:
        options: The arguments.
        environ: Where the rest is looked up.
        needs_collector: False for a client that sends over a transport of its own.

    Raises:
        ConfigError: One is missing, unknown, or makes no sense; says which and what to do.
    """
    unknown = options.keys() - DEFAULTS.keys()
    if unknown:
        raise ConfigError(f"There is no option {min(unknown)}; there are: {', '.join(DEFAULTS)}")
    values: dict[str, Any] = {} if needs_collector else {"url": "http://127.0.0.1", "write_key": "none"}
    values |= {
        name: _from_text(name, default, environ[variable(name)])
        for name, default in DEFAULTS.items()
        if default is not None and environ.get(variable(name))
    }
    values |= {name: _as_value(name, value) for name, value in options.items() if value is not None}
    for name in _REQUIRED:
        if name not in values:
            raise ConfigError(f"No {name}: pass {name}=... to init() or set {variable(name)}")
    return Config(**values)


def variable(name: str) -> str:
    """The environment variable of an option."""
    return f"ANALYTICS_{name.upper()}"


def _as_value(name: str, value: Any) -> Any:
    """What an argument stands for: paths and lists of names are welcome as such."""
    if name == "spool" and isinstance(value, os.PathLike):
        return os.fspath(value)
    if name == "redact" and isinstance(value, list | set | frozenset):
        return tuple(value)
    return value


def _from_text(name: str, default: Any, text: str) -> Any:
    kind = type(default)
    try:
        if kind is tuple:
            return tuple(part.strip() for part in text.split(",") if part.strip())
        return _FLAGS[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        raise ConfigError(f"{variable(name)} is a {kind.__name__}, not {text!r}") from None
