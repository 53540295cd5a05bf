"""The commands `keys ...`: make, list, limit, rotate and revoke the keys that open the collector."""

from __future__ import annotations

import click

from . import keys as registry
from .console import as_json, as_line, connection

NO_LIMIT = "0 is no limit."

rate = click.option("--rate", type=click.IntRange(0), help=f"Most records a second, over all workers; {NO_LIMIT}")
daily = click.option("--daily", type=click.IntRange(0), help=f"Most records a day, in UTC; {NO_LIMIT}")
origin = click.option("--origin", "origins", multiple=True, help="A web page's origin, for a browser key; repeat it.")


@click.group(name="keys")
def keys_group() -> None:
    """Make, list, limit, rotate and revoke the keys that open the collector."""


@keys_group.command(name="create")
@click.argument("name")
@click.option(
    "--kind",
    type=click.Choice(registry.KINDS),
    required=True,
    help="What it opens: write and browser write, read reads, admin does all. A browser key may be public.",
)
@rate
@daily
@origin
@as_json
def create_key(
    name: str, kind: registry.KeyKind, rate: int | None, daily: int | None, origins: tuple[str, ...], as_json: bool
) -> None:
    """Make the key NAME and print it, this once: only its sha256 is stored."""
    with connection() as opened:
        key = registry.create(opened, name, kind, rate=rate or None, daily=daily or None, origins=origins)
    click.echo(as_line({"name": name, "kind": kind, "key": key}) if as_json else key)


@keys_group.command(name="set")
@click.argument("name")
@rate
@daily
@origin
def set_key(name: str, rate: int | None, daily: int | None, origins: tuple[str, ...]) -> None:
    """Change the limits of the key NAME; what is not given stays. Running collectors notice within seconds."""
    if rate is None and daily is None and not origins:
        raise click.UsageError("Nothing to change: give --rate, --daily or --origin.")
    with connection() as opened:
        registry.limit(opened, name, rate=rate, daily=daily, origins=origins or None)
    click.echo(f"{name} is changed.")


@keys_group.command(name="rotate")
@click.argument("name")
@click.option(
    "--overlap-hours",
    type=click.FloatRange(0),
    default=24,
    show_default=True,
    help="So long the key of before opens as well.",
)
@as_json
def rotate_key(name: str, overlap_hours: float, as_json: bool) -> None:
    """Make a new key under NAME and print it, this once; the one of before goes on for a while."""
    with connection() as opened:
        key = registry.rotate(opened, name, overlap_hours * 3600)
    click.echo(as_line({"name": name, "key": key}) if as_json else key)


@keys_group.command(name="list")
@as_json
def list_keys(as_json: bool) -> None:
    """List all keys: name, kind, when made, limits, when revoked."""
    with connection() as opened:
        found = registry.listing(opened)
    if as_json:
        click.echo(as_line([_columns(key) for key in found]))
        return
    for key in found:
        state = "valid" if key.revoked_at is None else f"revoked {key.revoked_at:%Y-%m-%d %H:%M}"
        click.echo(f"{key.name:<24} {key.kind:<7} made {key.created_at:%Y-%m-%d %H:%M}  {state}{_limits(key)}")


@keys_group.command(name="revoke")
@click.argument("name")
def revoke_key(name: str) -> None:
    """Close the door to the key NAME, for good; running collectors notice within seconds."""
    with connection() as opened:
        registry.revoke(opened, name)
    click.echo(f"{name} is revoked.")


def _limits(key: registry.Key) -> str:
    said = [
        f"{key.rate} records/s" if key.rate else "",
        f"{key.daily} records/day" if key.daily else "",
        " ".join(key.origins),
        f"the key of before until {key.former_until:%Y-%m-%d %H:%M}" if key.former_sha256 and key.former_until else "",
    ]
    return "".join(f"  {part}" for part in said if part)


def _columns(key: registry.Key) -> dict[str, object]:
    names = ("name", "kind", "created_at", "revoked_at", "rate", "daily", "origins", "former_until")
    return {name: getattr(key, name) for name in names}
