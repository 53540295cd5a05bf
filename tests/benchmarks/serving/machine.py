"""What was measured, when and where."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

_PACKAGES: Final = ("analytics-sdk", "Flask", "gunicorn", "psycopg", "psycopg-pool", "msgspec", "Django")


def described(postgres: Iterable[str], load: float) -> str:
    """The day, the hardware, and everything's version.

    Args:
        postgres: The versions that were measured on.
        load: The load average before the run: what else the machine had to do.
    """
    system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    hardware = (
        f"{_cpu_model()}, {os.cpu_count()} cores, {_memory():.0f} GiB, {system}; load average before the run {load:.1f}"
    )
    packages = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in _PACKAGES)
    versions = f"Postgres {' and '.join(postgres)}, {platform.python_implementation()} {platform.python_version()}"
    return f"{datetime.now(UTC):%Y-%m-%d}: {hardware}.\n\n{versions}, {packages}.\n"


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def _memory() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
