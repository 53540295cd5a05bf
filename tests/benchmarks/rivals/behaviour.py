"""What becomes of events when a process ends, a server hangs, a value is odd, or a connection breaks."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.benchmarks.common.table import Table

from .contestant import Contestant
from .lineup import OWNS, RIVALS
from .program import SCENES
from .sink import Sink
from .worker import environment

PATIENCE: Final = 30.0  # seconds until a process that does not end is killed
AT_ONCE: Final = {"hang": 12}  # these only wait; of the others, 3 at a time

FLAGS: Final = {
    "exit": ["--delay=0.3"],
    "hang": ["--hang"],
    "sigterm": ["--delay=0.3"],
    "kill": ["--delay=0.3"],
    "nan": ["--strict"],
    "drop": ["--drop"],
    "reset": ["--reset"],
}
SIGNALS: Final = {"sigterm": signal.SIGTERM, "kill": signal.SIGKILL}


@dataclass(frozen=True, kw_only=True)
class Fate:
    """What was found.

    Attributes:
        tracked: Whether the program came to the end of its `track()` calls.
        ended: Whether it ended by itself in time.
        raised: Whether the SDK raised something into it.
        seconds: From the first `track()` to its end.
        lost: Events that the sink does not have; after the next start, for those who keep something for it.
        again: Rows that it has more than once.
    """

    tracked: bool
    ended: bool
    raised: bool
    seconds: float
    lost: int
    again: int


def table(disk: Path) -> Table:
    """Play all scenes with everyone."""
    made = Table(title="When things go wrong", text=TEXT, header=["", *(title for title, _ in CELLS.values())])
    contestants = {**OWNS, **RIVALS}
    fates = {scene: everyone(scene, contestants, disk) for scene in CELLS}
    for name, one in contestants.items():
        cells = [said(fates[scene][name], tell) for scene, (_, tell) in CELLS.items()]
        failed = [fate for scene in CELLS if isinstance(fate := fates[scene][name], str)]
        if len(failed) == len(CELLS):
            made.absent[one.label] = failed[0]
        else:
            made.rows.append([one.label, *cells])
    return made


def said(fate: Fate | str, tell: Callable[[Fate], str]) -> str:
    """One cell."""
    return f"not run: {fate}" if isinstance(fate, str) else tell(fate)


def everyone(scene: str, contestants: dict[str, Contestant], disk: Path) -> dict[str, Fate | str]:
    """One scene with everyone, several at a time."""
    with ThreadPoolExecutor(AT_ONCE.get(scene, 3)) as pool:
        fates = pool.map(lambda name: play(name, contestants[name], scene, disk), contestants)
        return dict(zip(contestants, fates, strict=True))


def play(name: str, one: Contestant, scene: str, disk: Path) -> Fate | str:
    """One scene with one contestant; a text says why it could not be played."""
    with Sink(*FLAGS[scene]) as sink, tempfile.TemporaryDirectory(dir=disk) as folder:
        program = Program(name, sink.url, Path(folder), scene)
        if not program.waits(lambda: program.said("ready")):
            return program.last_words()
        began = time.monotonic()
        tracked = program.waits(lambda: program.said("tracked"))
        if tracked and scene in SIGNALS:
            program.process.send_signal(SIGNALS[scene])
        ended = tracked and program.waits(program.ended)
        seconds = time.monotonic() - began
        raised = program.said("raised")
        program.kill()
        if one.spools:
            sink.ask("heal")
            following = Program(name, sink.url, Path(folder), "again")
            following.waits(following.ended)
            following.kill()
        found = sink.found(name)
    lost, again = SCENES[scene] - found["distinct"], found["rows"] - found["distinct"]
    return Fate(tracked=tracked, ended=ended, raised=raised, seconds=seconds, lost=lost, again=again)


class Program:
    """The host, as a process.

    Args:
        name: The contestant.
        url: Where the sink is.
        folder: For its spool and what it prints.
        scene: What it plays.
    """

    def __init__(self, name: str, url: str, folder: Path, scene: str) -> None:
        self._out, self._err = folder / f"{scene}.out", folder / f"{scene}.err"
        command = [sys.executable, "-m", "tests.benchmarks.rivals.program", name, url, str(folder / "spool"), scene]
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(command, stdout=out, stderr=err, env=environment())

    def said(self, word: str) -> bool:
        """Whether it printed the word."""
        return word in self._out.read_text()

    def ended(self) -> bool:
        """Whether it has ended."""
        return self.process.poll() is not None

    def waits(self, done: Callable[[], bool]) -> bool:
        """Whether something becomes true in time; it does not if the process has ended before."""
        until = time.monotonic() + PATIENCE
        while not (happened := done()) and time.monotonic() < until and not self.ended():
            time.sleep(0.01)
        return happened or done()

    def kill(self) -> None:
        """End it, whatever it is doing."""
        self.process.kill()
        self.process.wait()

    def last_words(self) -> str:
        """What it complained about last."""
        return self._err.read_text().strip().rpartition("\n")[2].partition(";")[0]


def leaving(fate: Fate) -> str:
    """How long the end took and what it cost."""
    if not fate.tracked:
        return f"track() hangs > {PATIENCE:.0f} s"
    return f"{counted(fate)}, {f'{fate.seconds:.1f}' if fate.ended else f'> {PATIENCE:.0f}'} s"


def counted(fate: Fate) -> str:
    """Lost and repeated rows."""
    again = f", {fate.again} again" if fate.again else ""
    return f"{fate.lost} lost{again}{', raises' if fate.raised else ''}"


CELLS: Final[dict[str, tuple[str, Callable[[Fate], str]]]] = {
    "exit": ("script ends, 1,000", leaving),
    "hang": ("server hangs, 1,000", leaving),
    "sigterm": ("SIGTERM, 45", counted),
    "kill": ("kill -9, 1,000", counted),
    "nan": ("one NaN in 20", counted),
    "drop": ("reset before stored, 45", counted),
    "reset": ("reset after stored, 45", counted),
}

TEXT: Final = f"""\
Everyone in the default configuration; each cell is one run of a program of its own. Events lost, events that the server
has more than once, and the seconds from the first `track()` to the end of the process. *raises*: into the host.

* *script ends*: 1,000 events, then the end of the script, without `flush()`; the server takes 0.3 s for an answer.
* *server hangs*: the same, but it never answers; killed after {PATIENCE:.0f} s.
* *SIGTERM*, *kill -9*: right after the last `track()`; 0.3 s for an answer.
* *one NaN*: among 20 events, then `flush()`. The server refuses what is not JSON, as real ones do.
* *reset*: 45 events and `flush()`; the server resets the first connection instead of answering, before it has stored
  the batch or after. The rows that it gets *again* carry their first ids: a server can drop them. Ours does, by its
  primary key and without a limit in time; that is what "exactly once" rests on.

With a spool, what counts is what the server has after the next start with the same directory. The rivals keep nothing
for a next start."""
