"""Connections are spread over the workers."""

from __future__ import annotations

import socket
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from analytics_collector.peers import Peers
from tests.benchmarks.serving.usage import children_of
from tests.collector.batches import body, event
from tests.collector.test_crew import ask, hear
from tests.programs import run_collector, wait_until


def test_who_has_fewer() -> None:
    """A worker hears of others that have fewer by more than one, of itself and of one more it does not."""
    peers = Peers()
    peers.tell(1, 5, now=10)
    assert not peers.have_fewer(5, now=10)
    peers.tell(2, 4, now=10)
    assert not peers.have_fewer(5, now=10)
    peers.tell(2, 3, now=10)
    assert peers.have_fewer(5, now=10)
    assert not peers.have_fewer(3, now=10)


def test_who_has_ended_has_nothing() -> None:
    """What a worker told before it ended is soon of no account, and its slot is its heir's."""
    peers = Peers()
    peers.tell(1, 0, now=10)
    assert peers.have_fewer(5, now=12)
    assert not peers.have_fewer(5, now=13)
    peers.tell(257, 9, now=10)
    assert not peers.have_fewer(5, now=10)


@pytest.mark.parametrize("workers", [2, 3])
def test_clients_that_stay_are_spread(dsn: str, workers: int) -> None:
    """Of many clients that come at once and keep their connections, every worker has its part."""
    with run_collector(dsn, workers=workers) as collector, ExitStack() as stack:
        pids = children_of(collector.process.pid)
        wait_until(lambda: all(map(listens, pids)), what="all workers' being there")
        address = urlsplit(collector.url)
        here = (address.hostname or "", address.port or 0)
        clients = [stack.enter_context(socket.create_connection(here, 30)) for _ in range(60)]
        for number, client in enumerate(clients):
            ask(client, f"r{number}", body(events=[event(number)]))
        assert [hear(client)[0] for client in clients] == [200] * 60
        held = [connections(pid, here[1]) for pid in pids]
        assert sum(held) == 60
        assert min(held) >= 60 / workers / 2, held


def listens(pid: int) -> bool:
    """Whether a worker's loop looks at its queue of tasks and at the socket that all share."""
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        with suppress(FileNotFoundError):  # it starts, and closes what it has read
            if path.read_text().count("tfd:") >= 2:
                return True
    return False


def connections(pid: int, port: int) -> int:
    """How many connections on a port a process has."""
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    established = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "01"}
    return len(established & {str(descriptor.readlink()) for descriptor in Path(f"/proc/{pid}/fd").iterdir()})
