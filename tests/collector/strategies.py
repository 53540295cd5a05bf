"""Records as hypothesis draws them: few names, so that they meet again and again in every possible way."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import strategies as st

from tests.collector.batches import NOON, Fields, at, event
from tests.collector.reference import Batch

_USERS = [None, None, None, 1, "1", 2, 3, "ann", "bob", "007", -1]
_RARE_USERS = [*[None] * 9, 1, "ann"]
#: Sessions with who is in them: in some anybody, in others mostly nobody, so that a login finds something to claim.
VISITS = st.one_of(
    st.tuples(st.sampled_from("abc"), st.sampled_from(_USERS)),
    st.tuples(st.sampled_from("uvw"), st.sampled_from(_RARE_USERS)),
)
_OUTSIDE = st.tuples(st.sampled_from(["", None]), st.sampled_from(_USERS))
#: Around `NOON`, elsewhere on earth, a little ahead of the collector's clock, in other months, and before all of them.
MOMENTS = [
    *map(at, (-40, -5, -1, 0, 0.00001, 1, 5, 40)),
    NOON.astimezone(timezone(timedelta(hours=5, minutes=30))).isoformat(),
    (datetime.now(UTC) + timedelta(minutes=8)).isoformat(),
    *((NOON - timedelta(days=days)).isoformat() for days in (20, 32, 45, 64, 100, 400, 800)),
    "1905-05-05T05:05:05.000005Z",
    "0400-04-04T04:04:04Z",
]
_NEXT_YEAR = (NOON + timedelta(days=400)).isoformat()
_MINUTES = st.sampled_from(MOMENTS)
#: An event's id with its time, so that most copies are copies; some share their id only, or their time.
_KEYS = [(n, MOMENTS[n % len(MOMENTS)]) for n in range(len(MOMENTS))] * 3 + [(n, at(n)) for n in range(5)]


@st.composite
def events(draw: st.DrawFn) -> Fields:
    """Any event that the collector takes."""
    name, created_at = draw(st.sampled_from(_KEYS))
    session_id, user_id = draw(st.one_of(VISITS, VISITS, VISITS, _OUTSIDE))
    return event(
        name,
        session_id,
        user_id,
        created_at=created_at,
        event_type=draw(st.sampled_from(["page_view", "login"])),
        event_data=draw(st.sampled_from([{}, {"n": 1.5, "é": ["\u2028", None]}])),
        ip_address=draw(st.sampled_from([None, "127.0.0.1", "2001:db8::1"])),
    )


_ABOUT_SESSIONS = st.fixed_dictionaries(
    {},
    optional={
        "started_at": _MINUTES,
        "ended_at": _MINUTES,
        "user_agent": st.sampled_from(["", "curl", "lynx"]),
        "referrer": st.sampled_from(["", "https://a.example/", "https://b.example/"]),
    },
)
SESSION_RECORDS = st.builds(
    lambda visit, said: {"session_id": visit[0], "user_id": visit[1], **said}, VISITS, _ABOUT_SESSIONS
)
USER_RECORDS = st.fixed_dictionaries(
    {
        "user_id": st.sampled_from([1, "1", 2, "ann", "carl"]),
        "traits": st.dictionaries(st.sampled_from("xyz"), st.sampled_from([1, None, "é", {"deep": []}]), max_size=3),
        "updated_at": st.sampled_from(MOMENTS[:6]),
    }
)
#: What is refused: by us on sight, or by Postgres alone, where the tests have put a check.
_EVIL_EVENTS = st.builds(lambda n, visit: event(n, *visit, event_type="evil"), st.integers(100, 102), VISITS)
_BAD_EVENTS = st.one_of(
    _EVIL_EVENTS,
    _EVIL_EVENTS,
    st.builds(lambda n, visit: event(n, *visit, created_at=_NEXT_YEAR), st.integers(200, 202), VISITS),
    st.builds(lambda n: {"event_id": event(n)["event_id"], "created_at": at(0)}, st.integers(300, 302)),
)


def _many(seed: int) -> list[Fields]:
    """So many events that they are copied if all of them are new; of the first two seeds half are the same."""
    visits = [("a", None), ("b", 1), ("u", None), ("v", None), ("", 2), ("c", 2), ("d", None)]
    data = [{}, {"é": [1, None]}]
    return [
        event(f"many {n}", *visits[n % 7], created_at=at(n % 1000 / 1.9999993), event_data=data[n % 2])
        for n in range(seed, seed + 140)
    ]


@st.composite
def batches(draw: st.DrawFn, *, bad: bool = True) -> Batch:
    """Any mix of records, with copies of some; now and then a large one, and often one event and nothing else."""
    if draw(st.sampled_from([False, False, True])):
        return Batch([], [], [draw(events())])
    told = draw(st.lists(events(), max_size=6))
    told += draw(st.lists(st.sampled_from(told), max_size=3)) if told else []
    if bad:
        told += draw(st.one_of(st.just([]), st.just([]), st.lists(_BAD_EVENTS, min_size=1, max_size=2)))
    if draw(st.sampled_from([*[False] * 6, True])):
        told += _many(draw(st.sampled_from([0, 70, 1000, 2000, 3000])))
    return Batch(
        draw(st.lists(SESSION_RECORDS, max_size=3)),
        draw(st.lists(USER_RECORDS, max_size=2)),
        draw(st.permutations(told)) if len(told) < 20 else told,
    )


@st.composite
def requests_at_once(draw: st.DrawFn, most: int = 8) -> list[Batch]:
    """Batches, two at least, some of them the same; only one of them, and its copy, has what is refused."""
    told = [draw(batches()), *draw(st.lists(batches(bad=False), min_size=1, max_size=most - 1))]
    return (told + told[: draw(st.integers(0, 2))])[:most]
