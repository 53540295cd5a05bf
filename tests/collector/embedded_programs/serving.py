"""Own a server and run gunicorn on it with four workers that are recycled all the time.

serving.py DATA_DIR PORT

The arrangement of `analytics-collector dev`: Ctrl-C goes to the whole group, SIGTERM only to this process.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg

from analytics_collector import embedded


def main(data_dir: str, port: str) -> int:
    """Run the program and return gunicorn's exit code."""
    with embedded.start(data_dir) as server:
        with psycopg.connect(server.dsn) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS kept (n int)")
        gunicorn = subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--log-level", "error"),
                *("--workers", "4", "--threads", "2", "--max-requests", "20", "application:app"),
                # A worker that is being born when SIGTERM comes may miss it; gunicorn waits so long and then ends it.
                *("--graceful-timeout", "5"),
                *("--config", str(Path(__file__).with_name("gunicorn_settings.py"))),
            ],
            cwd=Path(__file__).parent,
            env={**os.environ, "TEST_DSN": server.dsn},
            preexec_fn=embedded.die_with_parent(signal.SIGTERM),
        )
        signal.signal(signal.SIGTERM, lambda *_: gunicorn.terminate())
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        print(json.dumps({"dsn": server.dsn, "gunicorn": gunicorn.pid}), flush=True)
        return gunicorn.wait()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
