"""Redaction: what a property's name says is nobody's business is not kept."""

from __future__ import annotations

import dataclasses
import enum
import json
from collections import UserDict
from datetime import UTC, datetime
from typing import Any

import attrs
import msgspec
import pytest

from analytics_sdk._encoder import Encoder
from analytics_sdk._redaction import DEFAULT_REDACT, Redaction
from analytics_sdk.testing import RecordingTransport
from tests.sdk.conftest import Make

SECRETS = [
    "password",
    "Password",
    "user_password",
    "passwordHash",
    "passwd",
    "pwd",
    "client_secret",
    "clientSecret",
    "token",
    "access_token",
    "accessToken",
    "refresh-token",
    "CSRF_TOKEN",
    "api_key",
    "apiKey",
    "API-KEY",
    "x-api-key",
    "Authorization",
    "cookie",
    "Set-Cookie",
    "credit_card",
    "creditCardNumber",
    "cvv",
    "CVC",
    "ssn",
    "iban",
    "private.key",
]


@pytest.mark.parametrize("name", SECRETS)
def test_names_of_secrets_are_known(name: str) -> None:
    """By default these names, in any way of writing, are secrets."""
    assert Redaction(DEFAULT_REDACT).is_secret(name)


@pytest.mark.parametrize(
    "name",
    ["", "sku", "name", "card", "token_count", "cookies_accepted", "author", "keyboard", "lesson"],
)
def test_other_names_are_not(name: str) -> None:
    """Names that only sound like it are kept."""
    assert not Redaction(DEFAULT_REDACT).is_secret(name)


def test_of_no_patterns_nothing_is_a_secret() -> None:
    """An empty list switches redaction off."""
    assert not Redaction(()).is_secret("password")


def test_names_that_are_made_up_do_not_fill_memory() -> None:
    """The memory of names has a bound, and what is past it is judged all the same."""
    redaction = Redaction(("pin",))
    for number in range(30_000):
        assert not redaction.is_secret(f"name {number}")
    assert len(redaction.harmless) <= 10_000
    assert redaction.is_secret("PIN")


def test_secrets_do_not_leave_the_process(make: Make, transport: RecordingTransport) -> None:
    """At any depth, in events and in traits, the value is gone and the rest is there."""
    client = make(transport=transport, flush_interval=60)
    data: dict[str, Any] = {"a": 1, "password": "hunter2", "list": [{"apiKey": "hunter2", "b": 2}]}
    for _ in range(2):  # names that are known by now, too
        client.track("login", data)
        client.identify(42, data)
    client.flush()
    expected = {"a": 1, "password": "<redacted>", "list": [{"apiKey": "<redacted>", "b": 2}]}
    assert [event["event_data"] for event in transport.events] == [expected] * 2
    assert [user["traits"] for user in transport.users] == [expected] * 2
    assert "hunter2" not in json.dumps(transport.events)
    assert data["password"] == "hunter2"


def test_patterns_of_the_hosts_own_take_the_place_of_ours(make: Make, transport: RecordingTransport) -> None:
    """`redact` replaces the default list."""
    client = make(transport=transport, flush_interval=60, redact=["*mail*"])
    client.track("signup", {"E-Mail": "ann@example.org", "password_hint": "x"})
    client.flush()
    assert transport.events[0]["event_data"] == {"E-Mail": "<redacted>", "password_hint": "x"}


@dataclasses.dataclass
class Login:
    """A dataclass of the host's."""

    password: str
    name: str = "ann"


@attrs.define
class Card:
    """An attrs class of the host's."""

    cvv: str


class Wire(msgspec.Struct, rename={"word": "password", "api_key": "k"}):
    """A Struct with other names on the wire: one hides a secret, the other tells one."""

    word: str
    api_key: str


class Key(enum.Enum):
    """Keys of the host's."""

    TOKEN = "token"


class Name(str):
    """A subclass of str."""

    __slots__ = ()


SECRET = "hunter2"


@pytest.mark.parametrize(
    "value",
    [
        {b"password": SECRET},
        {Key.TOKEN: SECRET},
        {Name("API-Key"): SECRET},
        {("password", 1): SECRET},
        {("a", ("token",)): SECRET},
        {1: {b"token": [SECRET]}},
        Login(SECRET),
        Card(SECRET),
        Wire(SECRET, SECRET),
        UserDict({"token": {"deep": SECRET}}),
        [{"a": 1, "b": 2}] * 3 + [{"pwd": SECRET}],
        [{"pwd": SECRET}] * 3,
        {"rows": [[{"a": [{"cookie": SECRET, "at": datetime(2026, 1, 31, tzinfo=UTC)}]}]]},
    ],
)
def test_names_of_all_kinds_are_redacted(value: Any) -> None:
    """Whatever a key or a field is, at any depth, its stored form and its own name decide."""
    encoder = Encoder(redaction=Redaction(DEFAULT_REDACT))
    for _ in range(2):
        text = encoder.event("e", "login", datetime(2026, 1, 31, tzinfo=UTC), None, None, None, {"value": value})
        assert SECRET.encode() not in text
        assert b"<redacted>" in text


def test_names_that_are_long_are_not_remembered() -> None:
    """Nothing of megabytes stays in memory, and judging it takes no time."""
    redaction = Redaction(DEFAULT_REDACT)
    encoder = Encoder(redaction=redaction)
    encoder.event("e", "t", datetime(2026, 1, 31, tzinfo=UTC), None, None, None, {"k" * 5_000_000: 1})
    assert redaction.harmless == set()
