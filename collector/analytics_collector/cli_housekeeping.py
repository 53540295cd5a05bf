"""`analytics-collector housekeeping`: the jobs by hand, and when they last ran."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

import attrs
import click

from . import console, housekeeping
from .config import Settings
from .housekeeping import JOBS, Job, LastRun, Run


@click.command(name="housekeeping")
@click.argument("names", metavar="[JOB]...", nargs=-1, type=click.Choice([job.name for job in JOBS]))
@click.option("--list", "listed", is_flag=True, help="Run nothing; show all jobs and their last runs.")
@console.as_json
@click.pass_context
def housekeeping_command(context: click.Context, names: Sequence[str], *, listed: bool, as_json: bool) -> None:
    """Run JOBs now, or all of them. Writing may go on meanwhile; exit code 1 if one fails.

    Running collectors do this by themselves, one of all. By hand it is for those with ANALYTICS_HOUSEKEEPING_SECONDS=0,
    and for the impatient. Retention and the like are settings (see docs/configuration.md).

    \b
    end_idle_sessions     End sessions in which nothing happens any more
    empty_default         Move rows out of the DEFAULT partition
    make_partitions       Make the coming months' partitions
    drop_old_partitions   Drop months that are older than retention
    trim_rejects          Forget old rejects
    pack_indexes          Pack the indexes of months that are over
    trim_quotas           Forget what keys sent on days gone by
    """  # noqa: D301  # click wants a backspace there, not a backslash
    settings = Settings.from_env()
    with closing(console.connection()) as connection:
        if listed:
            _show(housekeeping.last_runs(connection), as_json=as_json)
            return
        done = []
        for job in JOBS:
            if not names or job.name in names:
                done.append(housekeeping.run_by_hand(connection, job, settings))
                _tell(done[-1], as_json=as_json)
    if as_json:
        click.echo(console.as_line([attrs.asdict(run) for run in done]))
    context.exit(1 if any(run.failed for run in done) else 0)


def _tell(run: Run, *, as_json: bool) -> None:
    if not as_json:
        click.echo(f"{run.name:<20} {run.outcome} ({run.seconds:.1f} s)")


def _show(last: Mapping[str, LastRun], *, as_json: bool) -> None:
    if as_json:
        click.echo(console.as_line([_columns(job, last.get(job.name)) for job in JOBS]))
        return
    for job in JOBS:
        click.echo(f"{job.name:<20} every {_span(job.period):<6} {_ending(last.get(job.name))}")


def _columns(job: Job, last: LastRun | None) -> dict[str, Any]:
    return {
        "name": job.name,
        "description": job.description,
        "period_seconds": job.period,
        "started_at": last and last.started_at,
        "finished_at": last and last.finished_at,
        "outcome": last and last.outcome,
        "failures": last.failures if last else 0,
    }


def _ending(last: LastRun | None) -> str:
    if last is None:
        return "has never run"
    if last.finished_at is None:
        return f"began {last.started_at:%Y-%m-%d %H:%M:%S} and has not ended"
    return f"{last.finished_at:%Y-%m-%d %H:%M:%S}  {last.outcome}"


def _span(seconds: int) -> str:
    return f"{seconds // 3600} h" if seconds >= 3600 else f"{seconds // 60} min"
