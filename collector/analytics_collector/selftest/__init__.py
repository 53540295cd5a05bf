"""A trial of the whole collector on the user's own machine and Postgres, with faults if they are wanted.

`run()` starts a real collector on a schema of its own, lets several senders write to it, makes things fail meanwhile,
and compares what was sent with what is stored. It ends with a `Ledger`; nothing of it stays behind.
"""

from ._ledger import Ledger, report
from ._trial import Plan, run

__all__ = ["Ledger", "Plan", "report", "run"]
