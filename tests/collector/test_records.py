"""Records as values: user ids in and out, and the reasons why a record is refused."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics_collector import browser, committer, plan, records
from analytics_collector.exceptions import RecordError
from analytics_collector.records import FIRST_OWN_USER_ID, REASONS, Record, UserId, shown_user_id, stored_user_id

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
IDS = st.integers() | st.integers(-(10**1000), 10**1000) | st.text(min_size=1) | st.from_regex(r"\A-?\d{1,20}\Z")


def stored_and_shown(user_id: UserId) -> UserId | None:
    """The way of an id: through the database and back to the app."""
    stored = stored_user_id(user_id)
    if isinstance(stored, int):
        return shown_user_id(stored, None)
    return shown_user_id(FIRST_OWN_USER_ID, stored)


@settings(deadline=None)
@given(IDS)
def test_the_app_sees_the_id_that_it_used(user_id: UserId) -> None:
    """An id comes back as it was, but for a string that is nothing but an integer, which comes back as that integer."""
    is_number = isinstance(user_id, int) or re.fullmatch("0|-?[1-9][0-9]*", user_id)
    assert stored_and_shown(user_id) == (int(user_id) if is_number else user_id)


@settings(deadline=None)
@given(IDS, IDS)
def test_different_users_stay_different(one: UserId, other: UserId) -> None:
    """Two ids are stored as the same user only if they are written the same."""
    assert (stored_user_id(one) == stored_user_id(other)) == (str(one) == str(other))


@settings(deadline=None)
@given(IDS)
def test_numbers_of_ours_are_never_taken(user_id: UserId) -> None:
    """What is stored as a number is an id of the app's own, below the first that we give away."""
    stored = stored_user_id(user_id)
    assert isinstance(stored, str) or 0 <= stored < FIRST_OWN_USER_ID


@pytest.mark.parametrize(
    ("user_id", "stored"),
    [
        (42, 42),
        ("42", 42),
        (0, 0),
        ("0", 0),
        (2**48 - 1, 2**48 - 1),
        (2**48, "281474976710656"),
        ("281474976710655", 2**48 - 1),
        ("281474976710656", "281474976710656"),
        (2**70, "1180591620717411303424"),
        (-5, "-5"),
        ("-5", "-5"),
        ("007", "007"),
        ("+7", "+7"),
        (" 7", " 7"),
        ("7.0", "7.0"),
        ("1_000", "1_000"),
        ("٣", "٣"),
        ("²", "²"),
        ("", ""),
        ("😀", "😀"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_ids_are_stored_as_documented(user_id: UserId, stored: UserId) -> None:
    """Small whole numbers, also written as strings, are the app's own ids; anything else is a text."""
    assert stored_user_id(user_id) == stored


@pytest.mark.parametrize("text", ["007", "-0", "-007", "+7", "٣", "-٣", "", "😀", "1\n", "9" * 5000])
def test_texts_that_look_like_numbers_stay_texts(text: str) -> None:
    """What only looks like a number is shown as the text it is."""
    assert shown_user_id(FIRST_OWN_USER_ID, text) == text


def test_nobody_is_shown_as_nobody() -> None:
    """An anonymous row has no user id."""
    assert shown_user_id(None, None) is None


def test_every_reason_is_given_and_none_beside_them() -> None:
    """The codes that the source gives for a refusal are exactly the documented ones."""
    source = "".join(map(inspect.getsource, (records, committer, browser, plan)))
    given_codes = re.findall(r'RecordError\(\s*"(\w+)"|refuse\(\S+, "(\w+)"', source)
    assert {one or other for one, other in given_codes} <= set(REASONS)
    assert [code for code in REASONS if source.count(f'"{code}"') < 2] == []  # once in the list, and where it is given


@settings(deadline=None)
@given(st.binary(max_size=200) | st.text('{}[]",:\\u0dU8ntrue 019eE-.').map(str.encode))
def test_any_text_is_a_record_or_a_reason(raw: bytes) -> None:
    """Whatever arrives as a record, reading it gives a record or one of the reasons, and nothing else."""
    for read in (records.event, records.session, records.user):
        assert refusal_of(raw, read) in (None, *REASONS)


@settings(deadline=None)
@given(st.integers(0, 300), st.sampled_from(["[", '{"a":', '[1,"]]",[],{"b":']))
def test_depth_is_counted_exactly(levels: int, opening: str) -> None:
    """An event_data of up to 100 levels is stored, one of 101 is too deep, whatever stands between the brackets."""
    brackets = re.sub(r'"[^"]*"|\[\]', "", opening)
    per_turn = sum(mark in "[{" for mark in brackets)
    closing = "".join({"[": "]", "{": "}"}[mark] for mark in reversed(brackets) if mark in "[{")
    turns = levels // per_turn
    deep = '{"deep":%s0%s}' % (opening * turns, closing * turns)  # noqa: UP031  # braces
    raw = event_text(event_data=msgspec.Raw(deep.encode()))
    if 1 + turns * per_turn <= records.MAX_DEPTH:
        assert bytes(records.event(raw, NOW).event_data) == deep.encode()
    else:
        assert refusal_of(raw) == "too_deep"


@settings(deadline=None)
@given(st.text().filter(lambda text: "\0" not in text))
def test_any_text_without_nul_is_fine(text: str) -> None:
    """No text is mistaken for a NUL, half a surrogate pair or no number, however many backslashes it has."""
    read = records.event(event_text(event_data={"text": text}), NOW)
    assert msgspec.json.decode(read.event_data) == {"text": text}


@settings(deadline=None)
@given(st.text("\\u0", min_size=1, max_size=12))
def test_a_nul_is_told_from_what_looks_like_one(text: str) -> None:
    """Backslashes, u and zeros in any order are refused as a NUL exactly if JSON means one by them."""
    refusal = refusal_of(event_text(event_data=msgspec.Raw(b'{"text":"%s"}' % text.encode())))
    try:
        meant = json.loads(f'"{text}"')
    except ValueError:
        assert refusal in ("invalid_json", "nul_character")
    else:
        assert refusal == ("nul_character" if "\0" in meant else None)


@pytest.mark.parametrize("ahead", [timedelta(days=-1), timedelta(0), timedelta(minutes=10)])
def test_the_clock_may_be_ten_minutes_ahead(ahead: timedelta) -> None:
    """A time of up to ten minutes from now is kept as it is."""
    assert records.event(event_text(created_at=NOW + ahead), NOW).created_at == NOW + ahead


def test_the_clock_may_not_be_further_ahead() -> None:
    """A time of more than ten minutes from now is refused, and the message names both clocks."""
    with pytest.raises(RecordError) as refusal:
        records.event(event_text(created_at=NOW + timedelta(minutes=10, microseconds=1)), NOW)
    assert refusal.value.code == "clock_ahead"
    assert "2026-01-31T12:10:00.000001+00:00" in refusal.value.message
    assert NOW.isoformat() in refusal.value.message


def event_text(**fields: object) -> bytes:
    """A good event, but for the fields given."""
    good = {"event_id": "0190a0b0-0000-7000-8000-000000000000", "event_type": "click", "created_at": NOW}
    return msgspec.json.encode(good | fields)


def refusal_of(raw: bytes, read: Callable[[bytes, datetime], Record] = records.event) -> str | None:
    """The code with which a record is refused, or None if it is not."""
    try:
        read(raw, NOW)
    except RecordError as error:
        return error.code
    return None
