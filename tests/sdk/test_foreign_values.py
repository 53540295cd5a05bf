"""Values of other people's libraries: they have a form, or a marker, and are never asked what could take time.

Libraries that are not installed are skipped: no test needs all of them.
"""

from __future__ import annotations

import decimal
from typing import Any

import pytest
from msgspec import Struct

from analytics_sdk import EventError
from analytics_sdk._encoder import Encoder
from analytics_sdk._redaction import DEFAULT_REDACT, Redaction
from tests.sdk.test_encoder import ID, NOW, encode, read


def stored(value: Any) -> Any:
    """What is stored of a value, and how often it had to be altered."""
    encoder = Encoder(redaction=Redaction(DEFAULT_REDACT))
    return read(encode(value, encoder)), encoder.altered


# Django


@pytest.fixture(scope="module", autouse=True)
def django() -> None:
    """Django without a database: whoever asks it gets an error."""
    settings = pytest.importorskip("django.conf").settings
    if not settings.configured:
        settings.configure(INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"], USE_I18N=False)
    import django

    django.setup()


def test_lazy_objects_are_not_woken() -> None:
    """What Django has not evaluated yet, as `request.user`, becomes a marker; what it has, its value."""
    from django.utils.functional import SimpleLazyObject

    woken: list[int] = []
    lazy = SimpleLazyObject(lambda: woken.append(1) or {"id": 7})
    assert stored({"user": lazy, "id": 1}) == ({"user": "<SimpleLazyObject>", "id": 1}, 1)
    with pytest.raises(EventError, match="SimpleLazyObject"):
        Encoder().event(ID, "click", NOW, None, None, None, lazy)
    assert woken == []
    assert lazy["id"] == 7
    assert stored({"user": lazy}) == ({"user": {"id": 7}}, 0)
    assert b'"event_data":{"id":7}' in Encoder().event(ID, "click", NOW, None, None, None, lazy)


def test_lazy_texts_become_texts() -> None:
    """A translation is stored as its text, also as a key; lazy values that are no texts are not evaluated."""
    from django.utils.functional import lazy
    from django.utils.safestring import mark_safe
    from django.utils.translation import gettext_lazy

    text = gettext_lazy("Save")
    assert stored({"label": text, text: 1}) == ({"label": "Save", "Save": 1}, 0)
    assert stored([mark_safe("<b>"), lazy(lambda: [1], list)()])[0] == ["<b>", "<__proxy__>"]


def test_models_and_querysets_ask_no_database() -> None:
    """A QuerySet, a manager, a page of one and a model become markers."""
    from django.contrib.auth.models import Permission, User
    from django.core.paginator import Paginator

    query = User.objects.all()
    page = Paginator(query.order_by("id"), 10)
    page.count = 10
    value = {"all": query, "values": query.values("id"), "manager": User.objects, "user": User(username="ann")}
    value |= {"page": page.page(1), "permissions": User(pk=1).user_permissions, "deferred": Permission(pk=1)}
    found, altered = stored(value)
    assert set(found.values()) >= {"<QuerySet>", "<UserManager>", "<User>", "<Page>", "<Permission>"}
    assert altered == len(value)


def test_querydicts_are_objects() -> None:
    """What a form sent is an object of its last values."""
    from django.http import QueryDict

    assert stored(QueryDict("a=1&b=2&b=3&password=x")) == ({"a": "1", "b": "3", "password": "<redacted>"}, 0)


# Proxies


def test_proxies_of_werkzeug_are_not_asked() -> None:
    """A LocalProxy, as `current_user` is one, becomes a marker, whether it is bound or not."""
    local = pytest.importorskip("werkzeug.local")
    asked: list[int] = []
    unbound = local.LocalProxy(local.ContextVar("unbound"))
    bound = local.LocalProxy(lambda: asked.append(1) or "text")
    assert stored([unbound, bound, 2]) == (["<LocalProxy>", "<LocalProxy>", 2], 2)
    assert asked == []


def test_proxies_of_wrapt_are_not_asked() -> None:
    """An ObjectProxy becomes a marker."""
    wrapt = pytest.importorskip("wrapt")
    assert stored([wrapt.ObjectProxy({"a": 1})]) == (["<ObjectProxy>"], 1)


def test_models_of_sqlalchemy_ask_no_database() -> None:
    """Models become markers, also those that are dataclasses."""
    orm = pytest.importorskip("sqlalchemy.orm")

    class Base(orm.MappedAsDataclass, orm.DeclarativeBase):
        pass

    column = {"id": orm.mapped_column(primary_key=True), "__annotations__": {"id": orm.Mapped[int]}}
    account: Any = type("Account", (Base,), {"__tablename__": "account", "__module__": __name__, **column})
    assert hasattr(account, "__dataclass_fields__")
    assert stored([account(id=1)]) == (["<Account>"], 1)


# numpy and pandas


def test_numpy() -> None:
    """Scalars of all kinds are numbers or texts, arrays lists; what is not a number or a time is null."""
    np = pytest.importorskip("numpy")
    cases: list[tuple[Any, Any, int]] = [
        (np.int8(-3), -3, 0),
        (np.uint64(2**64 - 1), 2**64 - 1, 0),
        (np.bool_(True), True, 0),
        (np.float16(1.5), 1.5, 0),
        (np.float32("nan"), None, 1),
        (np.float64(2.5), 2.5, 0),
        (np.float64("inf"), None, 1),
        (np.longdouble(1.5), 1.5, 0),
        (np.complex64(1j), "1j", 0),
        (np.str_("ü"), "ü", 0),
        (np.bytes_(b"\xff"), "/w==", 0),
        (np.datetime64("2026-01-31T12:00:00"), "2026-01-31T12:00:00Z", 0),
        (np.datetime64("2026-01-31"), "2026-01-31", 0),
        (np.datetime64("NaT"), None, 1),
        (np.timedelta64(1500, "ms"), 1.5, 0),
        (np.timedelta64("NaT"), None, 1),
        (np.array(5), 5, 0),
        (np.array([1, 2]), [1, 2], 0),
        (np.array([[1.5], [float("nan")]]), [[1.5], [None]], 1),
        (np.array([True, False]), [True, False], 0),
        (np.array(["a", "b"]), ["a", "b"], 0),
        (np.array([object(), {"password": 1}], dtype=object), ["<object>", {"password": "<redacted>"}], 1),
        (np.array(["2026-01-31", "NaT"], dtype="M8[ns]"), ["2026-01-31T00:00:00.000000000Z", None], 1),
        (np.array([(1, 2.5)], dtype=[("a", "i4"), ("token", "f8")]), [{"a": 1, "token": "<redacted>"}], 0),
        (np.array([[1, 2]]).view(np.matrix), [[1, 2]], 0),
        (np.ma.masked_array([1, 2], [0, 1]), "<MaskedArray>", 1),
        (np.zeros((0, 3)), [], 0),
    ]
    for value, expected, altered in cases:
        assert stored({"value": value}) == ({"value": expected}, altered), repr(value)


def test_large_arrays_of_numpy() -> None:
    """Of ten million numbers, those are read that have room."""
    np = pytest.importorskip("numpy")
    for array in (
        np.arange(10**7),
        np.zeros((10**7, 1)),
        np.zeros(10**6, dtype="M8[ns]"),
        np.zeros(100, dtype="U1000000"),
    ):
        encoder = Encoder()
        found = read(encode({"array": array, "after": 1}, encoder))
        assert found["after"] == 1
        assert len(found["array"]) >= 64
    assert found["array"] == [""] * 100


def test_pandas() -> None:
    """Timestamps are moments and Timedeltas seconds; NaT and NA are null; tables are not read."""
    pd = pytest.importorskip("pandas")
    value = [pd.Timestamp("2026-01-31T12:00Z"), pd.Timedelta(minutes=1), pd.NaT, pd.NA, pd.DataFrame({"a": [1]})]
    expected = ["2026-01-31T12:00:00Z", 60.0, None, None, "<DataFrame>"]
    assert stored(value) == (expected, 3)
    assert stored([pd.Series([1, 2])]) == (["<Series>"], 1)


# pydantic and msgspec


def test_pydantic() -> None:
    """Models are objects of their fields, without those that they exclude, and in their own way if they have one."""
    pydantic = pytest.importorskip("pydantic")

    class Inner(pydantic.BaseModel):
        pw: str = pydantic.Field("x", alias="password")
        hidden: int = pydantic.Field(1, exclude=True)
        amount: decimal.Decimal = decimal.Decimal("1.50")
        secret_word: pydantic.SecretStr = pydantic.SecretStr("s")
        key: pydantic.SecretStr = pydantic.SecretStr("s")

    class Outer(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(extra="allow")
        inner: Inner = Inner()

    class Masked(pydantic.BaseModel):
        number: str = "4711"

        @pydantic.field_serializer("number")
        def mask(self, number: str) -> str:
            return "*" * len(number)

    class Words(pydantic.RootModel[list[str]]):
        pass

    inner = {"pw": "<redacted>", "amount": "1.50", "secret_word": "<redacted>", "key": "<SecretStr>"}
    assert stored(Outer(more=[1])) == ({"inner": inner, "more": [1]}, 1)
    assert stored([Masked(), Words(["a"])]) == ([{"number": "****"}, ["a"]], 0)


def test_structs_as_msgspec_writes_them() -> None:
    """Renamed fields, tags and what is left out are as msgspec has them; both names of a field can be a secret's."""

    class Login(Struct, rename={"word": "password", "pin_token": "p"}, tag="login", omit_defaults=True):
        word: str
        pin_token: str
        tags: list[str] = []
        count: int = 0

    class Pair(Struct, array_like=True):
        x: int
        y: int

    login = {"type": "login", "password": "<redacted>", "p": "<redacted>"}
    assert stored([Login("w", "t")]) == ([login], 0)
    assert stored([Login("w", "t", ["a"], 1)]) == ([login | {"tags": ["a"], "count": 1}], 0)
    assert stored([Pair(1, 2)]) == ([[1, 2]], 0)
