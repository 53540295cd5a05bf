"""The SDKs of others, each as its own documentation says to use it from many places of a program."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from .contestant import LONG, MANY, Purpose, Tracker
from .event import TYPE, USER

Orders = Iterable[dict[str, Any]]


def track_each(client: Any, orders: Orders) -> None:
    """Track one event for each order, as Segment's client and those with its signature do."""
    for data in orders:
        client.track(USER, TYPE, data)


def open_posthog(url: str, purpose: Purpose, spool: str) -> Tracker:
    """posthog.Posthog."""
    import posthog

    options: dict[Purpose, dict[str, Any]] = {
        "waiting": {"flush_at": MANY, "flush_interval": LONG, "max_queue_size": MANY},
        "sending": {"max_queue_size": MANY},
        "default": {},
    }
    client = posthog.Posthog("key", host=url, disable_geoip=False, **options[purpose])

    def burst(orders: Orders) -> None:
        for data in orders:
            client.capture(TYPE, distinct_id=USER, properties=data)

    return Tracker(burst=burst, drain=lambda: client.flush(timeout_seconds=60))


# These two have no flush that ends the wait for a full batch, so "waiting" is a short wait here.
SEGMENT: dict[Purpose, dict[str, Any]] = {
    "waiting": {"max_queue_size": MANY, "upload_interval": 0.05},
    "sending": {"max_queue_size": MANY, "upload_interval": 0.05},
    "default": {},
}


def open_segment(url: str, purpose: Purpose, spool: str) -> Tracker:
    """segment.analytics.Client."""
    from segment.analytics.client import Client

    client = Client("key", host=url, **SEGMENT[purpose])
    return Tracker(burst=partial(track_each, client), drain=client.flush)


def open_rudder(url: str, purpose: Purpose, spool: str) -> Tracker:
    """rudderstack.analytics.client.Client."""
    from rudderstack.analytics.client import Client

    client = Client("key", host=url, **SEGMENT[purpose])
    return Tracker(burst=partial(track_each, client), drain=client.flush)


def open_mixpanel(url: str, purpose: Purpose, spool: str) -> Tracker:
    """mixpanel.Mixpanel with its BufferedConsumer, which sends every 50 events in the caller's thread."""
    import mixpanel

    consumer = mixpanel.BufferedConsumer(events_url=f"{url}/track")
    client = mixpanel.Mixpanel("token", consumer)
    return Tracker(burst=partial(track_each, client), drain=consumer.flush)


def open_amplitude(url: str, purpose: Purpose, spool: str) -> Tracker:
    """amplitude.Amplitude; that something arrived is known from its callback only."""
    import amplitude

    options: dict[Purpose, dict[str, Any]] = {
        "waiting": {"flush_queue_size": MANY, "flush_interval_millis": int(LONG * 1000)},
        "sending": {},
        "default": {},
    }
    answered: list[int] = []
    tracked: list[int] = [0]
    config = amplitude.Config(
        server_url=f"{url}/2/httpapi", callback=lambda _, code, __: answered.append(code), **options[purpose]
    )
    client = amplitude.Amplitude("key", config)

    def burst(orders: Orders) -> None:
        for data in orders:
            client.track(amplitude.BaseEvent(TYPE, user_id=USER, event_properties=data))
            tracked[0] += 1

    def drain() -> None:
        client.flush()
        until = time.monotonic() + 60
        while len(answered) < tracked[0] and time.monotonic() < until:
            time.sleep(0.005)

    return Tracker(burst=burst, drain=drain)


def open_snowplow(url: str, purpose: Purpose, spool: str) -> Tracker:
    """snowplow_tracker.Tracker with the AsyncEmitter, events of its own type "self-describing"."""
    from snowplow_tracker import AsyncEmitter, SelfDescribing, SelfDescribingJson, Subject
    from snowplow_tracker import Tracker as Client

    options: dict[Purpose, dict[str, Any]] = {
        "waiting": {"batch_size": MANY, "buffer_capacity": MANY},
        "sending": {"batch_size": 100, "buffer_capacity": MANY},  # it is 10 by default
        "default": {},
    }
    where = urlsplit(url)
    emitter = AsyncEmitter(str(where.hostname), protocol="http", port=where.port, **options[purpose])
    client = Client("bench", emitter, subject=Subject().set_user_id(USER), encode_base64=False)

    def burst(orders: Orders) -> None:
        for data in orders:
            client.track(SelfDescribing(SelfDescribingJson("iglu:com.example/purchase/jsonschema/1-0-0", data)))

    return Tracker(burst=burst, drain=client.flush)


def open_opentelemetry(url: str, purpose: Purpose, spool: str) -> Tracker:
    """A log record of the OpenTelemetry SDK, over OTLP/HTTP."""
    from opentelemetry._logs import LogRecord, SeverityNumber
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    options: dict[Purpose, dict[str, Any]] = {
        "waiting": {"max_queue_size": MANY, "max_export_batch_size": MANY, "schedule_delay_millis": LONG * 1000},
        "sending": {"max_queue_size": MANY},
        "default": {},
    }
    provider = LoggerProvider()
    processor = BatchLogRecordProcessor(OTLPLogExporter(f"{url}/v1/logs"), **options[purpose])
    provider.add_log_record_processor(processor)
    logger = provider.get_logger("bench")

    def burst(orders: Orders) -> None:
        for data in orders:
            record = LogRecord(
                timestamp=time.time_ns(),
                severity_number=SeverityNumber.INFO,
                body=TYPE,
                event_name=TYPE,
                attributes=data,
            )
            logger.emit(record)

    return Tracker(burst=burst, drain=provider.force_flush)


def open_sentry(url: str, purpose: Purpose, spool: str) -> Tracker:
    """sentry_sdk.logger: structured logs are what Sentry has for events that are no errors."""
    import sentry_sdk
    from sentry_sdk import logger
    from sentry_sdk._log_batcher import LogBatcher

    if purpose != "default":
        LogBatcher.MAX_BEFORE_DROP = MANY  # no option lifts its bound of 1,000
    if purpose == "waiting":
        LogBatcher.MAX_BEFORE_FLUSH, LogBatcher.FLUSH_WAIT_TIME = MANY, LONG
    queue = {} if purpose == "default" else {"transport_queue_size": MANY}
    sentry_sdk.init(
        url.replace("http://", "http://key@") + "/1",
        enable_logs=True,
        default_integrations=purpose == "default",  # the one that flushes at exit is among them
        auto_enabling_integrations=False,
        **queue,
    )

    def burst(orders: Orders) -> None:
        for data in orders:
            logger.info(TYPE, attributes=data)

    return Tracker(burst=burst, drain=lambda: sentry_sdk.flush(timeout=60))
