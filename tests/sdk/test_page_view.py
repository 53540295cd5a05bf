"""What counts as a page view, whose it is, and what is recorded of it."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Mapping
from http.cookies import SimpleCookie

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics_sdk import _ids, _page_view
from analytics_sdk._page_view import DEFAULT_EXCLUDE, Request

SESSION = "0123456789abcdefg"
BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
DOCUMENT = {**BROWSER, "sec-fetch-dest": "document", "sec-fetch-mode": "navigate"}
HEADERS = (
    *("accept", "cookie", "referer", "user-agent", "x-forwarded-for", "x-forwarded-proto", "x-requested-with"),
    *("sec-fetch-dest", "sec-purpose", "purpose", "x-purpose", "x-moz", "hx-request", "hx-boosted"),
)

texts = st.text(st.characters(max_codepoint=255), max_size=80) | st.text("=;,:%[]./ 0123456789abcdef", max_size=80)
addresses = st.ip_addresses().filter(lambda address: getattr(address, "ipv4_mapped", None) is None)


def request(headers: Mapping[str, str] = {}, **fields: object) -> Request:  # it is only read
    """A request, as from a browser's address bar but for what is given."""
    usual = {"method": "GET", "path": "/", "query": "", "remote_address": "192.0.2.1", "is_https": False}
    return Request(header=lambda name: headers.get(name, ""), **(usual | fields))


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (BROWSER, True),
        (DOCUMENT, True),
        ({}, False),
        ({"accept": "*/*"}, False),
        ({"accept": "application/json"}, False),
        ({**BROWSER, "sec-fetch-dest": "empty"}, False),
        ({**BROWSER, "sec-fetch-dest": "iframe"}, False),
        ({**BROWSER, "sec-fetch-dest": "image"}, False),
        ({**DOCUMENT, "sec-purpose": "prefetch"}, False),
        ({**DOCUMENT, "sec-purpose": "prefetch;prerender"}, False),
        ({**DOCUMENT, "sec-purpose": "prefetch;anonymous-client-ip"}, False),
        ({**DOCUMENT, "purpose": "prefetch"}, False),
        ({**DOCUMENT, "x-purpose": "preview"}, False),
        ({**BROWSER, "x-moz": "prefetch"}, False),
        ({**BROWSER, "hx-request": "true"}, False),
        ({"accept": "*/*", "sec-fetch-dest": "empty", "hx-request": "true", "hx-boosted": "true"}, True),
        ({**BROWSER, "hx-boosted": "true", "sec-purpose": "prefetch", "hx-request": "true"}, False),
        ({**BROWSER, "x-requested-with": "XMLHttpRequest"}, False),
        ({**BROWSER, "x-requested-with": "com.android.chrome"}, True),
    ],
)
def test_a_person_asks_for_a_document(headers: Mapping[str, str], expected: bool) -> None:
    """Only a navigation wants a page: no prefetch, no fragment, no script's call, nothing inside of a page."""
    assert _page_view.wants_page(request(headers)) is expected


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "get", ""])
def test_only_get_asks_for_a_document(method: str) -> None:
    """A method other than GET shows nobody a page."""
    assert not _page_view.wants_page(request(DOCUMENT, method=method))


@pytest.mark.parametrize(
    ("status", "content_type", "expected"),
    [
        (200, "text/html", True),
        (200, "Text/HTML ; charset=utf-8", True),
        (200, "application/xhtml+xml", True),
        (404, "text/html", True),
        (500, "text/html; charset=utf-8", True),
        (304, "", True),
        (301, "text/html", False),
        (302, "text/html", False),
        (200, "application/json", False),
        (200, "text/html-fragment", False),
        (200, "image/png", False),
        (200, "", False),
        (204, "", False),
    ],
)
def test_an_answer_shows_a_document(status: int, content_type: str, expected: bool) -> None:
    """HTML is a page whatever its status, and so is one that the browser has already; a redirect never is."""
    assert _page_view.is_page(status, content_type) is expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], True),
        (["no-cache"], True),
        (["private, max-age=60"], True),
        (["max-age=60"], False),
        (["max-age=0"], True),
        (["no-store, max-age=60"], True),
        (["public"], False),
        (["max-age=60,PUBLIC"], False),
        (["no-cache", "public, max-age=60"], False),
        (["s-maxage=60"], False),
        (["private=public"], True),
    ],
)
def test_no_cookie_where_a_shared_cache_may_keep_the_answer(values: list[str], expected: bool) -> None:
    """`public` and `s-maxage` anywhere in Cache-Control keep the cookie away, whatever their case."""
    assert _page_view.may_carry_cookie(values) is expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/static/app.css", True),
        ("/static/a/b.css", True),
        ("/favicon.ico", True),
        ("/robots.txt", True),
        ("/healthz", True),
        ("/metrics", True),
        ("/", False),
        ("/static", False),
        ("/Static/app.css", False),
        ("/healthz/more", False),
        ("/my/static/app.css", False),
        ("/line\nbreak", False),
    ],
)
def test_the_default_exclude(path: str, expected: bool) -> None:
    """Static files, health checks and what robots ask for are left alone; a pattern covers the whole path."""
    assert bool(_page_view.any_of(DEFAULT_EXCLUDE).match(path)) is expected


