"""The event that everyone tracks: a purchase with 8 properties."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

TYPE: Final = "purchase"
USER: Final = "user-42"
MARK: Final = re.compile(rb"order-([a-z_]+?)_*-(\d+)")  # whose event it is and which: looks alike in all wire formats


def properties(name: str, number: int) -> dict[str, Any]:
    """The properties of one event, a new dict as in a real call.

    Args:
        name: The contestant's.
        number: Tells its events apart.
    """
    return {
        "order": f"order-{name:_<13}-{number:07}",  # as long for everyone
        "sku": "A-1234-XL",
        "name": "Merino sweater",
        "category": "clothing/knitwear",
        "price": 89.9,  # no Decimal: three of the rivals refuse it
        "quantity": 2,
        "discount": 0.15,
        "gift": False,
    }


def orders(name: str, start: int, count: int) -> Iterator[dict[str, Any]]:
    """The properties of several events, each made when it is asked for."""
    return (properties(name, number) for number in range(start, start + count))
