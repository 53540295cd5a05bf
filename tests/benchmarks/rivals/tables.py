"""The tables of figures, from the contests."""

from __future__ import annotations

import statistics
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.benchmarks.common.table import Table

from . import caller, delivery, imports, memory, threads
from .caller import quantile
from .contest import Results, take_turns
from .lineup import ALL, FLOOR, FLOORS, OURS, RIVALS, SPOOL
from .sink import Sink
from .worker import AbsentError, Worker

BOTH: Final = (OURS, SPOOL)
POSTING: Final = tuple(name for name in FLOORS if name != FLOOR)


def fill(table: Table, results: Results, line: Callable[[str], list[str]]) -> Table:
    """One row for each contestant, in the order of the line-up."""
    table.rows += [[ALL[name].label, *line(name)] for name in ALL if name in results.turns]
    table.absent |= results.absent
    return table


def caller_table(disk: Path) -> Table:
    """What a call costs its thread."""
    names = (FLOOR, *BOTH, *RIVALS)
    results = take_turns("caller", names, "waiting", caller.ROUNDS, caller.CALLS, disk)
    shares = {"batches": (0.5,), "singles": (0.99, 0.999)}

    def costs(name: str) -> list[float]:
        return [quantile(results.all(name, what), share) for what, of in shares.items() for share in of]

    floor = costs(FLOOR)

    def line(name: str) -> list[str]:
        found = costs(name)
        ratios = [f"{found[at] / floor[at]:.2f}" for at in (0, 2)]
        return [*(f"{one:.1f}" for one in found), *ratios, "" if name == FLOOR else results.arrived[name]]

    header = ["CPU microseconds of a call", "p50", "p99", "p99.9", "p50 / floor", "p99.9 / floor", "delivered"]
    return fill(Table(title="The caller's cost", text=CALLER, header=header), results, line)


def delivery_table(disk: Path) -> Table:
    """What an event costs the process."""
    names = (*POSTING, *BOTH, *RIVALS)
    results = take_turns("delivery", names, "sending", delivery.ROUNDS, delivery.EVENTS, disk)

    def line(name: str) -> list[str]:
        cpu, wall = (statistics.median(results.all(name, what)) for what in ("cpu", "wall"))
        return [f"{ALL[name].batch}", f"{cpu:.1f}", f"{wall:.1f}", results.arrived[name]]

    header = ["microseconds an event", "batch", "CPU", "wall", "delivered"]
    return fill(Table(title="Delivered", text=DELIVERY, header=header), results, line)


def threads_table(disk: Path) -> Table:
    """Throughput of 8 threads."""
    names = [name for name in ("http_client_d", "httpx_d", *BOTH, *RIVALS) if ALL[name].threads]
    events = threads.THREADS * threads.EVENTS
    results = take_turns("threads", names, "sending", threads.ROUNDS, events, disk)
    results.absent |= {one.label: "not made for threads" for one in RIVALS.values() if not one.threads}

    def line(name: str) -> list[str]:
        accepted, delivered, cpu = (
            statistics.median(results.all(name, what)) for what in ("accepted", "delivered", "cpu")
        )
        return [f"{cpu:.1f}", f"{accepted:,.0f}", f"{delivered:,.0f}", results.arrived[name]]

    header = ["8 threads", "CPU us an event", "accepted a second", "delivered a second", "delivered"]
    return fill(Table(title="From 8 threads", text=THREADS, header=header), results, line)


def memory_table(disk: Path) -> Table:
    """What waits in memory."""
    table = Table(title="Memory", text=MEMORY, header=["bytes of a waiting event", "resident", "traced", "on the wire"])
    encoded = encoded_bytes(disk)
    for name in (FLOOR, *BOTH, *RIVALS):
        one = ALL[name]
        if one.holds:
            table.absent[one.label] = f"never lets more than {one.holds} wait"
            continue
        try:
            resident, traced = (waiting_bytes(name, traced, disk) for traced in (False, True))
        except AbsentError as why:
            table.absent[one.label] = str(why)
            continue
        ratio = f"{resident / encoded:.2f} x {encoded:.0f}" if name in BOTH else ""
        table.rows.append([one.label, f"{resident:,.0f}", f"{traced:,.0f}", ratio])
    return table


def waiting_bytes(name: str, traced: bool, disk: Path) -> float:
    """One fresh process."""
    with (
        Sink("--hang") as sink,
        tempfile.TemporaryDirectory(dir=disk) as spool,
        Worker(name, "waiting", sink.url, spool) as worker,
    ):
        return float(worker.ask("memory", traced=traced)["bytes"])


def encoded_bytes(disk: Path) -> float:
    """What an event of ours has on the wire."""
    with Sink() as sink, Worker(OURS, "sending", sink.url, str(disk)) as worker:
        worker.ask("delivery", start=memory.WARM)
        found = sink.found(OURS)
    return found["bytes"] / found["rows"]


def imports_table(disk: Path) -> Table:
    """What the start costs."""
    header = ["a fresh interpreter", "import, CPU ms", "modules", "to the first delivered, CPU ms"]
    table = Table(title="Import", text=IMPORTS, header=header)
    names = [name for name, one in ALL.items() if one.module]
    taken: dict[str, list[tuple[float, int, float]]] = {name: [] for name in names}
    with Sink() as sink, tempfile.TemporaryDirectory(dir=disk) as spool:
        for _ in range(imports.RUNS):
            for name in names:
                taken[name].append(imports.start_once(name, ALL[name].module, sink.url, spool))
    for name in names:
        spent, modules, first = (statistics.median(column) for column in zip(*taken[name], strict=True))
        table.rows.append(
            [ALL[name].label.removesuffix(", 500 a batch"), f"{spent:.0f}", f"{modules:.0f}", f"{first:.0f}"]
        )
    return table


def paragraph(text: str) -> str:
    """One paragraph in lines of equal length: the numbers in it are not known when it is written."""
    return textwrap.fill(" ".join(text.split()), 118)


CALLER: Final = paragraph(f"""
CPU time of the calling thread. p50 is of {caller.ROUNDS * caller.BATCHES:,} batches of {caller.BATCH} calls; p99 and
p99.9 are of {caller.ROUNDS * caller.SINGLES:,} single calls, each timed alone. What the clock and the empty loop cost
is subtracted. Everything is delivered between the turns, and nothing before where the SDK allows that: Segment and
Rudder send all the time, and Mixpanel sends in the caller's thread whenever 50 events wait.
""")

DELIVERY: Final = paragraph(f"""
CPU time of all threads of the process, from the first `track()` until {delivery.EVENTS:,} events are acknowledged; the
median of {delivery.ROUNDS} turns. Batches are everyone's own default, but for Snowplow's, which is 10.
""")

THREADS: Final = paragraph(f"""
{threads.THREADS} threads track {threads.EVENTS:,} events each while delivery goes on; {threads.ROUNDS} turns, medians.
*accepted*: until the last `track()` has returned; *delivered*: until all is acknowledged. The floors post from each of
the threads, so with them both are the same.
""")

MEMORY: Final = paragraph(f"""
What each of {memory.EVENTS:,} further events takes while they wait, in a fresh process whose server does not answer.
*resident*: what the process has more; *traced*: what Python's allocators have handed out; *on the wire*: *resident* as
a multiple of the event's bytes in a request, before gzip.
""")

IMPORTS: Final = paragraph(f"""
Medians of {imports.RUNS} fresh interpreters, in turns. The last column is the import, the client and one event until
it is delivered, all threads: some import their HTTP client only then. So does analytics-sdk, in its own thread.
""")
