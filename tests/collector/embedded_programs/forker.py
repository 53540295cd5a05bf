"""Own a server, fork children that end in every way, and say whether the server outlived them.

forker.py DATA_DIR
"""

from __future__ import annotations

import json
import os
import sys

from analytics_collector import embedded


def child(server: embedded.Server, manner: str) -> None:
    """End as a forked worker might."""
    if manner == "stop":
        server.stop()
        os._exit(0)
    if manner == "_exit":
        os._exit(0)
    assert not server.owner
    assert server.alive()
    sys.exit(0)  # runs the functions of atexit that the parent registered


def main(data_dir: str) -> None:
    """Run the program."""
    server = embedded.start(data_dir)
    codes = []
    for manner in ("stop", "_exit", "exit"):
        pid = os.fork()
        if pid == 0:
            child(server, manner)
        codes.append(os.waitpid(pid, 0)[1])
    print(json.dumps({"dsn": server.dsn, "codes": codes, "alive": server.alive()}), flush=True)
    # One more child outlives us and must not hold the data directory.
    if os.fork() == 0:
        os.closerange(0, 3)
        os.read(int(sys.argv[2]), 1)
        os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
