"""Start or join the server of a data directory, say so in one line of JSON, and wait to be ended.

owner.py DATA_DIR [hold | leave | thread]

hold: wait for a line on standard input, then stop.  leave: end at once, without stop().
thread: like hold, but start from a thread that has ended by then.
"""

from __future__ import annotations

import json
import sys
import threading

from analytics_collector import embedded


def main(data_dir: str, manner: str = "hold") -> None:
    """Run the program."""
    servers: list[embedded.Server] = []
    if manner == "thread":
        starter = threading.Thread(target=lambda: servers.append(embedded.start(data_dir)))
        starter.start()
        starter.join()
    else:
        servers.append(embedded.start(data_dir))
    (server,) = servers
    print(json.dumps({"dsn": server.dsn, "owner": server.owner, "version": server.version}), flush=True)
    if manner == "leave":
        return
    sys.stdin.readline()
    print(json.dumps({"alive": server.alive()}), flush=True)
    server.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
