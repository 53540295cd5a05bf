"""Inherit the orphans of a killed owner, never wait for them, and start again over the zombie of its server.

adopter.py DATA_DIR

What init does in a container that has none: a killed postmaster stays a zombie for ever.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from analytics_collector import embedded

PR_SET_CHILD_SUBREAPER = 36


def main(data_dir: str) -> None:
    """Run the program."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    command = [sys.executable, str(Path(__file__).with_name("owner.py")), data_dir]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        owner.stdout.readline()
        zombie = int((Path(data_dir) / "pgdata" / "postmaster.pid").read_text().split()[0])
        os.kill(zombie, signal.SIGKILL)
        owner.kill()
    with embedded.start(data_dir) as server:
        state = Path(f"/proc/{zombie}/stat").read_text().rpartition(")")[2].split()[0]
        print(json.dumps({"dsn": server.dsn, "owner": server.owner, "state": state}), flush=True)
        sys.stdin.readline()


if __name__ == "__main__":
    main(*sys.argv[1:])
