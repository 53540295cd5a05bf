"""The command `analytics-collector`. Prints for people; `--json` prints for machines."""

from __future__ import annotations

import sys
from pathlib import Path

import attrs
import click
import psycopg

from . import adopt as adoption
from . import dev as development
from . import doctor as doctors
from . import migrate as migrations
from . import profiles, roles, serve
from .cli_housekeeping import housekeeping_command
from .cli_keys import keys_group
from .cli_plan import plan_group
from .cli_rejects import rejects_command, replay_command
from .cli_selftest import selftest_command
from .config import Settings
from .console import as_json
from .console import as_line as _json
from .console import connection as _connect
from .db import Connection, fault_of
from .exceptions import CollectorError
from .finding import report


class _Group(click.Group):
    """Shows what the collector says of a mistake as one sentence, never as a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except CollectorError as error:
            raise click.ClickException(_sentence(error)) from error
        except psycopg.Error as error:
            raise click.ClickException(_sentence_of_postgres(error)) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="analytics-sdk")
def main() -> None:
    """Collect product analytics into your own Postgres.

    \b
    Try it here and now:   analytics-collector dev
    In production:         export ANALYTICS_DATABASE_URL=postgresql://...
                           analytics-collector migrate
                           analytics-collector keys create --kind write web
                           analytics-collector serve
    """  # noqa: D301  # click wants a backspace there, not a backslash


main.add_command(keys_group)
main.add_command(plan_group)
main.add_command(rejects_command)
main.add_command(replay_command)
main.add_command(housekeeping_command)
main.add_command(selftest_command)


@main.command()
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="Folder of the Postgres.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port on 127.0.0.1; 0 picks a free one.",
)
@as_json
def dev(data: Path | None, port: int, as_json: bool) -> None:
    """Run everything here: Postgres, tables, keys and the collector. Ctrl-C ends it all.

    ANALYTICS_WRITE_KEY and ANALYTICS_READ_KEY become its keys if they are set; with ANALYTICS_DATABASE_URL it
    uses that Postgres and starts none.
    """
    if not as_json:
        click.echo("Starting Postgres and the collector ...", err=True)
    with development.running(data, port) as collector:
        click.echo(_describe(collector.ready, as_json=as_json))
        collector.wait()


@main.command(name="serve")
def serve_command() -> None:
    """Run the collector behind gunicorn, on ANALYTICS_DATABASE_URL (any Postgres from 15 up).

    Workers, threads and address: ANALYTICS_WORKERS, ANALYTICS_THREADS, ANALYTICS_BIND (see docs/configuration.md).
    """
    serve.run()


@main.command()
@click.option("--user-table", help="Tie users to your app's own table, for instance auth_user, by foreign keys.")
@click.option("--adopt", is_flag=True, help="Take over tables of these names that your app made, with their rows.")
@click.option("--grant-to", metavar="ROLE", help="Let this database role run the collector, and do nothing else.")
def migrate(user_table: str | None, adopt: bool, grant_to: str | None) -> None:
    """Bring the tables in ANALYTICS_DATABASE_URL to what this version needs. Safe to run again."""
    with _connect() as connection:
        if adopt:
            adoption.adopt(connection, click.echo)
        applied = migrations.apply(connection)
        for migration in applied:
            click.echo(f"Applied {migration.name}")
        if user_table:
            migrations.use_user_table(connection, user_table)
            click.echo(f"Users are those of {user_table}")
        if grant_to:
            roles.grant(connection, grant_to)
            click.echo(f"{grant_to} may run the collector")
    click.echo("The tables are up to date.")


@main.command()
@as_json
@click.pass_context
def verify(context: click.Context, as_json: bool) -> None:
    """Compare every profile with the rows; exit code 1 if one differs. Writing may go on meanwhile."""
    with _connect() as connection:
        wrong = _verify(connection)
    if as_json:
        click.echo(_json({"wrong": [attrs.asdict(profile) for profile in wrong]}))
    else:
        for profile in wrong:
            click.echo(f"user {profile.user_id}: stored {profile.stored}, counted {profile.counted}")
        click.echo(f"{len(wrong)} profiles differ; `rebuild` mends them." if wrong else "Every profile is exact.")
    context.exit(1 if wrong else 0)


@main.command()
def rebuild() -> None:
    """Make every profile what the rows say; writers wait until it is done."""
    with _connect() as connection:
        mended = profiles.rebuild(connection)
    click.echo(f"{mended} profiles were mended.")


def _verify(connection: Connection) -> list[profiles.WrongProfile]:
    if not sys.stderr.isatty():
        return profiles.verify(connection)
    with click.progressbar(length=1, label="Counting", file=sys.stderr) as bar:

        def show(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        return profiles.verify(connection, show)


@main.command()
@click.option("--url", default="", help="Where the collector runs, as its senders see it; looks at the proxy, too.")
@as_json
@click.pass_context
def doctor(context: click.Context, url: str, as_json: bool) -> None:
    """Say what is not as it should be in the database and on the way to it, and what to do; exit code 1 if it fails.

    Run it where the collector runs, with its settings. It stores nothing and prints no password.
    """
    findings = doctors.examine(Settings.from_env().require_database(), url)
    is_well = all(finding.status != "fail" for finding in findings)
    click.echo(_json({"ok": is_well, "findings": findings}) if as_json else report(findings))
    context.exit(0 if is_well else 1)


def _describe(ready: development.Ready, *, as_json: bool) -> str:
    if as_json:
        return _json(attrs.asdict(ready))
    return (
        f"\nCollector   {ready.url}\nWrite key   {ready.write_key}\nRead key    {ready.read_key}\n"
        f"Postgres    {ready.dsn}\n\nReady. Ctrl-C ends it all.\n"
    )


def _sentence(error: CollectorError) -> str:
    detail = getattr(error, "detail", "")
    return f"{error}: {detail}" if detail else str(error)


def _sentence_of_postgres(error: psycopg.Error) -> str:
    if fault_of(error) == "unmigrated":
        return "The database lacks our tables: run `analytics-collector migrate` first."
    first_line = str(error).partition("\n")[0]
    return f"Postgres says: {first_line}"
