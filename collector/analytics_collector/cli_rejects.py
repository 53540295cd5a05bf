"""The commands `rejects` and `replay`: look at what was refused, and try it again."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from datetime import datetime

import attrs
import click

from . import browser, keys, records, rejects
from .batch import Batch
from .committer import Committer
from .config import Settings
from .console import as_json, as_line, connection, moment
from .db import Database
from .gate import Gate
from .rejects import Outcome, Replay, Selection

_NO_LIMIT = sys.maxsize

codes = click.option(
    "--code", "codes", multiple=True, type=click.Choice(records.REASONS), help="Only this reason; may be repeated."
)
since = click.option(
    "--since", metavar="ISO", callback=moment, help="Only what arrived then or later; without a zone it is UTC."
)


@click.command(name="rejects")
@codes
@since
@click.option("--show", type=click.IntRange(0), default=0, help="Print so many of them as well, the newest first.")
@as_json
def rejects_command(codes: tuple[str, ...], since: datetime | None, show: int, as_json: bool) -> None:
    """Count the refused records by reason, kind and key."""
    selection = _selection(codes, since)
    with connection() as opened:
        found = rejects.groups(opened, selection)
        shown = rejects.newest(opened, selection, show) if show else []
    if as_json:
        click.echo(as_line({"groups": [attrs.asdict(group) for group in found], "rejects": list(map(_row, shown))}))
        return
    for line in [*map(_group_line, found), *map(_reject_lines, shown)]:
        click.echo(line)
    click.echo(f"{sum(group.rejects for group in found)} records were refused; `replay` tries them again.")


@click.command(name="replay")
@codes
@since
@click.option("--limit", type=click.IntRange(1), default=_NO_LIMIT, show_default="all", help="Most records to try.")
@click.option("--dry-run", is_flag=True, help="Only judge them; Postgres is not asked, and nothing changes.")
@as_json
def replay_command(codes: tuple[str, ...], since: datetime | None, limit: int, dry_run: bool, as_json: bool) -> None:
    """Try refused records again, after what they were refused for has changed.

    What is stored is no reject any longer; what is still refused stays, with its present reason. Safe to repeat, to
    interrupt, and to run twice at once.
    """
    settings = Settings.from_env().require_database()
    with _database(settings) as database:
        replay = Replay(database, Committer(database), judge=_judge(settings, database), store=not dry_run)
        outcome = _watched(replay, database, _selection(codes, since), limit)
    click.echo(as_line(attrs.asdict(outcome)) if as_json else _sentence(outcome, dry_run=dry_run))


def _watched(replay: Replay, database: Database, selection: Selection, limit: int) -> Outcome:
    """Run a replay, with a bar on stderr if that is a terminal."""
    found, until = rejects.count(database, selection)
    outcome = Outcome()
    with click.progressbar(length=min(found, limit), label="Replaying", file=sys.stderr) as bar:
        for part in replay.run(selection, until, limit):
            outcome += part
            bar.update(part.read)
    return outcome


@contextlib.contextmanager
def _database(settings: Settings) -> Iterator[Database]:
    patience = settings.database_patience_seconds
    with contextlib.closing(Database(settings.database_url, connections=1, patience=patience)) as database:
        yield database


def _judge(settings: Settings, database: Database) -> rejects.Judge:
    """As ingestion does, with the tracking plan as it is now.

    What a browser key may say depends on when it said it; where from, nobody knows any longer.
    """
    gate = Gate.of(settings)
    browsers = {key.name for key in database.run(keys.listing) if key.kind == "browser"}

    def judge(reject: rejects.Stored, now: datetime) -> Batch:
        batch = rejects.judge(reject, now)
        if reject.key_name in browsers:
            batch = browser.restrict(batch, None, reject.received_at)
        return gate.screen(batch, now)

    return judge


def _selection(codes: tuple[str, ...], since: datetime | None) -> Selection:
    chosen = Selection(codes=codes or None)
    return chosen if since is None else attrs.evolve(chosen, since=since)


def _sentence(outcome: Outcome, *, dry_run: bool) -> str:
    refused = ", ".join(f"{code} {number}" for code, number in outcome.refused.items())
    still = f"; still refused are {sum(outcome.refused.values())} ({refused})" if refused else ""
    if dry_run:
        return f"{outcome.stored} of {outcome.read} would be given to Postgres{still}."
    return f"{outcome.stored} of {outcome.read} are stored, {outcome.duplicates} of them were already{still}."


def _group_line(group: rejects.Group) -> str:
    return (
        f"{group.rejects:>9} {group.code:<16} {group.kind:<8} {group.key_name:<24}"
        f" {group.oldest:%Y-%m-%d %H:%M} to {group.newest:%Y-%m-%d %H:%M}"
    )


def _reject_lines(reject: rejects.Stored) -> str:
    return (
        f"\n{reject.received_at.isoformat()} {reject.kind} from {reject.key_name}\n"
        f"  {reject.code}: {reject.message}\n  {_text(reject)}"
    )


def _row(reject: rejects.Stored) -> dict[str, object]:
    return attrs.asdict(reject) | {"record": _text(reject)}


def _text(reject: rejects.Stored) -> str:
    """The record as it can be shown: control characters would reach the terminal."""
    return "".join(
        mark if mark.isprintable() else "\N{REPLACEMENT CHARACTER}" for mark in reject.record.decode(errors="replace")
    )
