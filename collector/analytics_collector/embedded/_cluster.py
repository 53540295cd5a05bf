"""The database files: made once, complete or not there at all."""

from __future__ import annotations

import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from analytics_collector.exceptions import EmbeddedPostgresError

from ._process import launch

if TYPE_CHECKING:
    from ._account import Account
    from ._binaries import Binaries

_ASIDE = ".initdb-"


def cluster_of(data_dir: Path) -> Path:
    """Return the folder of the database files."""
    return data_dir / "pgdata"


def ensure_cluster(data_dir: Path, binaries: Binaries, account: Account) -> Path:
    """Return the folder of the database files after making or checking them. Call it with the lock held."""
    for leftover in data_dir.glob(f"{_ASIDE}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    cluster = cluster_of(data_dir)
    if cluster.exists():
        _check_version(cluster, binaries)
    else:
        _make(cluster, binaries, account)
    return cluster


def _check_version(cluster: Path, binaries: Binaries) -> None:
    made_by = (cluster / "PG_VERSION").read_text().strip()
    if made_by != str(binaries.major):
        raise EmbeddedPostgresError(
            f"{cluster.parent} was made by PostgreSQL {made_by}, and {binaries.folder} is PostgreSQL "
            f"{binaries.major}. Set ANALYTICS_POSTGRES_BIN to the programs of PostgreSQL {made_by} to keep "
            f"using it (or to carry it over with pg_dumpall), or move the folder away to begin anew."
        )


def _make(cluster: Path, binaries: Binaries, account: Account) -> None:
    """Run initdb in a folder aside and rename it: killed half way, it leaves nothing that looks complete."""
    words = ""
    for locale in _locales(binaries.major):
        aside = Path(tempfile.mkdtemp(prefix=_ASIDE, dir=cluster.parent))
        account.give(aside)
        words = _initdb(aside, locale, binaries, account)
        if not words:
            aside.rename(cluster)
            return
        shutil.rmtree(aside, ignore_errors=True)
        if "invalid locale name" not in words:
            break
    raise EmbeddedPostgresError(f"initdb failed: {words}")


def _locales(major: int) -> list[list[str]]:
    """Return initdb's options, best first: bytes order text and Unicode says what letters are, everywhere."""
    if major >= 17:
        return [["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]]
    return [["--locale=C", "--lc-ctype=C.UTF-8"], ["--locale=C"]]


def _initdb(aside: Path, locale: list[str], binaries: Binaries, account: Account) -> str:
    """Run initdb and return its words if it fails, an empty string if not."""
    command = [
        str(binaries.folder / "initdb"),
        *("--pgdata", str(aside)),
        *("--username", "postgres", "--auth", "trust", "--encoding", "UTF8"),
        *locale,
        # Half a second: a database of a developer need not survive a power cut in its first second.
        "--no-sync",
    ]
    with tempfile.TemporaryFile() as output:
        process = launch(command, account, log=output.fileno(), signum=signal.SIGTERM, environment={})
        try:
            code = process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
        output.seek(0)
        return output.read().decode(errors="replace") + f"(exit code {code})" if code else ""
