"""Who takes part."""

from __future__ import annotations

import importlib.metadata
import platform

from . import floors, others, ours
from .contestant import Contestant

FLOOR = "floor"
OURS = "ours"
SPOOL = "ours_spool"
TERMINATING = "ours_sigterm"

OWN = "analytics-sdk"

# The names are a-z and _ only: they go into the events.
FLOORS = {
    FLOOR: Contestant(
        label="floor: dict, uuid4, time, deque", package="", module="", batch=0, opener=floors.open_floor
    ),
    "http_client_c": Contestant(
        label="floor: http.client, 100 a batch", package="", module="", batch=100, opener=floors.http_client_100
    ),
    "http_client_d": Contestant(
        label="floor: http.client, 500 a batch",
        package="",
        module="http.client",
        batch=500,
        opener=floors.http_client_500,
    ),
    "httpx_c": Contestant(
        label="floor: httpx, 100 a batch", package="httpx", module="", batch=100, opener=floors.httpx_100
    ),
    "httpx_d": Contestant(
        label="floor: httpx, 500 a batch", package="httpx", module="httpx", batch=500, opener=floors.httpx_500
    ),
}
OWNS = {
    OURS: Contestant(label="**analytics-sdk**", package=OWN, module="analytics_sdk", batch=500, opener=ours.open_ours),
    SPOOL: Contestant(
        label="**analytics-sdk, spool=DIR**",
        package=OWN,
        module="",
        batch=500,
        opener=ours.open_spooling,
        spools=True,
    ),
    TERMINATING: Contestant(
        label="**analytics-sdk, handle_sigterm**", package=OWN, module="", batch=500, opener=ours.open_terminating
    ),
}
RIVALS = {
    "posthog": Contestant(label="posthog", package="posthog", module="posthog", batch=100, opener=others.open_posthog),
    "segment": Contestant(
        label="segment",
        package="segment-analytics-python",
        module="segment.analytics",
        batch=100,
        opener=others.open_segment,
    ),
    "rudder": Contestant(
        label="rudder",
        package="rudder-sdk-python",
        module="rudderstack.analytics",
        batch=100,
        opener=others.open_rudder,
    ),
    "mixpanel": Contestant(
        label="mixpanel, BufferedConsumer",
        package="mixpanel",
        module="mixpanel",
        batch=50,
        opener=others.open_mixpanel,
        holds=50,
        threads=False,
    ),
    "amplitude": Contestant(
        label="amplitude", package="amplitude-analytics", module="amplitude", batch=200, opener=others.open_amplitude
    ),
    "snowplow": Contestant(
        label="snowplow, AsyncEmitter",
        package="snowplow-tracker",
        module="snowplow_tracker",
        batch=100,
        opener=others.open_snowplow,
    ),
    "opentelemetry": Contestant(
        label="opentelemetry logs, OTLP/HTTP",
        package="opentelemetry-sdk",
        module="opentelemetry.sdk._logs.export, opentelemetry.exporter.otlp.proto.http._log_exporter",
        batch=512,
        opener=others.open_opentelemetry,
    ),
    "sentry": Contestant(
        label="sentry logs", package="sentry-sdk", module="sentry_sdk", batch=100, opener=others.open_sentry
    ),
}
ALL = {**FLOORS, **OWNS, **RIVALS}


def versions() -> str:
    """Python's and every package's version."""
    packages = sorted({one.package for one in ALL.values() if one.package})
    found = [f"{package} {importlib.metadata.version(package)}" for package in packages]
    return ", ".join([f"{platform.python_implementation()} {platform.python_version()}", *found])
