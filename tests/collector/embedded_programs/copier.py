"""Start a server with binaries that its user cannot reach.

copier.py DATA_DIR BIN_DIR COPIES_DIR
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from analytics_collector import embedded
from analytics_collector.embedded import _binaries


def main(data_dir: str, bin_dir: str, copies: str) -> None:
    """Run the program."""
    _binaries._COPIES = Path(copies)
    with embedded.start(data_dir, bin_dir=bin_dir) as server:
        print(json.dumps({"dsn": server.dsn, "owner": server.owner}), flush=True)
        sys.stdin.readline()


if __name__ == "__main__":
    main(*sys.argv[1:])
