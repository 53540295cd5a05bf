"""The commands `plan ...`: is a tracking plan right, and would the events that are stored pass it?"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import click

from . import plan as plans
from .console import as_json, as_line, connection
from .plan import Plan
from .sql import load

Judged = Counter[tuple[str, str | None]]
"""How many events there are of a type and a code; None is as planned."""


@attrs.frozen
class JudgedType:
    """How many stored events of a type are as planned, are of no planned type, and have wrong data."""

    event_type: str
    ok: int
    unknown_event: int
    invalid_data: int


@click.group(name="plan")
def plan_group() -> None:
    """Look at a tracking plan before it is in force."""


@plan_group.command(name="check")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--against-database", is_flag=True, help="Judge the newest stored events by it as well.")
@click.option("--last", type=click.IntRange(1), default=10_000, show_default=True, help="So many of them.")
@click.option("--days", type=click.IntRange(1), default=30, show_default=True, help="Not older than this.")
@as_json
@click.pass_context
def check_plan(
    context: click.Context, file: Path, *, against_database: bool, last: int, days: int, as_json: bool
) -> None:
    """Say whether the plan in FILE can be used; exit code 1 if stored events would fail it."""
    plan = plans.load(file)
    judged = _judge_stored(plan, last, datetime.now(UTC) - timedelta(days=days)) if against_database else Counter()
    failed = sum(count for (_, code), count in judged.items() if code)
    if as_json:
        click.echo(
            as_line(
                {
                    "event_types": len(plan.schemas),
                    "events": judged.total(),
                    "types": [attrs.asdict(row) for row in _rows(judged)],
                }
            )
        )
    else:
        click.echo(f"{file} is a tracking plan of {len(plan.schemas)} event types; others: {plan.unknown}.")
        for row in _rows(judged):
            click.echo(
                f"{row.event_type:<50} {row.ok:>8} as planned {row.unknown_event:>8} unknown"
                f" {row.invalid_data:>8} invalid"
            )
        if against_database:
            click.echo(f"{failed} of the newest {judged.total()} events would fail it.")
    context.exit(1 if failed else 0)


def _judge_stored(plan: Plan, last: int, since: datetime) -> Judged:
    judged: Judged = Counter()
    with connection() as opened, opened.transaction(), opened.cursor(name="plan_check") as cursor:
        for event_type, event_data in cursor.execute(load("cli_plan.newest_events"), {"limit": last, "since": since}):
            complaint = plan.judge(event_type, event_data.encode())
            judged[event_type, complaint and complaint[0]] += 1
    return judged


def _rows(judged: Judged) -> list[JudgedType]:
    """One row an event type, those that fail most first."""
    rows = [
        JudgedType(
            event_type,
            judged[event_type, None],
            judged[event_type, "unknown_event"],
            judged[event_type, "invalid_data"],
        )
        for event_type in sorted({event_type for event_type, _ in judged})
    ]
    return sorted(rows, key=lambda row: -row.unknown_event - row.invalid_data)
