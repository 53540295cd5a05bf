"""The entry point, which says what to install when the collector's own packages are missing."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command `analytics-collector`."""
    try:
        from .cli import main as command
    except ModuleNotFoundError as error:
        sys.exit(
            f"analytics-collector needs {error.name}, which the plain SDK does not install.\n"
            "Install it with: pip install 'analytics-sdk[collector]'"
        )
    command(prog_name="analytics-collector")


if __name__ == "__main__":
    main()
