"""The SDK's settings: one value, from arguments first and the environment second.

Every attribute is also one variable, `ANALYTICS_` and its name in capitals.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import attrs

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


def _positive(_: Any, attribute: attrs.Attribute[float], value: float) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= _MOST:
        raise ConfigError(f"{attribute.name} is a number above zero and at most {_MOST}, not {value!r}")


def _flag(_: Any, attribute: attrs.Attribute[bool], value: bool) -> None:
    if not isinstance(value, bool):
        raise ConfigError(f"{attribute.name} is True or False, not {value!r}")


def _address(_: Any, __: attrs.Attribute[str], value: str) -> None:
    if not isinstance(value, str) or not _is_address(value):
        raise ConfigError(f"url is the collector's address, as in http://127.0.0.1:8000, not {value!r}")


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return (
            parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc and parts.port != 0
        )
    except ValueError:  # no port has this number, or a bracket is missing
        return False


def _key(_: Any, __: attrs.Attribute[str], value: str) -> None:
    if not isinstance(value, str) or not _WRITE_KEY.fullmatch(value):
        raise ConfigError("write_key is missing or is not printable ASCII; `analytics-collector keys create` makes one")


def _number(default: float) -> Any:
    return attrs.field(default=default, validator=_positive)


@attrs.frozen(kw_only=True)
class Config:
    """How a client works.

    Attributes:
        url: Where the collector is, for instance http://127.0.0.1:8000.
        write_key: A key of kind "write".
        enabled: False accepts nothing and sends nothing.
        strict: True makes `track()` raise what it otherwise only counts; for development.
        flush_interval: Longest time, in seconds, that an event waits for company before it is sent.
        max_batch_events: Most records in one request.
        max_batch_bytes: Most bytes in one request, before gzip.
        max_event_bytes: Largest event, in bytes of JSON; a larger one is not accepted.
        max_buffer_events: Most records that wait or are being sent; further ones are not accepted.
        max_buffer_bytes: Most bytes of them.
        connect_timeout: Seconds to wait for a connection.
        read_timeout: Seconds to wait for each part of an answer; also for sending.
        retry_cap: Longest pause, in seconds, between two tries.
        exit_timeout: Seconds that the end of the process may take for sending what is left.
    """

    url: str = attrs.field(validator=_address)
    write_key: str = attrs.field(validator=_key, repr=False)
    enabled: bool = attrs.field(default=True, validator=_flag)
    strict: bool = attrs.field(default=False, validator=_flag)
    flush_interval: float = _number(0.5)
    max_batch_events: int = _number(500)
    max_batch_bytes: int = _number(1024 * 1024)
    max_event_bytes: int = _number(256 * 1024)
    max_buffer_events: int = _number(100_000)
    max_buffer_bytes: int = _number(64 * 1024 * 1024)
    connect_timeout: float = _number(3.0)
    read_timeout: float = _number(10.0)
    retry_cap: float = _number(30.0)
    exit_timeout: float = _number(2.0)


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
    fields = {field.name: field for field in attrs.fields(Config)}
    unknown = options.keys() - fields.keys()
    if unknown:
        raise ConfigError(f"There is no option {min(unknown)}; there are: {', '.join(fields)}")
    values: dict[str, Any] = {} if needs_collector else {"url": "http://127.0.0.1", "write_key": "none"}
    values |= {
        name: _from_text(field, environ[variable(name)])
        for name, field in fields.items()
        if environ.get(variable(name))
    }
    values |= {name: value for name, value in options.items() if value is not None}
    for name in ("url", "write_key"):
        if name not in values:
            raise ConfigError(f"No {name}: pass {name}=... to init() or set {variable(name)}")
    return Config(**values)


def variable(name: str) -> str:
    """The environment variable of an option."""
    return f"ANALYTICS_{name.upper()}"


def _from_text(field: attrs.Attribute[Any], text: str) -> Any:
    kind: type[Any] = str if field.default is attrs.NOTHING else type(field.default)
    try:
        return _FLAGS[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        raise ConfigError(f"{variable(field.name)} is a {kind.__name__}, not {text!r}") from None
