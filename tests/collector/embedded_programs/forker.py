"""Own a server, fork children that end in every way, and say whether the server outlived them.

forker.py DATA_DIR

A last child stays when the program ends, without stop(), until standard input is closed.
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
    # One more child outlives us, until its standard input ends, and must not hold the data directory.
    left = os.fork()
    if left == 0:
        os.read(0, 1)
        os._exit(0)
    print(json.dumps({"left": left}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
