"""A host with the SDK that tracks until its standard input is closed; then it says what it tracked, and the account.

Run as `python -m tests.collector.tracker`; the SDK's options come from the environment. Each line is an event's id, the
last one the account as JSON.
"""

from __future__ import annotations

import json
import select
import sys

import analytics_sdk


def main() -> None:
    """Track one event after the other, a hundred a second at most."""
    number = 0
    while not select.select([sys.stdin], [], [], 0.01)[0]:
        number += 1
        who = number % 5
        print(analytics_sdk.track("page_view", {"number": number}, user_id=1000 + who, session_id=f"tracker {who}"))
    analytics_sdk.flush(timeout=30)
    stats = analytics_sdk.stats()
    print(json.dumps({"accepted": stats.accepted, "delivered": stats.delivered + stats.duplicate}))


if __name__ == "__main__":
    main()