def test_no_patterns_exclude_nothing() -> None:
    """An empty list is no pattern that matches everything."""
    assert _page_view.any_of([]).match("") is None


@pytest.mark.parametrize(
    ("trusted_proxies", "forwarded", "expected"),
    [
        (0, "203.0.113.7", "192.0.2.1"),
        (1, "203.0.113.7", "203.0.113.7"),
        (1, "198.51.100.66, 203.0.113.7", "203.0.113.7"),
        (2, "198.51.100.66, 203.0.113.7, 10.0.0.1", "203.0.113.7"),
        (2, "203.0.113.7", "192.0.2.1"),
        (1, "", "192.0.2.1"),
        (1, " , ", "192.0.2.1"),
        (1, "203.0.113.7:4711", "203.0.113.7"),
        (1, "2001:db8::7", "2001:db8::7"),
        (1, "[2001:db8::7]:4711", "2001:db8::7"),
        (1, "[2001:db8::7]", "2001:db8::7"),
        (1, "2001:DB8:0::7", "2001:db8::7"),
        (1, "fe80::1%eth0", "fe80::1"),
        (1, "::ffff:203.0.113.7", "203.0.113.7"),
        (1, "unknown", None),
        (1, "_hidden", None),
        (1, "203.0.113", None),
        (1, "203.0.113.7'; --", None),
        pytest.param(1, "9" * 100_000, None, id="much"),
    ],
)
def test_the_clients_address(trusted_proxies: int, forwarded: str, expected: str | None) -> None:
    """It is as many places from the right of X-Forwarded-For as there are trusted proxies, or nothing."""
    assert _page_view.client_address(request({"x-forwarded-for": forwarded}), trusted_proxies) == expected


@given(spoofed=texts, hops=st.lists(addresses.map(str), min_size=1, max_size=4))
def test_a_client_cannot_claim_another_address(spoofed: str, hops: list[str]) -> None:
    """Whatever a client sends itself stands to the left of what the proxies add, and is not believed."""
    forwarded = ", ".join([spoofed, *hops])
    assert _page_view.client_address(request({"x-forwarded-for": forwarded}), len(hops)) == hops[0]


@given(address=addresses, port=st.integers(0, 65535), zone=st.sampled_from(["", "%eth0", "%1"]))
def test_ports_brackets_and_zones_are_no_part_of_an_address(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int, zone: str
) -> None:
    """Every way in which servers write an address is read as the same address."""
    forms = [f"{address}:{port}"] if address.version == 4 else [f"{address}{zone}", f"[{address}{zone}]:{port}"]
    for form in [str(address), *forms]:
        assert _page_view.client_address(request(remote_address=form), 0) == str(address)


@given(remote=texts, forwarded=texts, trusted_proxies=st.integers(0, 3))
def test_an_address_is_valid_or_none(remote: str, forwarded: str, trusted_proxies: int) -> None:
    """Whatever the server and the headers say, the result is an address that Postgres takes, or None."""
    found = _page_view.client_address(request({"x-forwarded-for": forwarded}, remote_address=remote), trusted_proxies)
    assert found is None or ipaddress.ip_address(found)


