"""gunicorn's configuration; `analytics-collector serve` runs exactly this.

By hand: `gunicorn -c python:analytics_collector.gunicorn_config "analytics_collector.app:create_app()"`.
"""

from __future__ import annotations

from .config import Settings

_settings = Settings.from_env()

bind = _settings.bind
workers = _settings.workers
threads = _settings.threads
worker_class = "analytics_collector.gatherer.Gatherer"  # gthread, but a slow client costs no thread
timeout = 30  # seconds without a sign of life before a worker is replaced
graceful_timeout = 20  # seconds that requests in flight have to finish after SIGTERM
keepalive = 75  # seconds; longer than the SDK pauses between two batches, so it keeps its connection
worker_tmp_dir = None
# gunicorn >= 25.1 opens a control socket below $HOME, shared by all instances of a user and missing in containers.
control_socket_disable = True
