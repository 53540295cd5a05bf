"""The collector against its own description: requests made up from it, good and bad, answered as it says.

Needs the dependency group `api`; runs in a nox session of its own.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from psycopg.conninfo import conninfo_to_dict

from analytics_collector.app import create_app
from analytics_collector.config import Settings
from tests.conftest import ADMIN_KEY

KEY = {"Authorization": f"Bearer {ADMIN_KEY}"}
EXAMPLES = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))

app = create_app(Settings(database_url="postgresql://", housekeeping_seconds=0))  # where that is, libpq's variables say
api = schemathesis.openapi.from_wsgi("/openapi.json", app)


@pytest.fixture(scope="session", autouse=True)
def _database(migrated_dsn: str) -> Iterator[None]:
    """Give the application, which has been asked for nothing but its description yet, a database with some rows."""
    event = {"event_type": "purchase", "created_at": "2026-01-15T12:00:00Z", "user_id": 42}
    events = [event | {"event_id": str(uuid.uuid4()), "session_id": f"s-{number}"} for number in (1, 2)]
    with pytest.MonkeyPatch.context() as patch, closing(app.extensions["analytics_collector"].database):
        for name, value in conninfo_to_dict(migrated_dsn).items():
            patch.setenv({"dbname": "PGDATABASE"}.get(name, f"PG{name.upper()}"), str(value))
        assert app.test_client().post("/v1/events", json={"events": events}, headers=KEY).json["accepted"] == 2
        yield


@api.auth()
class Key(schemathesis.AuthProvider):
    """Sends a key that may do everything; schemathesis itself tries what happens without it, or with another."""

    def get(self, _: schemathesis.Case, __: schemathesis.AuthContext) -> str:
        """The key."""
        return ADMIN_KEY

    def set(self, case: schemathesis.Case, key: str, _: schemathesis.AuthContext) -> None:
        """Send it."""
        case.headers["Authorization"] = f"Bearer {key}"


@api.parametrize()
@EXAMPLES
def test_every_answer_is_as_described(case: schemathesis.Case) -> None:
    """Whatever the request, the answer has a status, headers and a body that the description has for it."""
    give_real_cursor(case)
    case.call_and_validate()


def give_real_cursor(case: schemathesis.Case) -> None:
    """A good request that goes on with a list needs a cursor that nobody can make up: take one of the list."""
    if "cursor" in case.query and case.meta is not None and case.meta.generation.mode.is_positive:
        first_page = app.test_client().get(f"{case.path}?limit=1", headers=KEY)
        case.query["cursor"] = first_page.json["next_cursor"]