@pytest.mark.parametrize(
    ("is_https", "trusted_proxies", "forwarded", "expected"),
    [
        (False, 0, "", False),
        (True, 0, "", True),
        (False, 0, "https", False),
        (True, 0, "http", True),
        (False, 1, "https", True),
        (False, 1, " HTTPS ", True),
        (True, 1, "http", False),
        (False, 1, "https, http", False),
        (False, 2, "https, http", True),
        (False, 2, "https", True),
        (True, 1, "", True),
    ],
)
def test_https_is_what_a_trusted_proxy_says_it_is(
    is_https: bool, trusted_proxies: int, forwarded: str, expected: bool
) -> None:
    """X-Forwarded-Proto counts behind trusted proxies, and from as many places on the right, and nowhere else."""
    found = _page_view.is_secure(request({"x-forwarded-proto": forwarded}, is_https=is_https), trusted_proxies)
    assert found is expected


@pytest.mark.parametrize(
    ("cookies", "expected"),
    [
        (f"a={SESSION}", SESSION),
        (f"x=1; a={SESSION};y", SESSION),
        (f"a=garbled; a={SESSION}", SESSION),
        (f"b={SESSION}", None),
        (f"aa={SESSION}", None),
        ("", None),
        ("a=", None),
        ("a", None),
        (f"a={SESSION}x", None),
        (f"a={SESSION[:-1]}", None),
        (f"a={SESSION[:-1]}.", None),
        (f'a="{SESSION}"', None),
        (f"a={SESSION[:-1]}\n", None),
        ("a=../../../../etc/p", None),
    ],
)
def test_only_a_session_id_of_ours_is_taken(cookies: str, expected: str | None) -> None:
    """A value that we could not have made is ignored, and the visitor gets one of ours."""
    assert _page_view.session_from_cookie(cookies, "a") == expected


@pytest.mark.parametrize("secure", [True, False])
def test_the_session_cookie(secure: bool) -> None:
    """A browser reads our cookie as meant, and gives back a value that we know again."""
    session_id = _ids.session_id(time.time_ns())
    cookies = SimpleCookie(_page_view.session_cookie("a", session_id, 1800, secure=secure))
    expected = {"path": "/", "max-age": "1800", "httponly": True, "samesite": "Lax", "secure": secure or ""}
    assert {name: value for name, value in cookies["a"].items() if name in expected} == expected
    assert _page_view.session_from_cookie(f"a={cookies['a'].value}", "a") == session_id


def test_of_the_query_only_campaigns_are_recorded() -> None:
    """The query may hold what is nobody's business: of it and of the referrer's nothing but `utm_...` is kept."""
    headers = {"referer": "https://example.com/mail?token=secret#part", "user-agent": "Mozilla/5.0"}
    seen = request(headers, path="/reset", query="token=secret&utm_source=mail&utm_medium=a%C3%A9&path=/x&utm_term=")
    assert _page_view.page_view_data(seen, 200, 0.1234567, capture_query=False) == {
        "path": "/reset",
        "status": 200,
        "duration": 0.123457,
        "utm_source": "mail",
        "utm_medium": "aé",
        "referrer": "https://example.com/mail",
        "user_agent": "Mozilla/5.0",
    }


def test_the_query_is_recorded_on_request() -> None:
    """`capture_query` keeps the query and the referrer as they came."""
    seen = request({"referer": "https://example.com/?q=tea"}, query="q=tea")
    data = _page_view.page_view_data(seen, 200, 1, capture_query=True)
    assert (data["query"], data["referrer"]) == ("q=tea", "https://example.com/?q=tea")


@given(
    headers=st.dictionaries(st.sampled_from(HEADERS), texts),
    fields=st.fixed_dictionaries({"method": texts, "path": texts, "query": texts, "remote_address": texts}),
    trusted_proxies=st.integers(0, 3),
)
def test_nothing_in_a_request_raises(headers: dict[str, str], fields: dict[str, str], trusted_proxies: int) -> None:
    """Every decision about a request is made, whatever stands in its headers."""
    seen = request(headers, **fields)
    assert _page_view.wants_page(seen) in (True, False)
    assert _page_view.is_secure(seen, trusted_proxies) in (True, False)
    assert _page_view.session_from_cookie(seen.header("cookie"), "a") is None
    assert _page_view.page_view_data(seen, 200, 1.0, capture_query=True)["path"] == fields["path"]


@given(status=st.integers(), content_type=texts, cache_control=st.lists(texts))
def test_nothing_in_an_answer_raises(status: int, content_type: str, cache_control: list[str]) -> None:
    """Every decision about an answer is made, whatever the application puts into its headers."""
    assert _page_view.is_page(status, content_type) in (True, False)
    assert _page_view.may_carry_cookie(cache_control) in (True, False)
