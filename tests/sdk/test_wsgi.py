"""The WSGI middleware: what it records, what it lends to `track()`, and that the application never notices."""

from __future__ import annotations

import contextlib
import gc
import http.client
import io
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from http.cookies import Morsel, SimpleCookie
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import attrs
import flask
import pytest

import analytics_sdk
from analytics_sdk import Client, ConfigError
from analytics_sdk.testing import RecordingTransport
from analytics_sdk.wsgi import AnalyticsMiddleware
from tests.programs import wait_until

Make = Callable[..., Client]
Environ = dict[str, Any]

HTML = [("Content-Type", "text/html; charset=utf-8")]
JSON = [("Content-Type", "application/json")]
SESSION = "0123456789abcdefg"
COOKIE = {"HTTP_COOKIE": f"analytics_session={SESSION}"}


def browser(path: str = "/", **more: str) -> Environ:
    """What a server hands over for a page that a person opens, and whatever else is given."""
    environ: Environ = {"SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": ""}
    environ |= {"REMOTE_ADDR": "192.0.2.1", "HTTP_ACCEPT": "text/html", **more}
    setup_testing_defaults(environ)
    return environ


@attrs.frozen
class Answer:
    """What a server got from an application."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def cookies(self) -> list[Morsel[str]]:
        """The session cookies in it."""
        values = (value for name, value in self.headers if name == "Set-Cookie")
        return [cookie for value in values for cookie in SimpleCookie(value).values()]


def serve(app: Any, environ: Environ) -> Answer:
    """Do what a server does: call, iterate, close."""
    started: list[tuple[str, list[tuple[str, str]]]] = []
    written: list[bytes] = []

    def start_response(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Callable[[bytes], Any]:
        started.append((status, headers))
        return written.append

    iterable = app(environ, start_response)
    try:
        written += iterable
    finally:
        if hasattr(iterable, "close"):
            iterable.close()
    return Answer(*started[-1], b"".join(written))


@contextlib.contextmanager
def real_server(app: Any) -> Iterator[int]:
    """A real server with a thread for each connection; yields its port."""

    class Server(ThreadingMixIn, WSGIServer):
        daemon_threads = False

    class Quiet(WSGIRequestHandler):
        def log_message(self, *_: object) -> None:
            """The tests look at what was recorded."""

    with make_server("127.0.0.1", 0, app, server_class=Server, handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def get(port: int, path: str = "/", **headers: str) -> http.client.HTTPResponse:
    """The answer of a real server, read to its end."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("GET", path, headers={"Accept": "text/html", **headers})
        response = connection.getresponse()
        response.read()
        return response


def page(environ: Environ, start_response: Any) -> Iterable[bytes]:
    """An application that is one page."""
    start_response("200 OK", list(HTML))
    return [b"a page"]


