"""Visitors of the shop, over real HTTP: the same seed, the same people doing the same things.

Run it with: python examples/shop/visitors.py http://127.0.0.1:5000 --visitors 100
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx

USER_AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Safari/605.1.15",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0.0.0 Safari/537.36",
)
REFERRERS = ("", "https://search.example/?q=tea", "https://blog.example/ten-best-teapots")


class Visitor:
    """One person with a browser: keeps cookies, follows links, and counts what the shop should have recorded."""

    def __init__(self, shop: str, seed: int) -> None:
        self._random = random.Random(seed)
        self._shop = shop
        self.expected: Counter[str] = Counter()

    def visit(self) -> Counter[str]:
        """Look around, perhaps log in, perhaps buy, perhaps log out."""
        headers = {"User-Agent": self._random.choice(USER_AGENTS), "Accept": "text/html,application/xhtml+xml"}
        with httpx.Client(base_url=self._shop, headers=headers, timeout=30) as browser:
            self._open(browser, "/", self._random.choice(REFERRERS))
            for number in self._random.choices((1, 2, 3), k=self._random.randint(1, 4)):
                self._open(browser, f"/products/{number}")
            if self._random.random() < 0.6:
                self._shop_as_user(browser, self._random.randint(1, 20))
        return self.expected

    def _shop_as_user(self, browser: httpx.Client, user_id: int) -> None:
        self._open(browser, "/login")
        self._do(browser, "/login", "login", user_id=str(user_id))
        for number in self._random.choices((1, 2, 3), k=self._random.randint(0, 3)):
            self._open(browser, f"/products/{number}")
            self._do(browser, f"/products/{number}/buy", "purchase")
        if self._random.random() < 0.5:
            self._do(browser, "/logout", "logout")

    def _open(self, browser: httpx.Client, path: str, referrer: str = "") -> None:
        browser.get(path, headers={"Referer": referrer} if referrer else {}).raise_for_status()
        self.expected["page_view"] += 1

    def _do(self, browser: httpx.Client, path: str, event_type: str, **form: str) -> None:
        browser.post(path, data=form, follow_redirects=True).raise_for_status()
        self.expected[event_type] += 1
        self.expected["page_view"] += 1  # of the page that the shop redirects to


def visit_all(shop: str, visitors: int, seed: int = 1) -> Iterator[Counter[str]]:
    """Let so many people visit, four at a time; yields what each should have left behind."""
    with ThreadPoolExecutor(4) as pool:
        yield from pool.map(lambda number: Visitor(shop, seed * 1_000_003 + number).visit(), range(visitors))


def visit_with_progress(shop: str, visitors: int) -> Counter[str]:
    """Let them visit, with a line that shows how far they are; returns what they should have left behind."""
    expected: Counter[str] = Counter()
    for count, left in enumerate(visit_all(shop, visitors), 1):
        expected += left
        if count % 10 and count < visitors:
            continue
        print(f"\rVisitors {count}/{visitors}, events {expected.total()}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return expected


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("shop", help="its address, as in http://127.0.0.1:5000")
    parser.add_argument("--visitors", type=int, default=100)
    arguments = parser.parse_args()
    for event_type, count in visit_with_progress(arguments.shop, arguments.visitors).most_common():
        print(f"{event_type:<12}{count:>8}")
