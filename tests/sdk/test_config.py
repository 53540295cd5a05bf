"""Settings: arguments before environment before defaults, and what makes no sense is refused at once."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from analytics_sdk import Client, ConfigError
from analytics_sdk._config import Config, make_config, variable

GOOD = {"url": "http://127.0.0.1:8000", "write_key": "k"}

OTHER: dict[str, tuple[str, Any]] = {
    "url": ("https://collect.example.org/base", "https://collect.example.org/base"),
    "write_key": ("another key", "another key"),
    "enabled": ("false", False),
    "strict": ("1", True),
    "flush_interval": ("0.25", 0.25),
    "max_batch_events": ("7", 7),
    "max_batch_bytes": ("7", 7),
    "max_event_bytes": ("7", 7),
    "max_buffer_events": ("7", 7),
    "max_buffer_bytes": ("7", 7),
    "connect_timeout": ("1.5", 1.5),
    "read_timeout": ("1.5", 1.5),
    "retry_cap": ("1.5", 1.5),
    "exit_timeout": ("1.5", 1.5),
    "spool": ("/var/spool/shop", "/var/spool/shop"),
    "spool_mode": ("overflow", "overflow"),
    "max_spool_bytes": ("7", 7),
    "spool_fsync": ("1.5", 1.5),
    "handle_sigterm": ("1", True),
    "sample_rate": ("0.5", 0.5),
    "redact": ("*iban*, pin", ("*iban*", "pin")),
}
FUNCTIONS = ["before_send", "encoder", "on_drop", "on_reject"]  # which no variable can name
NAMES = [name for name in Config.__struct_fields__ if name not in FUNCTIONS]


@pytest.mark.parametrize("name", NAMES)
def test_every_option_has_a_variable(name: str) -> None:
    """Each attribute is set by ANALYTICS_<NAME>, and by an argument, which wins."""
    text, value = OTHER[name]
    environ = {variable(key): given for key, given in GOOD.items()} | {variable(name): text}
    assert variable(name) == f"ANALYTICS_{name.upper()}"
    assert getattr(make_config({}, environ), name) == value
    assert getattr(make_config({name: value}, {variable(key): given for key, given in GOOD.items()}), name) == value
    default = getattr(make_config(GOOD, {}), name)
    assert getattr(make_config({name: default}, environ), name) == default


@pytest.mark.parametrize("name", [*NAMES, *FUNCTIONS])
def test_every_option_is_documented(name: str) -> None:
    """The class tells of each attribute what it means, and of each number of seconds that it is seconds."""
    documented = dict(re.findall(r"^ +(\w+): (.+\n(?: {8}.+\n)*)", f"{inspect.getdoc(Config)}\n", re.MULTILINE))
    assert name in documented
    if isinstance(getattr(make_config(GOOD, {}), name), float) and name != "sample_rate":
        assert "second" in documented[name].lower()


def test_arguments_that_are_none_are_not_given() -> None:
    """A host that passes None on gets the environment's value or the default."""
    environ = {"ANALYTICS_URL": "http://one.example", "ANALYTICS_WRITE_KEY": "k"}
    config = make_config({"url": None, "write_key": None, "flush_interval": None}, environ)
    assert (config.url, config.flush_interval) == ("http://one.example", make_config(GOOD, {}).flush_interval)


