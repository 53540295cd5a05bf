"""Whatever the disk does to the spool: events go on from memory, and nothing is lost without being reported."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable

import pytest

from tests.delivery.proxy import Proxy
from tests.delivery.trial import Size, Trial, sizes
from tests.programs import Collector

MOUNT = 'mount -t tmpfs -o "$0" none "$ANALYTICS_SPOOL" && exec "$@"'


def on_its_own_disk(trial: Trial, options: str) -> list[str]:
    """The command that gives a host a file system of its own for its spool, as root or as an ordinary user.

    It ends with the host: nobody can adopt what is left on it.
    """
    assert trial.spool is not None
    trial.spool.mkdir()
    unshare = shutil.which("unshare")
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = [unshare or "unshare", *user, "--mount", "sh", "-c", MOUNT, options]
    if unshare is None or subprocess.run([*command, "true"], env=trial.settings(), capture_output=True).returncode:
        pytest.skip("this kernel lets us mount nothing: neither as root nor in a namespace of our own")
    return command


@sizes(runs=5)
def test_a_disk_that_is_full(make_trial: Callable[..., Trial], collector: Collector, size: Size) -> None:
    """What the disk does not take any more is sent from memory; one line says so."""
    trial = make_trial(collector.url, spool=True, ANALYTICS_EXIT_TIMEOUT="10")
    command = on_its_own_disk(trial, f"size={size.count * 50}")  # room for a quarter of it
    assert trial.run("normal", None, *command) == 0
    trial.verdict().assert_nothing_lost(size.count)
    assert trial.log.count("No space left on device") == trial.log.count("WARNING analytics_sdk") == 1


@sizes(runs=5)
def test_a_disk_that_is_full_while_the_collector_is_down(
    make_trial: Callable[..., Trial], proxy: Proxy, size: Size
) -> None:
    """What neither the disk nor the collector takes is lost, and exactly that is reported."""
    trial = make_trial(proxy.url, spool=True, ANALYTICS_EXIT_TIMEOUT="0.3")
    script = '"$@"; cp -r "$ANALYTICS_SPOOL" "$ANALYTICS_SPOOL.copy"'  # what is left on a disk that ends with its host
    keep = ["sh", "-c", script, "sh"]
    command = [*on_its_own_disk(trial, f"size={size.count * 50}"), *keep]
    proxy.down()
    assert trial.run("normal", None, *command) == 0
    proxy.up()
    assert trial.spool is not None
    trial.spool = trial.spool.with_name("spool.copy")
    (account,) = trial.verdict().last.values()
    assert account.stats["spooled"] > size.count // 20
    assert account.reported > size.count // 20
    trial.adopt()
    verdict = trial.verdict()
    verdict.assert_books_balance()
    assert len(verdict.lost) == account.reported == verdict.logged


@sizes(runs=5)
def test_a_file_that_may_not_grow(make_trial: Callable[..., Trial], collector: Collector, size: Size) -> None:
    """A limit on the size of files (ulimit -f) is like a full disk, and SIGXFSZ does not end the host."""
    trial = make_trial(collector.url, spool=True, ANALYTICS_EXIT_TIMEOUT="10", DELIVERY_FILE_LIMIT=str(size.count * 60))
    assert trial.run("normal") == 0
    trial.adopt()
    trial.verdict().assert_nothing_lost(size.count)


@sizes(runs=5)
def test_a_disk_that_is_read_only(make_trial: Callable[..., Trial], collector: Collector, size: Size) -> None:
    """A spool that cannot be written at all is one line in the log, and events are sent from memory."""
    trial = make_trial(collector.url, spool=True, ANALYTICS_EXIT_TIMEOUT="10")
    command = on_its_own_disk(trial, "ro")
    assert trial.run("normal", None, *command) == 0
    trial.verdict().assert_nothing_lost(size.count)
    assert trial.log.count("Read-only file system") == trial.log.count("WARNING analytics_sdk") == 1


@sizes(runs=5)
def test_a_folder_that_may_not_be_written(make_trial: Callable[..., Trial], collector: Collector, size: Size) -> None:
    """The same for a folder of somebody else's; for root, who may write everywhere, a file in the folder's place."""
    trial = make_trial(collector.url, spool=True, ANALYTICS_EXIT_TIMEOUT="10")
    assert trial.spool is not None
    if os.geteuid() == 0:
        trial.spool.write_bytes(b"")
    else:
        trial.spool.mkdir(mode=0o500)
    assert trial.run("normal") == 0
    trial.verdict().assert_nothing_lost(size.count)
    assert trial.log.count("WARNING analytics_sdk") == 1


@sizes(runs=5)
def test_a_spool_at_its_bound(make_trial: Callable[..., Trial], proxy: Proxy, size: Size) -> None:
    """A spool never grows beyond max_spool_bytes; what does not fit is lost at the end, and that is reported."""
    bound = size.count * 60
    trial = make_trial(proxy.url, spool=True, ANALYTICS_EXIT_TIMEOUT="0.3", ANALYTICS_MAX_SPOOL_BYTES=str(bound))
    proxy.down()
    assert trial.run("normal") == 0
    proxy.up()
    assert trial.spool is not None
    assert bound // 2 < sum(path.stat().st_size for path in trial.spool.iterdir()) <= bound
    (account,) = trial.verdict().last.values()
    trial.adopt()
    verdict = trial.verdict()
    verdict.assert_books_balance()
    assert len(verdict.lost) == account.reported == verdict.logged > 0
