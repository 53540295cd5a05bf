"""The application of `web_app`, which still tracks when the server forks: a thread would be in the midst of sending."""

from __future__ import annotations

import time

from tests.delivery.diary import track
from tests.hosts.web_app import app

__all__ = ["app"]

for _ in range(100):
    track()
    time.sleep(0.001)  # lets a thread run, if there is one