def test_variables_that_are_empty_are_not_given() -> None:
    """An empty variable counts as none."""
    assert make_config(GOOD, {"ANALYTICS_FLUSH_INTERVAL": "", "ANALYTICS_ENABLED": ""}) == make_config(GOOD, {})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"url": None}, "No url: pass url=... to init() or set ANALYTICS_URL"),
        ({"write_key": None}, "No write_key: pass write_key=... to init() or set ANALYTICS_WRITE_KEY"),
        ({"url": "127.0.0.1:8000"}, "as in http://127.0.0.1:8000"),
        ({"url": "ftp://example.org"}, "as in http://127.0.0.1:8000"),
        ({"url": "http://"}, "as in http://127.0.0.1:8000"),
        ({"url": "http://[::1"}, "as in http://127.0.0.1:8000"),
        ({"url": "http://127.0.0.1:8000/v1/events"}, "as in http://127.0.0.1:8000"),
        ({"url": "http://127.0.0.1:8000/?key=1"}, "as in http://127.0.0.1:8000"),
        ({"url": "http://example.org:99999"}, "as in http://127.0.0.1:8000"),
        ({"url": 8000}, "as in http://127.0.0.1:8000"),
        ({"url": b"http://example.org"}, "as in http://127.0.0.1:8000"),
        ({"write_key": ""}, "keys create"),
        ({"write_key": "k\n"}, "keys create"),
        ({"write_key": " k"}, "keys create"),
        ({"write_key": "schlüssel"}, "keys create"),
        ({"write_key": 7}, "keys create"),
        ({"flush_interval": 0}, "flush_interval is a number above zero"),
        ({"flush_interval": -1}, "flush_interval is a number above zero"),
        ({"flush_interval": "1"}, "flush_interval is a number above zero"),
        ({"flush_interval": float("nan")}, "flush_interval is a number above zero"),
        ({"exit_timeout": float("inf")}, "exit_timeout is a number above zero"),
        ({"max_batch_events": True}, "max_batch_events is a number above zero"),
        ({"enabled": "false"}, "enabled is True or False"),
        ({"strict": 1}, "strict is True or False"),
        ({"spool": 7}, "spool is a text"),
        ({"spool_mode": "sometimes"}, "spool_mode is one of always, overflow"),
        ({"spool_fsync": -1}, "spool_fsync is a number of seconds, or 0"),
        ({"sample_rate": 1.1}, "sample_rate is a number from 0 to 1"),
        ({"sample_rate": True}, "sample_rate is a number from 0 to 1"),
        ({"redact": "*password*"}, "redact is a list of patterns"),
        ({"redact": [1]}, "redact is a list of patterns"),
        ({"before_send": "print"}, "before_send is a function"),
        ({"flush_intervall": 1}, "There is no option flush_intervall"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], words: str) -> None:
    """A wrong argument raises when the client is made, and says which one and what is right."""
    with pytest.raises(ConfigError, match=re.escape(words)):
        Client(**(GOOD | options))


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("FLUSH_INTERVAL", "fast", "ANALYTICS_FLUSH_INTERVAL is a float, not 'fast'"),
        ("MAX_BATCH_EVENTS", "1.5", "ANALYTICS_MAX_BATCH_EVENTS is a int, not '1.5'"),
        ("ENABLED", "maybe", "ANALYTICS_ENABLED is a bool, not 'maybe'"),
        ("RETRY_CAP", "nan", "retry_cap is a number above zero"),
        ("URL", "nowhere", "as in http://127.0.0.1:8000"),
    ],
)
def test_a_variable_that_makes_no_sense_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, words: str
) -> None:
    """A wrong variable raises when the client is made, and says which one."""
    monkeypatch.setenv(f"ANALYTICS_{name}", text)
    with pytest.raises(ConfigError, match=re.escape(words)):
        Client(**{key: value for key, value in GOOD.items() if key != name.lower()})


def test_flags_can_be_written_in_several_ways() -> None:
    """Yes and no have the usual names, in any case."""
    for text in ("1", "true", "YES", "On"):
        assert make_config(GOOD, {"ANALYTICS_STRICT": text}).strict is True
    for text in ("0", "False", "no", "off"):
        assert make_config(GOOD, {"ANALYTICS_ENABLED": text}).enabled is False


def test_the_key_is_shown_nowhere() -> None:
    """A configuration that lands in a log or a traceback has no key in it."""
    assert "the-secret" not in repr(make_config(GOOD | {"write_key": "the-secret"}, {}))


def test_a_transport_of_the_hosts_own_needs_no_address() -> None:
    """A client with its own transport needs neither address nor key."""
    config = make_config({}, {}, needs_collector=False)
    assert config.enabled


def test_the_environment_of_others_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables that begin with ANALYTICS_ and are none of ours are no error."""
    monkeypatch.setenv("ANALYTICS_SOMETHING_ELSE", "x")
    make_config(GOOD)
