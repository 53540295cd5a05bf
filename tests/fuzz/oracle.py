"""What must hold of any body that is read, whatever it is: the quick way and the careful way agree."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from analytics_collector.batch import KINDS, Batch
from analytics_collector.exceptions import MalformedError, TooLargeError
from analytics_collector.ingest import inflate
from analytics_collector.protocols import native

LIMIT: Final = 1024 * 1024  # bytes of a body that is inflated
MOST_DEPTH: Final = 500  # of what Python's own decoder is asked


def check(body: bytes, now: datetime) -> Batch | None:
    """Inflate and read a body, both ways; None if it is refused as a whole.

    Raises:
        AssertionError: They disagree, or the verdict does not add up. Any other error is one too.
    """
    try:
        plain = inflate(body, LIMIT)
    except (MalformedError, TooLargeError):
        return None
    quick = native._parse_at_once(plain, now)
    try:
        careful = native._parse_apart(plain, now)
    except (MalformedError, TooLargeError):
        assert quick is None, "the quick way takes what the careful way refuses as a whole"
        return None
    if quick is not None:
        assert (quick.items, quick.rejects) == (careful.items, careful.rejects), "two readings of one body"
    check_account(careful, plain)
    return careful


def check_account(batch: Batch, body: bytes) -> None:
    """Each record has one verdict: it is an item, or a reject that has it as it arrived."""
    arrays = batch.arrays()
    places = sorted((entry.kind, entry.index) for entry in (*batch.items, *batch.rejects))
    assert places == sorted((kind, index) for kind in KINDS for index in range(len(arrays[kind])))
    for reject in batch.rejects:
        assert reject.raw == bytes(arrays[reject.kind][reject.index])
        assert reject.raw in body
        reject.message.encode()
    counted = records_in(body)
    assert counted is None or counted == len(places), f"{counted} records were sent, {len(places)} judged"


def records_in(body: bytes) -> int | None:
    """How many records Python's own decoder finds in a body; None where that has no answer."""
    if body.count(b"[") + body.count(b"{") > MOST_DEPTH:
        return None
    try:
        pairs = json.loads(body, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        return None
    wanted = {f"{kind}s" for kind in KINDS}
    if not isinstance(pairs, _Pairs) or not all(name in {*wanted, "sent_at"} for name, _ in pairs.of):
        return None
    return sum(len(array) for name, array in pairs.of if name in wanted and isinstance(array, Sequence))


class _Pairs:
    """An object with every name, those that come twice, too."""

    def __init__(self, of: list[tuple[str, Any]]) -> None:
        self.of = of


Records = Mapping[str, Sequence[bytes]]
"""The records of a body, by the names of the arrays."""


def body_of(records: Records) -> bytes:
    """Records that are text already, as a body."""
    return b"{%s}" % b",".join(b'"%s":[%s]' % (name.encode(), b",".join(array)) for name, array in records.items())
