"""Runs everything and prints the tables: `python -m tests.benchmarks.rivals`, for about five minutes."""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.benchmarks.common.awake import awake
from tests.benchmarks.common.page import write
from tests.benchmarks.common.table import Table

from . import behaviour, tables
from .lineup import versions

TABLES: Final[dict[str, Callable[[Path], Table]]] = {
    "caller": tables.caller_table,
    "delivery": tables.delivery_table,
    "threads": tables.threads_table,
    "memory": tables.memory_table,
    "imports": tables.imports_table,
    "behaviour": behaviour.table,
}


def main() -> None:
    """Print the tables, and write them into a page if there is one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", help=f"only these of {', '.join(TABLES)}")
    parser.add_argument("--disk", type=Path, default=Path(), help="where the spools go; this directory by default")
    parser.add_argument("--page", type=Path, help="write the tables into this page, too")
    arguments = parser.parse_args()
    parts = [where(arguments.disk)]
    print(parts[0], flush=True)
    for name in arguments.tables or TABLES:
        began = time.monotonic()
        with awake() if name != "behaviour" else nullcontext():
            parts.append(str(TABLES[name](arguments.disk)))
        print(f"\n{parts[-1]}\n({time.monotonic() - began:.0f} s)", flush=True)
    if arguments.page:
        write(arguments.page, "rivals", "\n".join(parts))


def where(disk: Path) -> str:
    """What was measured, when and where."""
    system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    machine = f"{os.cpu_count()} cores, {system}; spools on {file_system(disk)}"
    return f"{datetime.now(UTC):%Y-%m-%d}: {machine}.\n\n{versions()}.\n"


def file_system(folder: Path) -> str:
    """The kind of file system, for instance ext4."""
    place = folder.resolve()
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    kinds = {Path(point): kind for _, point, kind, *_ in mounts}
    return next(kinds[folder] for folder in (place, *place.parents) if folder in kinds)


if __name__ == "__main__":
    main()
