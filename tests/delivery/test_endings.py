"""Whatever end a process comes to: with a spool nothing is lost, without one the loss is exactly what it reports."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import attrs
import pytest

from tests.delivery.trial import Size, Trial, sizes
from tests.programs import Collector

SIGTERM, SIGKILL = signal.SIGTERM, signal.SIGKILL


@attrs.frozen
class Ending:
    """How a host is brought to its end.

    Attributes:
        host: What the host does (tests/delivery/host.py).
        code: Its exit code; below zero: the signal that ended it.
        signum: Sent once everything is tracked.
        options: Options of the SDK.
        is_told: Whether it waits for being told to end, also after the signal.
    """

    host: str
    code: int = 0
    signum: int | None = None
    options: tuple[str, ...] = ()
    is_told: bool = False


OURS = ("HANDLE_SIGTERM",)

ENDINGS = {
    "normal": Ending("normal"),
    "sys.exit": Ending("sys.exit", code=3),
    "exception": Ending("exception", code=1),
    "handler of the host": Ending("wait with a handler", code=7, signum=SIGTERM),
}

KILLS = {
    "os._exit": Ending("os._exit", code=5),
    "SIGTERM": Ending("wait", code=-SIGTERM, signum=SIGTERM),
    "SIGTERM handled": Ending("wait", code=-SIGTERM, signum=SIGTERM, options=OURS),
    "SIGTERM handled, then by the host": Ending("wait with a handler", code=7, signum=SIGTERM, options=OURS),
    "SIGTERM handled, then ignored": Ending("wait ignoring", signum=SIGTERM, options=OURS, is_told=True),
    "kill -9": Ending("wait", code=-SIGKILL, signum=SIGKILL),
    "kill -9 after threads": Ending("wait after threads", code=-SIGKILL, signum=SIGKILL),
    "fork and exit": Ending("fork and exit"),
    "fork and os._exit": Ending("fork and os._exit"),
    "multiprocessing fork": Ending("multiprocessing fork"),
    "multiprocessing spawn": Ending("multiprocessing spawn"),
}


def bring_about(trial: Trial, ending: Ending) -> int:
    """Run a host to its end; returns its exit code."""
    options = {f"ANALYTICS_{name}": "1" for name in ending.options}
    with trial.host(ending.host, **options) as host:
        if ending.signum is not None:
            host.wait_until_tracked()
            time.sleep(trial.size.delay)  # no waiting for anything: it is the moment of the fault that varies
            host.signal(ending.signum)
        return host.end() if ending.is_told else host.wait()


def check(make_trial: Callable[..., Trial], collector: Collector, ending: Ending, *, spool: bool) -> None:
    """Run a host to its end, let another one adopt its spool, and compare the books."""
    trial = make_trial(collector.url, spool=spool, ANALYTICS_EXIT_TIMEOUT="10")
    assert bring_about(trial, ending) == ending.code
    if spool:
        trial.adopt()
    if spool or ending.options == OURS:
        trial.verdict().assert_nothing_lost(trial.size.count)
    else:
        trial.verdict().assert_losses_reported(trial.size.count)


@sizes(runs=5)
@pytest.mark.parametrize("name", ENDINGS)
def test_ends(make_trial: Callable[..., Trial], collector: Collector, name: str, size: Size, *, spool: bool) -> None:
    """A process that ends by itself has delivered everything; at the least it knows what it has not."""
    check(make_trial, collector, ENDINGS[name], spool=spool)


@sizes(runs=20)
@pytest.mark.parametrize("name", KILLS)
def test_kills_and_forks(
    make_trial: Callable[..., Trial], collector: Collector, name: str, size: Size, *, spool: bool
) -> None:
    """What a process accepted before it was killed or forked arrives once, with a spool; never twice without one."""
    check(make_trial, collector, KILLS[name], spool=spool)
