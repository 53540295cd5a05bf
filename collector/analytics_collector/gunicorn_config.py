"""gunicorn's configuration; `analytics-collector serve` runs exactly this.

By hand: `gunicorn -c python:analytics_collector.gunicorn_config "analytics_collector.app:create_app()"`.
"""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import signal
import sys
import tempfile
from types import FrameType
from typing import Any, Final

from gunicorn import glogging

from . import logs
from .config import Settings
from .worker import Worker

_settings = Settings.from_env()

bind = _settings.bind
workers = _settings.workers
threads = _settings.threads
worker_class = Worker
timeout = 30  # seconds without a sign of life before a worker is replaced
graceful_timeout = 20  # seconds that requests in flight have to finish after SIGTERM
keepalive = 75  # seconds; longer than the SDK pauses between two batches, so it keeps its connection
worker_tmp_dir = None
# gunicorn >= 25.1 opens a control socket below $HOME, shared by all instances of a user and missing in containers.
control_socket_disable = True


# Where the workers count, for `metrics`: before anything imports that, also with --preload; and never a folder that was
# there before, as what another run or another program counted would be added.
_counts: Final = tempfile.mkdtemp(prefix="analytics-metrics-")
_maker: Final = os.getpid()
os.environ["PROMETHEUS_MULTIPROC_DIR"] = _counts


def on_starting(server: Any) -> None:
    """Let the workers write where they count, should they be another user than the one who starts them."""
    if os.geteuid() == 0:
        os.chown(_counts, server.cfg.uid, server.cfg.gid)


_ENDS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


def post_fork(server: Any, _: Any) -> None:
    """Let a worker end that is asked to before gunicorn gives it handlers of its own.

    Until then it has the master's, which put what comes into a queue that nobody reads in the worker: the master would
    wait for it in vain, for all of `graceful_timeout`.
    """
    for number in _ENDS:
        signal.signal(number, _end)
    while not server.SIG_QUEUE.empty():
        if server.SIG_QUEUE.get_nowait() in _ENDS:
            sys.exit()


def _end(_: int, __: FrameType | None) -> None:
    sys.exit()


def pre_exec(server: Any) -> None:
    """Become the next master, at SIGUSR2, as `serve` became this one.

    gunicorn would run its own `__main__.py` as a script, from a folder whose `http` hides Python's.
    """
    server.START_CTX["args"] = [sys.executable, "-m", "gunicorn", *sys.argv[1:]]


def on_exit(_: Any) -> None:
    """Remove what was counted: the next run counts from zero, as Prometheus expects."""
    shutil.rmtree(_counts, ignore_errors=True)


def _remove_unused() -> None:
    if os.getpid() == _maker:  # and not in the workers, which end before
        shutil.rmtree(_counts, ignore_errors=True)


atexit.register(_remove_unused)  # for a run that never starts, as with --check-config


class Logger(glogging.Logger):  # type: ignore[misc]
    """gunicorn's own words, ours, and those of libraries such as psycopg's pool, in one format on stderr."""

    def setup(self, cfg: Any) -> None:
        """Prepare the loggers; again at a reload."""
        super().setup(cfg)
        formatter = logs.formatter(_settings.log_format)
        for handler in self.error_log.handlers:
            handler.setFormatter(formatter)
        logging.getLogger().handlers = list(self.error_log.handlers)
        logging.getLogger("analytics_collector").setLevel(_level)


_level: Final = logging.INFO if _settings.log_format == "json" else logging.WARNING
logger_class = Logger
