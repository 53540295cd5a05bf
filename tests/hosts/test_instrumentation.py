"""The host's instrumentation sees the host's requests, and none of ours."""

from __future__ import annotations

import psycopg
import pytest

from tests.programs import Collector
from tests.sdk.scripts import run_script
from tests.sdk.test_fork import stored_ids

# The SDK sends in its thread, in the caller's (where there is no thread), and as it closes.
SEND = """
from contextlib import nullcontext


def send(host=nullcontext):
    client = analytics_sdk.Client(flush_interval=60)
    with host():
        ids = [client.track("in the thread") for _ in range(30)]
        client.flush()
        without_thread = analytics_sdk.Client(flush_interval=61)
        without_thread._engine.worker._start = lambda: None
        ids.append(without_thread.track("here"))
        without_thread.flush()
        assert without_thread._engine.worker.is_running is False
        ids.append(client.track("at the end"))
        client.close()
    tell(ids=ids)


def ask():
    import httpx
    httpx.get(os.environ["ANALYTICS_URL"] + "/healthz")
"""

OPENTELEMETRY = """
from opentelemetry import trace
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
HTTPXClientInstrumentor().instrument()


def spans():
    return [span.name for span in exporter.get_finished_spans()]
"""

SENTRY = """
import sentry_sdk
import sentry_sdk.transport
from sentry_sdk.integrations.httpx import HttpxIntegration
from sentry_sdk.integrations.stdlib import StdlibIntegration

sent = []


class Kept(sentry_sdk.transport.Transport):
    def capture_envelope(self, envelope):
        sent.extend(item.payload.json for item in envelope.items)


sentry_sdk.init("http://key@127.0.0.1:9/1", traces_sample_rate=1.0, transport=Kept,
                integrations=[HttpxIntegration(), StdlibIntegration()])


def host():
    return sentry_sdk.start_transaction(name="host")


def seen():
    sentry_sdk.capture_message("look")
    crumbs = [crumb for event in sent for crumb in event.get("breadcrumbs", {}).get("values", [])]
    spans = [span["op"] for event in sent for span in event.get("spans", [])]
    return len([crumb for crumb in crumbs if crumb["type"] == "http"]), spans
"""


@pytest.mark.parametrize("when", ["before the import", "after the import"])
def test_opentelemetry(collector: Collector, connection: psycopg.Connection, when: str) -> None:
    """Our requests give no spans, in whichever thread they are made; the host's own ones still do."""
    source = """
send(lambda: trace.get_tracer("host").start_as_current_span("host"))
tell(ids=[], spans=spans())
ask()
tell(ids=[], spans=spans())
"""
    before, after = (OPENTELEMETRY, "") if when == "before the import" else ("", OPENTELEMETRY)
    ran = run_script(after + SEND + source, collector.url, before=before)
    assert (ran.code, ran.stderr) == (0, "")
    assert [facts["spans"] for facts in ran.told[1:]] == [["host"], ["host", "GET"]]
    assert stored_ids(connection) == ran.ids


def test_sentry(collector: Collector, connection: psycopg.Connection) -> None:
    """Our requests give neither breadcrumbs nor spans; the host's own ones still give both."""
    source = """
send(host)
tell(ids=[], seen=seen())
with host():
    ask()
tell(ids=[], seen=seen())
"""
    ran = run_script(SEND + source, collector.url, before=SENTRY)
    assert (ran.code, ran.stderr) == (0, "")
    before, after = (facts["seen"] for facts in ran.told[1:])
    assert before == [0, []]
    assert after[0] > 0
    assert after[1] == ["http.client"]
    assert stored_ids(connection) == ran.ids


def test_logging(collector: Collector, connection: psycopg.Connection) -> None:
    """At level INFO, httpx says nothing of our requests, but does of the host's."""
    source = """
logging.root.setLevel(logging.INFO)
send()
os.write(2, b"--\\n")
ask()
"""
    ran = run_script(SEND + source, collector.url)
    ours, hosts = ran.stderr.split("--\n")
    assert (ran.code, ours) == (0, "")
    assert "INFO httpx HTTP Request: GET" in hosts
    assert stored_ids(connection) == ran.ids
