"""Whom the server runs as, and the data directory that belongs to that user.

Postgres refuses to run as root. Root therefore runs it as the owner of the data directory, or as nobody.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs

from analytics_collector.exceptions import EmbeddedPostgresError

if sys.platform != "win32":
    import pwd

LOCK_NAME = "analytics.lock"


@attrs.frozen
class Account:
    """The user of the server's processes."""

    uid: int
    gid: int
    name: str

    @property
    def options(self) -> dict[str, Any]:
        """The keywords that make subprocess change the user: none unless we are root."""
        if os.geteuid() != 0:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def give(self, target: int | Path) -> None:
        """Make this user the owner of a file or folder of ours."""
        if os.geteuid() != 0:
            return
        if isinstance(target, int):
            os.fchown(target, self.uid, self.gid)
        else:
            # Not chown: somebody could put a link in the place of a folder that is theirs.
            os.lchown(target, self.uid, self.gid)

    def may(self, test: str, path: Path) -> bool:
        """Ask the kernel, as this user, whether `test -r`, `-w` or `-x` holds for a path."""
        command = ["/bin/sh", "-c", f'test -{test} "$1"', "sh", str(path)]
        return subprocess.run(command, check=False, cwd="/", **self.options).returncode == 0  # noqa: S603


def default_data_dir() -> Path:
    """Return the folder that is used when none is named: one for each user, one for root."""
    if os.geteuid() == 0:
        return Path("/var/lib/analytics-sdk/postgres")
    base = os.environ.get("XDG_DATA_HOME", "")
    # The XDG specification: a relative path is to be ignored.
    share = Path(base) if Path(base).is_absolute() else Path.home() / ".local" / "share"
    return share / "analytics-sdk" / "postgres"


def account_for(data_dir: Path) -> Account:
    """Return the user that runs the server: ourselves; for root the owner of the folder, else nobody."""
    if os.geteuid() != 0:
        return Account(uid=os.geteuid(), gid=os.getegid(), name=str(os.geteuid()))
    uid = data_dir.stat().st_uid if data_dir.exists() else 0
    try:
        entry = pwd.getpwuid(uid) if uid else pwd.getpwnam("nobody")
    except KeyError:
        # initdb looks its user up and fails without an entry.
        who = f"uid {uid}, the owner of {data_dir}," if uid else "'nobody'"
        raise EmbeddedPostgresError(f"Postgres does not run as root, and {who} is not in the user database.") from None
    return Account(uid=entry.pw_uid, gid=entry.pw_gid, name=entry.pw_name)


def prepare_data_dir(data_dir: Path, account: Account) -> None:
    """Make the data directory, or check that an existing one is empty or of our making.

    Raises:
        EmbeddedPostgresError: The folder is used for something else, or the server could not reach it.
    """
    if os.geteuid() == 0:
        _check_reachable(data_dir, account)
    _make_folders(data_dir)
    _adopt(data_dir, account)


def _check_reachable(data_dir: Path, account: Account) -> None:
    """Name the folder that keeps the server's user out; opening it to that user is not our decision."""
    folders = [path for path in data_dir.parents if path.is_dir()]
    if account.may("x", folders[0]):
        return
    closed = next(path for path in reversed(folders) if not account.may("x", path))
    raise EmbeddedPostgresError(
        f"Postgres does not run as root but as {account.name!r}, who may not enter {closed}: "
        f"choose a data directory outside of it, such as {default_data_dir()}."
    )


def _make_folders(data_dir: Path) -> None:
    """Make the folder and its missing parents, which root opens whatever the umask: they are ours."""
    for folder in reversed([path for path in (data_dir, *data_dir.parents) if not path.exists()]):
        folder.mkdir(exist_ok=True, mode=0o700 if folder == data_dir else 0o755)
        if folder != data_dir and os.geteuid() == 0:
            folder.chmod(0o755)


def _adopt(data_dir: Path, account: Account) -> None:
    if any(data_dir.iterdir()) and not (data_dir / LOCK_NAME).exists():
        raise EmbeddedPostgresError(
            f"{data_dir} is not empty and not a data directory of analytics-sdk: choose another folder."
        )
    if os.geteuid() == 0 and data_dir.stat().st_uid == 0:
        account.give(data_dir)
    # Whoever can enter can connect: this mode is the server's only lock.
    if data_dir.stat().st_mode & 0o777 != 0o700:
        data_dir.chmod(0o700)
