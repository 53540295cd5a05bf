"""`analytics-collector selftest`: the whole collector tried out on the user's own machine."""

from __future__ import annotations

import random
from typing import Final

import attrs
import click

from . import selftest
from .config import Settings
from .console import as_json, as_line
from .selftest import Plan, report

_CALM: Final = 5.0  # seconds
_CHAOS: Final = 30.0


@click.command(name="selftest")
@click.option("--chaos", is_flag=True, help="Make things fail meanwhile, again and again.")
@click.option(
    "--seconds",
    type=click.FloatRange(1),
    help=f"How long to send.  [default: {_CALM:.0f}; with --chaos {_CHAOS:.0f}]",
)
@click.option("--writers", type=click.IntRange(1, 64), default=4, show_default=True, help="Processes that send.")
@click.option("--seed", type=int, help="Of all chance, to repeat a trial.  [default: another one each time]")
@as_json
@click.pass_context
def selftest_command(
    context: click.Context, *, chaos: bool, seconds: float | None, writers: int, seed: int | None, as_json: bool
) -> None:
    """Try the collector out on this machine: is everything that was acknowledged stored, and stored once?

    Writers send events to a real collector of its own, some of them twice, late, out of order or broken. With --chaos
    workers are killed by kill -9, gunicorn is restarted, and connections are reset just before and just after
    COMMIT. Then what was sent is compared with what is stored; exit code 0 only if nothing is lost, stored twice
    or wrong.

    It uses the Postgres in ANALYTICS_DATABASE_URL, in a schema of its own, which it makes and drops again; it
    reads and writes nothing else there, but it does keep the server busy. Without that variable it brings a
    Postgres of its own, and kills that by kill -9, too.
    """
    plan = Plan(
        seconds=seconds or (_CHAOS if chaos else _CALM),
        senders=writers,
        seed=random.randrange(10**6) if seed is None else seed,
        chaos=chaos,
    )
    click.echo(f"Seed {plan.seed}; {plan.seconds:g} seconds, {plan.senders} writers.", err=True)
    ledger = selftest.run(plan, Settings.from_env().database_url, lambda line: click.echo(line, err=True))
    click.echo(as_line(attrs.asdict(ledger) | {"ok": ledger.holds}) if as_json else report(ledger))
    context.exit(0 if ledger.holds else 1)
