"""What a browser key may not say: everybody who opens the page has the key.

It may tell what happens now, in whatever session and by whatever user, as the public keys of other products may. Where
from, when in the past, and what a user is like, it may not say. Pure.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import attrs
import msgspec

from .batch import Batch, Item, Reject
from .records import MAX_CLOCK_AHEAD, EventRecord, UserRecord

MAX_AGE: Final = timedelta(hours=1)


def restrict(batch: Batch, address: str | None, now: datetime) -> Batch:
    """Refuse what a browser may not say, and put the address that the request came from into its events.

    Args:
        batch: Judged records of a browser key.
        address: Of the visitor; whatever the records say is replaced by it.
        now: When the records arrived.
    """
    items: list[Item] = []
    refused: list[Reject] = []
    for item in batch.items:
        fault = _fault(item, now)
        if fault is None:
            items.append(_from(item, address))
        else:
            refused.append(batch.refuse(item, "not_allowed", fault))
    return attrs.evolve(batch, items=tuple(items), rejects=(*batch.rejects, *refused))


def _fault(item: Item, now: datetime) -> str | None:
    record = item.record
    if isinstance(record, UserRecord):
        return "a browser key may not set traits; let your server do it, with a write key"
    names = ("created_at",) if isinstance(record, EventRecord) else ("started_at", "ended_at")
    for name in names:
        moment: datetime | None = getattr(record, name)
        if moment is not None and not now - MAX_AGE <= moment <= now + MAX_CLOCK_AHEAD:
            return f"{name} {moment.isoformat()} is more than an hour old or ahead, which a browser key may not say"
    return None


def _from(item: Item, address: str | None) -> Item:
    if not isinstance(item.record, EventRecord) or item.record.ip_address == address:
        return item
    return msgspec.structs.replace(item, record=msgspec.structs.replace(item.record, ip_address=address))
