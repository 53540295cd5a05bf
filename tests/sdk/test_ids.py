"""Ids: laid out as RFC 9562 says, unique whatever the host does, and in the order of time."""

from __future__ import annotations

import random
import re
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics_sdk import _ids


@given(st.integers(0, 2**48 * 1_000_000 - 1))
def test_event_ids_are_uuids_of_version_7(unix_ns: int) -> None:
    """48 bits of milliseconds, version 7, variant 10, in the usual form of 36 characters."""
    event_id = _ids.event_id(unix_ns)
    parsed = uuid.UUID(event_id)
    assert str(parsed) == event_id
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert parsed.int >> 80 == unix_ns // 1_000_000


def test_200_000_event_ids_are_all_different() -> None:
    """Ids of one and the same moment, made by several threads, do not repeat."""
    now = time.time_ns()
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda _: [_ids.event_id(now) for _ in range(50_000)], range(4)))
    assert len({event_id for part in parts for event_id in part}) == 200_000


def test_a_seed_of_the_hosts_changes_nothing() -> None:
    """A host that calls random.seed() gets different ids all the same, and its own numbers unchanged."""
    ids, numbers = [], []
    for _ in range(2):
        random.seed(7)
        ids.append([_ids.event_id(0) for _ in range(10)])
        numbers.append(random.random())
    assert len({event_id for part in ids for event_id in part}) == 20
    assert numbers[0] == numbers[1]


def test_all_free_bits_are_used() -> None:
    """Of the 72 free bits each one is sometimes set and sometimes not; the others never change."""
    values = [uuid.UUID(_ids.event_id(0)).int for _ in range(50 * 256)]
    ever, always = 0, -1
    for value in values:
        ever, always = ever | value, always & value
    fixed = 0x7 << 76 | 0x8 << 60
    assert always == fixed
    assert ever == fixed | 0xFFF << 64 | (1 << 60) - 1


def test_ids_of_one_moment_sort_as_they_were_made() -> None:
    """Within a block of 256, ids of the same millisecond are greater the later they were made, as text."""
    _ids.reseed()
    made = [_ids.event_id(0) for _ in range(256)]
    assert made == sorted(made)


def test_later_ids_sort_later() -> None:
    """Event ids of later milliseconds, and session ids of later sixteenths of a second, are greater, as bytes."""
    for make, step in ((_ids.event_id, 10**6), (_ids.session_id, 62_500_000)):
        made = [make(unix_ns) for unix_ns in range(0, 1000 * step, step)]
        assert made == sorted(made)
        assert make(4 * 10**18) < make(4 * 10**18 + step)


def test_session_ids_are_short_and_different() -> None:
    """A session id is 17 characters that a cookie, a URL and a file's name can hold, of which 66 bits are random."""
    made = {_ids.session_id(0) for _ in range(1000)}
    assert len(made) == 1000
    assert {len(session_id) for session_id in made} == {17}
    assert all(re.fullmatch("-{6}[-_0-9A-Za-z]{11}", session_id) for session_id in made)
    assert {character for session_id in made for character in session_id[6:]} == set(_ids._CHARACTERS)


@pytest.mark.parametrize("form", ["{}", "{{{}}}", "urn:uuid:{}"])
def test_a_uuid_in_any_form_is_itself(form: str) -> None:
    """An id of the app's own that is a UUID stays that UUID."""
    made = str(uuid.uuid4())
    assert _ids.named_event_id(form.format(made)) == made
    assert _ids.named_event_id(form.format(made.upper())) == made
    assert _ids.named_event_id(made.replace("-", "")) == made


@given(st.text(st.characters(codec="utf-8")))
def test_any_other_text_is_always_the_same_uuid(name: str) -> None:
    """An id of the app's own that is no UUID becomes a UUID, the same one each time."""
    assert _ids.named_event_id(name) == _ids.named_event_id(name)
    assert _ids.named_event_id(name) != _ids.named_event_id(name + "x")
    uuid.UUID(_ids.named_event_id(name))
