"""A real Celery application whose tasks track; the broker is a folder."""

from __future__ import annotations

import os
from pathlib import Path

import celery

from tests.delivery.diary import analytics_sdk, track

analytics_sdk.init()  # as applications do: before the worker forks

folder = Path(os.environ["DELIVERY_BROKER"])
for name in ("messages", "control"):
    (folder / name).mkdir(parents=True, exist_ok=True)

app = celery.Celery("delivery", broker="filesystem://")
app.conf.broker_transport_options = {
    "data_folder_in": str(folder / "messages"),
    "data_folder_out": str(folder / "messages"),
    "control_folder": str(folder / "control"),
}
app.conf.worker_prefetch_multiplier = 1


@app.task
def work(count: int) -> None:
    """Track so many events."""
    track(count)
