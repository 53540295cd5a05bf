"""A collector that takes its time never holds the end of a process beyond `exit_timeout`."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import nullcontext

import pytest

from tests.delivery.proxy import Mode, Proxy, dripping, hanging, unreachable
from tests.delivery.trial import Size, Trial, sizes
from tests.programs import wait_until

GRACE = 1.5  # seconds: the interpreter's own end on a busy machine

SLOW: dict[str, Mode | None] = {"hanging": hanging, "dripping": dripping, "unreachable": None}


@sizes(runs=5)
@pytest.mark.parametrize("end", ["normal", "SIGTERM handled"])
@pytest.mark.parametrize("name", SLOW)
def test_the_end_comes_in_time(
    make_trial: Callable[..., Trial], proxy: Proxy, name: str, end: str, size: Size, *, spool: bool
) -> None:
    """A process that ends while a request is under way, and one more would follow, ends within its budget."""
    budget = 2.0 if size.run else 0.5
    mode = SLOW[name]
    if mode is not None:
        proxy.become(mode)
    with nullcontext(proxy.url) if mode else unreachable() as url:
        trial = make_trial(url, spool=spool, ANALYTICS_EXIT_TIMEOUT=str(budget), ANALYTICS_HANDLE_SIGTERM="1")
        with trial.host("wait") as host:
            host.wait_until_tracked()
            wait_until(lambda: proxy.requests or mode is None, what="a request")
            began = time.monotonic()
            if end == "SIGTERM handled":
                host.signal(signal.SIGTERM)
                assert host.wait() == -signal.SIGTERM
            else:
                assert host.end() == 0
            took = time.monotonic() - began
    assert took < budget + GRACE
    verdict = trial.verdict()
    verdict.assert_books_balance()
    if not spool and mode is not dripping:
        assert verdict.logged == len(verdict.lost) > 0