def answering(status: str, headers: list[tuple[str, str]]) -> Any:
    """An application that always answers the same."""

    def app(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response(status, list(headers))
        return []

    return app


def tracking(environ: Environ, start_response: Any) -> Iterable[bytes]:
    """A script's endpoint that tracks a click with the default client."""
    analytics_sdk.track("click")
    start_response("200 OK", list(JSON))
    return [b"{}"]


class Body:
    """An iterable that counts how often it is closed."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = iter(chunks)
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks

    def close(self) -> None:
        """Count."""
        self.closed += 1


@attrs.frozen
class Recorder:
    """Looks at what was sent by now."""

    client: Client
    transport: RecordingTransport

    @property
    def events(self) -> list[dict[str, Any]]:
        """All events by now."""
        self.client.flush()
        return self.transport.events

    @property
    def sessions(self) -> list[dict[str, Any]]:
        """All session records by now."""
        self.client.flush()
        return self.transport.sessions

    @property
    def pages(self) -> list[dict[str, Any]]:
        """The data of all page views by now."""
        return [event["event_data"] for event in self.events if event["event_type"] == "page_view"]


@pytest.fixture
def recorded(client: Client, transport: RecordingTransport) -> Recorder:
    """What `client` sent."""
    return Recorder(client, transport)


@pytest.fixture
def default(no_default_client: None, transport: RecordingTransport) -> Recorder:
    """What the default client sent."""
    return Recorder(analytics_sdk.init(transport=transport, flush_interval=60), transport)


# The rules of WSGI


def streaming(environ: Environ, start_response: Any) -> Iterable[bytes]:
    """Starts the response, and makes its body later."""
    start_response("200 OK", list(HTML))
    return (part for part in (b"a ", b"page"))


def lazy(environ: Environ, start_response: Any) -> Iterable[bytes]:
    """Starts the response when its first part is asked for."""
    start_response("200 OK", list(HTML))
    yield b"a "
    yield b"page"


def writing(environ: Environ, start_response: Any) -> Iterable[bytes]:
    """Uses the `write()` of old."""
    write = start_response("200 OK", list(HTML))
    write(b"a ")
    write(b"page")
    return []


def recovering(environ: Environ, start_response: Any) -> Iterable[bytes]:
    """Changes its mind about the status."""
    start_response("200 OK", list(HTML))
    try:
        raise LookupError
    except LookupError as error:
        start_response("404 Not Found", list(HTML), (type(error), error, error.__traceback__))
    return [b"a ", b"page"]


def failing(environ: Environ, start_response: Any) -> Iterable[bytes]:
    """Raises before anything else."""
    raise LookupError("lost")


def failing_late(environ: Environ, start_response: Any) -> Iterable[bytes]:
    """Raises after the response has started."""
    start_response("200 OK", list(HTML))
    raise LookupError("lost")


def failing_midway(environ: Environ, start_response: Any) -> Iterable[bytes]:
    """Raises after the first part of the body."""
    start_response("200 OK", list(HTML))
    yield b"a "
    raise LookupError("lost")


@pytest.mark.parametrize("app", [page, streaming, lazy, writing, recovering])
def test_both_sides_of_the_middleware_follow_pep_3333(app: Any, recorded: Recorder) -> None:
    """The standard library's judge finds nothing, neither as our server nor as our application."""
    judged = validator(AnalyticsMiddleware(validator(app), recorded.client))
    assert serve(judged, browser()).body == b"a page"
    assert [seen["status"] for seen in recorded.pages] == [404 if app is recovering else 200]


@pytest.mark.parametrize("app", [failing, failing_late, failing_midway])
def test_the_applications_errors_go_on_to_the_server(app: Any, recorded: Recorder) -> None:
    """The server gets the very exception, and the page view says 500."""
    judged = validator(AnalyticsMiddleware(validator(app), recorded.client))
    with pytest.raises(LookupError, match="lost"):
        serve(judged, browser())
    assert [seen["status"] for seen in recorded.pages] == [500]


def test_an_answer_that_is_never_read_is_closed(recorded: Recorder) -> None:
    """A server that closes before the first part reaches the application's own close()."""
    body = Body(b"a page")
    judged = validator(AnalyticsMiddleware(validator(returning(body)), recorded.client))
    judged(browser(), lambda status, headers: lambda data: None).close()
    assert body.closed == 1
    assert len(recorded.pages) == 1


def test_a_lazy_answer_that_is_never_read_is_no_page_view(recorded: Recorder) -> None:
    """Nobody saw a page of which not even the status was made."""
    judged = validator(AnalyticsMiddleware(validator(lazy), recorded.client))
    judged(browser(), lambda status, headers: lambda data: None).close()
    assert recorded.events == []


def test_head_is_answered_and_not_counted(recorded: Recorder) -> None:
    """HEAD goes through the same rules, and shows nobody a page."""
    judged = validator(AnalyticsMiddleware(validator(answering("200 OK", HTML)), recorded.client))
    answer = serve(judged, browser(REQUEST_METHOD="HEAD"))
    assert (answer.body, answer.cookies, recorded.events) == (b"", [], [])


def returning(body: Any) -> Any:
    """An application that answers with this very body."""

    def app(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", list(HTML))
        return body  # type: ignore[no-any-return]

    return app


def test_the_body_is_closed_once(recorded: Recorder) -> None:
    """close() of the application's iterable is called as often as the server calls ours."""
    body = Body(b"a ", b"page")
    assert serve(AnalyticsMiddleware(returning(body), recorded.client), browser()).body == b"a page"
    assert body.closed == 1


def test_an_answer_that_is_closed_twice_is_one_page_view(recorded: Recorder) -> None:
    """A server that closes once more than it should changes nothing in what is recorded."""
    answer: Any = AnalyticsMiddleware(page, recorded.client)(browser(), lambda status, headers: None)
    answer.close()
    answer.close()
    assert len(recorded.pages) == 1


def test_a_close_that_raises_is_recorded_all_the_same(recorded: Recorder) -> None:
    """The page was seen by then; the error is the server's to handle."""

    class Closing(Body):
        def close(self) -> None:
            raise LookupError("lost")

    with pytest.raises(LookupError, match="lost"):
        serve(AnalyticsMiddleware(returning(Closing(b"a page")), recorded.client), browser())
    assert [seen["status"] for seen in recorded.pages] == [200]


@pytest.mark.parametrize(("app", "expected"), [(page, [0]), (recovering, [0, 1])])
def test_exc_info_is_passed_on_only_if_it_was_given(app: Any, expected: list[int], client: Client) -> None:
    """A server whose start_response takes two arguments is given two."""
    given: list[int] = []

    def start_response(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> None:
        given.append(len(exc_info))

    AnalyticsMiddleware(app, client)(browser(), start_response).close()
    assert given == expected


@pytest.mark.parametrize("wrapper", [FileWrapper, lambda file, size=8192: file], ids=["a class", "a function"])
def test_a_file_of_the_servers_is_given_back_as_it_is(wrapper: Any, recorded: Recorder) -> None:
    """What `wsgi.file_wrapper` made goes back untouched, so that the server can send it its own way."""
    file = wrapper(io.BytesIO(b"a page"))
    environ = browser() | {"wsgi.file_wrapper": wrapper}
    given = AnalyticsMiddleware(returning(file), recorded.client)(environ, lambda status, headers: None)
    assert given is file
    assert len(recorded.pages) == 1


def test_the_body_keeps_its_length(client: Client) -> None:
    """Servers make a Content-Length of a list with one item, with us as without."""
    headers = []
    for app in (page, AnalyticsMiddleware(page, client)):
        with real_server(app) as port:
            headers.append(get(port).headers["Content-Length"])
    assert headers == ["6", "6"]
    assert not hasattr(AnalyticsMiddleware(streaming, client)(browser(), lambda *_: None), "__len__")


def test_a_stream_is_not_held_up(recorded: Recorder) -> None:
    """The first part is with the browser before the application makes the second."""
    arrived = threading.Event()

    def app(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", list(HTML))
        yield b"first"
        assert arrived.wait(10)
        yield b"second"

    with real_server(AnalyticsMiddleware(app, recorded.client)) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", "/", headers={"Accept": "text/html"})
            response = connection.getresponse()
            assert response.read(5) == b"first"
            arrived.set()
            assert response.read() == b"second"
    assert [seen["status"] for seen in recorded.pages] == [200]


def test_a_real_server_answers_for_an_application_that_fails(recorded: Recorder) -> None:
    """The browser gets the server's error page, and the page view has its status."""
    with real_server(AnalyticsMiddleware(failing, recorded.client)) as port:
        assert get(port).status == 500
    assert [seen["status"] for seen in recorded.pages] == [500]


def test_headers_are_added_to_and_never_changed(client: Client) -> None:
    """The application's list is its own, and without a cookie the server gets that very list."""
    passed: list[Any] = []
    for headers in ((shown := list(HTML)), (plain := list(JSON))):

        def app(environ: Environ, start_response: Any, headers: Any = headers) -> Iterable[bytes]:
            start_response("200 OK", headers)
            return []

        AnalyticsMiddleware(app, client)(browser(), lambda status, headers: passed.append(headers))
    assert (shown, plain) == (HTML, JSON)
    assert passed[0][:-1] == HTML
    assert passed[1] is plain


def test_a_request_leaves_no_cycles(client: Client) -> None:
    """The host's garbage collector has no more to do than without us."""
    app = AnalyticsMiddleware(page, client, identify=lambda environ: 42)
    assert 0 in [cycles_of_a_request(app) for _ in range(5)]  # a thread of an earlier test may just have ended


def cycles_of_a_request(app: AnalyticsMiddleware) -> int:
    """How many objects only the garbage collector can free after a request."""
    gc.collect()
    gc.disable()
    try:
        serve(app, browser())
        return gc.collect()
    finally:
        gc.enable()


# What is recorded


def test_what_a_page_view_has(recorded: Recorder) -> None:
    """Path, status, duration, referrer and browser are in the data; session, user, address and time in the columns."""
    before = datetime.now(UTC)
    seen: list[datetime] = []

    def app(environ: Environ, start_response: Any) -> Iterable[bytes]:
        seen.append(datetime.now(UTC))
        start_response("404 Not Found", list(HTML))
        return [b"?"]

    environ = browser(
        "/t\u00c3\u00a9", SCRIPT_NAME="/shop", HTTP_REFERER="https://example.com/", HTTP_USER_AGENT="Firefox"
    )
    answer = serve(AnalyticsMiddleware(app, recorded.client, identify=lambda environ: 42), environ)
    (event,) = recorded.events
    data = event["event_data"]
    assert 0 < data.pop("duration") < (datetime.now(UTC) - before).total_seconds()
    assert data == {"path": "/shop/té", "status": 404, "referrer": "https://example.com/", "user_agent": "Firefox"}
    assert event["session_id"] == answer.cookies[0].value
    assert (event["user_id"], event["ip_address"]) == (42, "192.0.2.1")
    assert before <= datetime.fromisoformat(event["created_at"]) <= seen[0]


def test_the_session_row(recorded: Recorder) -> None:
    """A new visitor's session has started with the request, and has the first referrer and the browser."""
    environ = browser(HTTP_REFERER="https://example.com/?q=tea", HTTP_USER_AGENT="Firefox")
    answer = serve(AnalyticsMiddleware(page, recorded.client), environ)
    assert recorded.sessions == [
        {
            "session_id": answer.cookies[0].value,
            "started_at": recorded.events[0]["created_at"],
            "referrer": "https://example.com/",
            "user_agent": "Firefox",
        }
    ]


def test_the_duration_has_the_streaming_in_it(recorded: Recorder) -> None:
    """The page view ends with the last part of the answer, not with the first; its time is the request's start."""

    def app(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", list(HTML))
        yield b"first"
        begun = time.perf_counter()
        wait_until(lambda: time.perf_counter() - begun >= 0.03)
        streamed.append(datetime.now(UTC))
        yield b"second"

    streamed: list[datetime] = []
    serve(AnalyticsMiddleware(app, recorded.client), browser())
    assert 0.03 <= recorded.pages[0]["duration"] < 10
    assert datetime.fromisoformat(recorded.events[0]["created_at"]) < streamed[0]


@pytest.mark.parametrize(
    ("environ", "app", "expected"),
    [
        (browser(), page, 1),
        (browser(HTTP_SEC_FETCH_DEST="document"), page, 1),
        (browser(), answering("404 Not Found", HTML), 1),
        (browser(), answering("304 Not Modified", []), 1),
        (browser(HTTP_HX_REQUEST="true", HTTP_HX_BOOSTED="true", HTTP_SEC_FETCH_DEST="empty"), page, 1),
        (browser(), answering("200 OK", JSON), 0),
        (browser(), answering("302 Found", [*HTML, ("Location", "/")]), 0),
        (browser(REQUEST_METHOD="POST"), page, 0),
        (browser(HTTP_ACCEPT="*/*"), page, 0),
        (browser(HTTP_SEC_FETCH_DEST="empty"), page, 0),
        (browser(HTTP_SEC_FETCH_DEST="document", HTTP_SEC_PURPOSE="prefetch"), page, 0),
        (browser(HTTP_PURPOSE="prefetch"), page, 0),
        (browser(HTTP_X_MOZ="prefetch"), page, 0),
        (browser(HTTP_HX_REQUEST="true"), page, 0),
        (browser(HTTP_X_REQUESTED_WITH="XMLHttpRequest"), page, 0),
        (browser("/static/help.html"), page, 0),
        (browser("/favicon.ico"), page, 0),
        (browser("/healthz"), page, 0),
    ],
)
def test_what_counts_as_a_page_view(environ: Environ, app: Any, expected: int, recorded: Recorder) -> None:
    """A person's browser asks for a document and gets one; and only then there are a session and a cookie."""
    answer = serve(AnalyticsMiddleware(app, recorded.client), dict(environ))
    assert (len(recorded.pages), len(recorded.sessions), len(answer.cookies)) == (expected,) * 3


def test_paths_of_your_own_are_left_alone(recorded: Recorder) -> None:
    """`exclude` takes the place of the usual paths."""
    app = AnalyticsMiddleware(page, recorded.client, exclude=["/admin/*", "/"])
    for path in ("/", "/admin/users", "/admin", "/healthz"):
        serve(app, browser(path))
    assert [seen["path"] for seen in recorded.pages] == ["/admin", "/healthz"]


def test_wrapped_twice_is_recorded_once(recorded: Recorder) -> None:
    """A second middleware around the first one stands aside."""
    app = AnalyticsMiddleware(AnalyticsMiddleware(page, recorded.client), recorded.client)
    answer = serve(app, browser())
    assert (len(recorded.events), len(recorded.sessions), len(answer.cookies)) == (1, 1, 1)


def test_a_disabled_client_leaves_no_trace(transport: RecordingTransport) -> None:
    """With `enabled=False` nothing is recorded, and no visitor gets a cookie."""
    client = Client(transport=transport, enabled=False)
    answer = serve(AnalyticsMiddleware(page, client), browser())
    client.close()
    assert (answer.body, answer.cookies, transport.attempts) == (b"a page", [], 0)


# The session cookie


def test_a_visitor_keeps_the_session(recorded: Recorder) -> None:
    """The cookie comes back, its half hour begins anew with each answer, and there is one session row."""
    app = AnalyticsMiddleware(page, recorded.client)
    first = serve(app, browser()).cookies[0]
    second = serve(app, browser("/next", HTTP_COOKIE=f"other=1; {first.key}={first.value}")).cookies[0]
    assert (first.key, first["max-age"]) == ("analytics_session", "1800")
    assert (second.value, second["max-age"]) == (first.value, "1800")
    assert {event["session_id"] for event in recorded.events} == {first.value}
    assert len(recorded.sessions) == 1


def test_a_known_visitors_scripts_keep_the_session_alive(recorded: Recorder) -> None:
    """Whatever a visitor's browser asks for begins the half hour anew."""
    answer = serve(AnalyticsMiddleware(answering("200 OK", JSON), recorded.client), browser(**COOKIE))
    assert [cookie.value for cookie in answer.cookies] == [SESSION]
    assert recorded.events == []


@pytest.mark.parametrize("cookies", ["analytics_session=", "analytics_session=1234", f"session={SESSION}", "\xff=;;=,"])
def test_a_cookie_that_is_not_ours_is_ignored(cookies: str, recorded: Recorder) -> None:
    """The visitor gets a session of ours instead, which a server could have made."""
    (cookie,) = serve(AnalyticsMiddleware(page, recorded.client), browser(HTTP_COOKIE=cookies)).cookies
    assert len(cookie.value) == 17
    assert recorded.events[0]["session_id"] == cookie.value != SESSION


@pytest.mark.parametrize(
    ("scheme", "forwarded", "trusted_proxies", "expected"),
    [
        ("http", "", 0, ""),
        ("https", "", 0, True),
        ("http", "https", 0, ""),
        ("http", "https", 1, True),
        ("https", "http", 1, ""),
    ],
)
def test_the_cookie_is_secure_on_https(
    scheme: str, forwarded: str, trusted_proxies: int, expected: str | bool, client: Client
) -> None:
    """Whether the browser speaks https is the server's word, or that of a proxy that we were told to trust."""
    environ = browser(**{"wsgi.url_scheme": scheme, "HTTP_X_FORWARDED_PROTO": forwarded})
    (cookie,) = serve(AnalyticsMiddleware(page, client, trusted_proxies=trusted_proxies), environ).cookies
    assert (cookie["secure"], cookie["httponly"], cookie["samesite"]) == (expected, True, "Lax")


@pytest.mark.parametrize("value", ["public, max-age=60", "max-age=60, s-maxage=600"])
def test_no_cookie_on_an_answer_that_others_may_get(value: str, recorded: Recorder) -> None:
    """A shared cache would hand it to strangers; the page views are recorded, without a session row for each."""
    app = AnalyticsMiddleware(answering("200 OK", [*HTML, ("cache-control", value)]), recorded.client)
    assert serve(app, browser()).cookies == serve(app, browser()).cookies == []
    assert [event.get("session_id") for event in recorded.events] == [None, None]
    assert recorded.sessions == []
    assert serve(app, browser(**COOKIE)).cookies == []
    assert recorded.events[-1]["session_id"] == SESSION


def test_a_script_that_tracks_something_gets_a_session(default: Recorder) -> None:
    """A call that is no page view has a session and a cookie as soon as an event needs them."""
    answer = serve(AnalyticsMiddleware(tracking), browser(HTTP_SEC_FETCH_DEST="empty", HTTP_USER_AGENT="Firefox"))
    (cookie,) = answer.cookies
    assert [(event["event_type"], event["session_id"]) for event in default.events] == [("click", cookie.value)]
    assert [(row["session_id"], row["user_agent"]) for row in default.sessions] == [(cookie.value, "Firefox")]


def test_name_and_time_of_the_cookie_can_be_chosen(client: Client) -> None:
    """`cookie_name` and `session_timeout` are what the browser gets."""
    app = AnalyticsMiddleware(page, client, cookie_name="visit", session_timeout=60)
    (cookie,) = serve(app, browser(**COOKIE)).cookies
    assert (cookie.key, cookie["max-age"], cookie.value != SESSION) == ("visit", "60", True)


@pytest.mark.parametrize(
    "option",
    [
        {"trusted_proxies": -1},
        {"trusted_proxies": "1"},
        {"trusted_proxies": True},
        {"session_timeout": 0},
        {"cookie_name": ""},
        {"cookie_name": "a; Path=/"},
        {"exclude": "/admin/*"},
    ],
)
def test_an_option_that_makes_no_sense_is_refused(option: dict[str, Any], client: Client) -> None:
    """A wrong option raises when the application starts, and names itself."""
    with pytest.raises(ConfigError, match=next(iter(option))):
        AnalyticsMiddleware(page, client, **option)


# The address


@pytest.mark.parametrize(
    ("trusted_proxies", "expected"), [(0, "192.0.2.1"), (1, "198.51.100.9"), (2, "203.0.113.7"), (4, "192.0.2.1")]
)
def test_the_address_is_the_trusted_proxies_word(trusted_proxies: int, expected: str, recorded: Recorder) -> None:
    """X-Forwarded-For is believed as far as our own proxies wrote it, and no further."""
    app = AnalyticsMiddleware(page, recorded.client, trusted_proxies=trusted_proxies)
    serve(app, browser(HTTP_X_FORWARDED_FOR="10.9.9.9, 203.0.113.7:4711, 198.51.100.9"))
    assert recorded.events[0]["ip_address"] == expected


@pytest.mark.parametrize("address", ["", "unix:", "garbage"])
def test_no_address_is_no_harm(address: str, recorded: Recorder) -> None:
    """Behind a unix socket there is none, and the page view is recorded without."""
    serve(AnalyticsMiddleware(page, recorded.client), browser(REMOTE_ADDR=address))
    assert "ip_address" not in recorded.events[0]


# Who is logged in


def test_the_user_is_who_identify_says(default: Recorder) -> None:
    """Page views have the user, and so has what is tracked inside the request, and the session."""

    def app(environ: Environ, start_response: Any) -> Iterable[bytes]:
        analytics_sdk.track("click")
        return page(environ, start_response)

    serve(AnalyticsMiddleware(app, identify=lambda environ: environ["REMOTE_USER"]), browser(REMOTE_USER="ada"))
    assert [(event["event_type"], event["user_id"]) for event in default.events] == [
        ("click", "ada"),
        ("page_view", "ada"),
    ]
    assert [row["user_id"] for row in default.sessions] == ["ada"]


def test_a_user_who_is_known_only_further_inside(recorded: Recorder) -> None:
    """An application that authenticates by itself may leave the user in the environ until the end."""

    def app(environ: Environ, start_response: Any) -> Iterable[bytes]:
        environ["auth.user"] = 42
        return page(environ, start_response)

    serve(AnalyticsMiddleware(app, recorded.client, identify=lambda environ: environ.get("auth.user")), browser())
    assert [row["user_id"] for row in (*recorded.events, *recorded.sessions)] == [42, 42]


def raising(environ: Environ) -> int:
    """An identify that is broken."""
    raise LookupError("no such user")


@pytest.mark.parametrize("identify", [raising, lambda environ: object(), lambda environ: True, lambda environ: 1.5])
def test_an_identify_that_is_broken_harms_nobody(
    identify: Any, default: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    """The page is served, everything is recorded without a user, and the log says why."""
    assert serve(AnalyticsMiddleware(tracking, identify=identify), browser()).body == b"{}"
    assert serve(AnalyticsMiddleware(page, identify=identify), browser()).body == b"a page"
    assert [(event["event_type"], event.get("user_id")) for event in default.events] == [
        ("click", None),
        ("page_view", None),
    ]
    assert "identify() raised or gave no id" in caplog.text


@pytest.mark.parametrize("nobody", [None, ""])
def test_nobody_is_logged_in(nobody: str | None, recorded: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    """None is nobody, and so is the empty REMOTE_USER of some servers."""
    serve(AnalyticsMiddleware(page, recorded.client, identify=lambda environ: nobody), browser())
    assert "user_id" not in recorded.events[0]
    assert caplog.records == []


# Inside a request


def test_what_is_tracked_inside_inherits_the_request(default: Recorder) -> None:
    """`track()` needs no arguments inside a request: session, user and address are the request's, whoever streams."""

    def app(environ: Environ, start_response: Any) -> Iterable[bytes]:
        analytics_sdk.track("called")
        start_response("200 OK", list(HTML))
        yield b"first"
        analytics_sdk.identify(42)
        yield b"second"
        analytics_sdk.track("streamed")

    serve(AnalyticsMiddleware(app), browser(**COOKIE))
    rows = [
        (event["event_type"], event["session_id"], event.get("user_id"), event["ip_address"])
        for event in default.events
    ]
    assert rows == [
        ("called", SESSION, None, "192.0.2.1"),
        ("streamed", SESSION, 42, "192.0.2.1"),
        ("page_view", SESSION, 42, "192.0.2.1"),
    ]
    assert default.sessions == [{"session_id": SESSION, "user_id": 42}]


def test_what_is_tracked_while_closing_inherits_the_request(default: Recorder) -> None:
    """Applications that count at the very end, in close(), count for the request too."""

    class Counting(Body):
        def close(self) -> None:
            analytics_sdk.track("closed")

    serve(AnalyticsMiddleware(returning(Counting(b"a page"))), browser(**COOKIE))
    assert [(event["event_type"], event["session_id"]) for event in default.events] == [
        ("closed", SESSION),
        ("page_view", SESSION),
    ]


def test_nothing_of_a_request_is_left_behind(default: Recorder) -> None:
    """The next request on the same thread, and what is tracked between them, inherit nothing from the one before."""
    app = AnalyticsMiddleware(tracking, identify=lambda environ: environ.get("REMOTE_USER"))
    serve(app, browser(REMOTE_USER="ada", **COOKIE))
    analytics_sdk.track("between")
    serve(app, browser(REMOTE_ADDR=""))
    first, between, second = default.events
    assert (first["session_id"], first["user_id"]) == (SESSION, "ada")
    assert between.keys() == {"event_id", "event_type", "created_at"}
    assert second["session_id"] != SESSION
    assert second.keys() == {"event_id", "event_type", "created_at", "session_id"}


@pytest.mark.parametrize("app", [failing, failing_late, failing_midway])
def test_nothing_of_a_request_that_fails_is_left_behind(app: Any, default: Recorder) -> None:
    """An error on the way leaves the scope as well."""
    with pytest.raises(LookupError):
        serve(AnalyticsMiddleware(app), browser())
    analytics_sdk.track("after")
    assert default.events[-1].keys() == {"event_id", "event_type", "created_at"}


def test_streams_that_take_turns_stay_apart(default: Recorder) -> None:
    """A server that reads several answers by turns on one thread mixes nothing up."""

    def app(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", list(JSON))
        for _ in range(3):
            analytics_sdk.track("streamed", {"path": environ["PATH_INFO"]})
            yield b"part"

    middleware = AnalyticsMiddleware(app, identify=lambda environ: environ["PATH_INFO"])
    answers = [iter(middleware(browser(path), lambda status, headers: None)) for path in ("/a", "/b")]
    for _ in range(3):
        for answer in answers:
            next(answer)
    assert all(event["user_id"] == event["event_data"]["path"] for event in default.events)
    assert len(default.events) == 6
    assert len({event["session_id"] for event in default.events}) == 2


def test_requests_on_many_threads_stay_apart(default: Recorder) -> None:
    """Each of a real server's threads tracks for its own visitor."""

    def app(environ: Environ, start_response: Any) -> Iterable[bytes]:
        analytics_sdk.track("click", {"path": environ["PATH_INFO"]})
        return page(environ, start_response)

    with real_server(AnalyticsMiddleware(app, identify=lambda environ: environ["PATH_INFO"])) as port:
        threads = [threading.Thread(target=get, args=(port, f"/{number}")) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(default.events) == 40
    assert all(event["user_id"] == event["event_data"]["path"] for event in default.events)
    assert len({(event["user_id"], event["session_id"]) for event in default.events}) == 20


def test_around_flask(default: Recorder) -> None:
    """A visitor of a Flask application browses, logs in and buys: one session, hers from the login on."""
    shop = flask.Flask(__name__)
    shop.get("/")(lambda: "<p>Tea</p>")

    @shop.post("/login")
    def login() -> Any:
        analytics_sdk.identify(42, {"plan": "gold"})
        analytics_sdk.track("login")
        return flask.redirect("/")

    @shop.post("/buy")
    def buy() -> Any:
        analytics_sdk.track("purchase", {"amount": 24.9}, user_id=42)
        return flask.redirect("/")

    shop.wsgi_app = AnalyticsMiddleware(shop.wsgi_app)  # type: ignore[method-assign]
    visitor = shop.test_client()
    usual: Any = {"headers": {"Accept": "text/html"}, "buffered": True}  # read to the end and closed
    assert visitor.get("/", **usual).text == "<p>Tea</p>"
    assert visitor.post("/login", **usual, follow_redirects=True).status_code == 200
    assert visitor.post("/buy", **usual).status_code == 302
    assert [(event["event_type"], event.get("user_id")) for event in default.events] == [
        ("page_view", None),
        ("login", 42),
        ("page_view", None),
        ("purchase", 42),
    ]
    assert len({event["session_id"] for event in default.events}) == 1
    assert [row.get("user_id") for row in default.sessions] == [None, 42]
    assert [(user["user_id"], user["traits"]) for user in default.transport.users] == [(42, {"plan": "gold"})]


# Errors of our own


class BrokenClient:
    """A client whose every method raises."""

    enabled = True

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"{name} is broken")


class BrokenTransport(RecordingTransport):
    """A transport that raises."""

    def send(self, *_: object) -> Any:
        """Raise."""
        raise RuntimeError("the transport is broken")


@pytest.mark.parametrize("app", [page, streaming, lazy, writing])
def test_a_broken_client_harms_nobody(app: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The page is served as ever, and the log says what went wrong."""
    assert serve(AnalyticsMiddleware(app, BrokenClient()), browser()).body == b"a page"  # type: ignore[arg-type]
    assert "A page view could not be recorded" in caplog.text


def test_a_broken_transport_harms_nobody(make: Make) -> None:
    """Page views wait for a transport that works; pages do not."""
    client = make(transport=BrokenTransport(), flush_interval=0.001)
    for _ in range(3):
        assert serve(AnalyticsMiddleware(page, client), browser()).body == b"a page"
    assert client.flush(timeout=0.05).pending == client.stats().accepted == 6


def test_a_strict_client_harms_nobody(make: Make, transport: RecordingTransport) -> None:
    """What `strict` makes raise is the application's own calls, never the middleware's."""
    client = make(transport=transport, strict=True, max_buffer_events=1)
    assert serve(AnalyticsMiddleware(page, client), browser()).body == b"a page"


@pytest.mark.parametrize(
    ("status", "headers"),
    [("OK", HTML), ("", HTML), (None, HTML), ("200 OK", None), ("200 OK", [("A",)]), ("200 OK", [(1, 2)])],
)
def test_an_answer_of_the_wrong_kind_is_passed_on(status: Any, headers: Any, client: Client) -> None:
    """What is wrong with an answer is between application and server: it arrives as it was given."""
    passed: list[Any] = []

    def app(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response(status, headers)
        return [b"a page"]

    answer = AnalyticsMiddleware(app, client)(browser(), lambda *given: passed.extend(given))
    assert list(answer) == [b"a page"]
    assert passed[0] is status
    assert passed[1] is headers


@pytest.mark.parametrize("broken", [{}, {"REQUEST_METHOD": "GET", "PATH_INFO": "/\u20ac"}, {"REQUEST_METHOD": None}])
def test_a_request_of_the_wrong_kind_is_served(broken: Environ, client: Client) -> None:
    """An environ that no server should make reaches the application all the same."""
    assert serve(AnalyticsMiddleware(page, client), dict(broken)).body == b"a page"


def test_an_answer_that_cannot_be_read_is_the_servers_error(recorded: Recorder) -> None:
    """An application that returns no iterable fails as it would without us, and the page view says 500."""
    with pytest.raises(TypeError, match="not iterable"):
        serve(AnalyticsMiddleware(returning(None), recorded.client), browser())
    assert [seen["status"] for seen in recorded.pages] == [500]


def test_without_init_the_application_is_served(
    no_default_client: None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A middleware without a client to be found tracks nothing, says so once, and serves."""
    caplog.set_level(logging.WARNING)
    for _ in range(2):
        assert serve(AnalyticsMiddleware(page), browser()).body == b"a page"
    assert [record.message.partition(",")[0] for record in caplog.records] == ["Nothing is tracked"]
