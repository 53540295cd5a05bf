"""`python -m tests.chaos`: the chaos run and its ledger; exit code 0 only if nothing is lost, stored twice or wrong."""

from __future__ import annotations

import argparse
import random
import signal
import sys

from tests.chaos.run import Size, perform
from tests.chaos.verdict import Verdict


def report(verdict: Verdict) -> str:
    """The ledger."""
    counts = {**verdict.counts, "hosts_killed": verdict.kills, "broken_posted": verdict.broken}
    lines = [f"{name.replace('_', ' '):<28}{count:>12,}" for name, count in counts.items()]
    return "\n".join(
        [*lines, "", *(verdict.faults or ["Lost 0, duplicated 0, wrong 0; every refused record is kept."])]
    )


def main() -> None:
    """Read the options, and do a run."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("The run was asked to end."))  # and so nothing stays behind
    size = Size(given.events, given.seconds, given.seed)
    print(size, flush=True)
    verdict = perform(size, lambda line: print(line, flush=True))
    print(f"\n{report(verdict)}")
    sys.exit(1 if verdict.faults else 0)


if __name__ == "__main__":
    main()
