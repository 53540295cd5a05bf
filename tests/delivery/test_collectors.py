"""Whatever the collector does: a process that lives on delivers everything once, and one that ends loses nothing to it.

The fault begins before the first event, and lasts for seconds beyond the last one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import formatdate

import attrs
import pytest

from tests.delivery.proxy import (
    Exchange,
    Mode,
    Proxy,
    answering,
    dripping,
    hanging,
    passing,
    resetting_after,
    resetting_before,
)
from tests.delivery.trial import PATIENCE, Size, Trial, sizes
from tests.programs import wait_until


def busy_until(exchange: Exchange) -> None:
    """Answer 503, and name the time at which to come again."""
    answering(503, Retry_After=formatdate(time.time() + 2, usegmt=True))(exchange)


@attrs.frozen
class Fault:
    """What is wrong with the collector.

    Attributes:
        mode: What the proxy does; None: it is down.
        full: Seconds that it lasts in a full run.
        quick: Seconds that it lasts in a quick run.
        stores: Whether the collector stores what it does not acknowledge. A process that ends then cannot know, and
            reports as lost what may have arrived.
    """

    mode: Mode | None
    full: float = 3.0
    quick: float = 1.0
    stores: bool = False


FAULTS = {
    "500": Fault(answering(500)),
    "503": Fault(answering(503)),
    "503 with a date": Fault(busy_until),
    "429": Fault(answering(429, Retry_After="1")),
    "down": Fault(None, full=30.0, quick=3.0),
    "hanging": Fault(hanging),
    "dripping": Fault(dripping, stores=True),
    "reset before it stored": Fault(resetting_before),
    "reset after it stored": Fault(resetting_after, stores=True),
}


def begin(fault: Fault, proxy: Proxy) -> None:
    """From now on the collector does not answer as it should."""
    if fault.mode is None:
        proxy.down()
    else:
        proxy.become(fault.mode)


def cure(fault: Fault, proxy: Proxy) -> None:
    """From now on all is well."""
    if fault.mode is None:
        proxy.up()
    else:
        proxy.become(passing)


def lasts(fault: Fault, size: Size) -> float:
    """How long the fault lasts, in seconds."""
    return fault.full if size.run else fault.quick


@sizes(runs=5)
@pytest.mark.parametrize("name", FAULTS)
def test_a_process_that_lives_on(
    make_trial: Callable[..., Trial], proxy: Proxy, name: str, size: Size, *, spool: bool
) -> None:
    """Once the collector is well again, a process that has lived on delivers everything once."""
    fault = FAULTS[name]
    trial = make_trial(proxy.url, spool=spool, ANALYTICS_READ_TIMEOUT="0.5")
    begin(fault, proxy)
    with trial.host("flush when told") as host:
        host.wait_until_tracked()
        cured = time.monotonic() + lasts(fault, size)
        wait_until(lambda: time.monotonic() >= cured, within=PATIENCE)
        cure(fault, proxy)
        assert host.end() == 0
    verdict = trial.verdict()
    verdict.assert_nothing_lost(size.count)
    assert [account.stats["delivered"] + account.stats["duplicate"] for account in verdict.last.values()] == [
        size.count
    ]


@sizes(runs=5)
@pytest.mark.parametrize("name", FAULTS)
def test_a_process_that_ends_meanwhile(
    make_trial: Callable[..., Trial], proxy: Proxy, name: str, size: Size, *, spool: bool
) -> None:
    """A process that ends while the collector is not well leaves everything in its spool, or says what it has lost."""
    fault = FAULTS[name]
    trial = make_trial(proxy.url, spool=spool, ANALYTICS_EXIT_TIMEOUT=str(lasts(fault, size) / 3))
    begin(fault, proxy)
    assert trial.run("normal") == 0
    cure(fault, proxy)
    if spool:
        trial.adopt()
        trial.verdict().assert_nothing_lost(size.count)
    else:
        trial.verdict().assert_losses_reported(size.count, exactly=not fault.stores)
