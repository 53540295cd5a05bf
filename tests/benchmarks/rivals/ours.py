"""analytics-sdk, in memory and with a spool."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from .contestant import LONG, MANY, Purpose, Tracker
from .event import TYPE, USER

OPTIONS: dict[Purpose, dict[str, Any]] = {
    "waiting": {"flush_interval": LONG, "max_batch_events": MANY, "max_batch_bytes": 2**30},
    "sending": {},
    "default": {},
}
LIFTED: dict[str, Any] = {"max_buffer_events": MANY, "max_buffer_bytes": 2**30}


def open_ours(url: str, purpose: Purpose, spool: str, *, durable: bool = False, **options: Any) -> Tracker:
    """A client of ours.

    Args:
        url: Where the sink is.
        purpose: How it is configured.
        spool: A directory of its own.
        durable: Write every event there before `track()` returns.
        options: Further ones of the client.
    """
    import analytics_sdk

    lifted = {} if purpose == "default" else LIFTED
    if durable:
        options["spool"] = spool
    client = analytics_sdk.Client(url, write_key="bench", **OPTIONS[purpose], **lifted, **options)

    def burst(orders: Iterable[dict[str, Any]]) -> None:
        for data in orders:
            client.track(TYPE, data, user_id=USER)

    def drain() -> None:
        report = client.flush(timeout=60)
        if report.pending:
            raise RuntimeError(f"not all was delivered: {report}")

    return Tracker(burst=burst, drain=drain)


open_spooling = partial(open_ours, durable=True)
open_terminating = partial(open_ours, handle_sigterm=True)
