"""What the tests of hosts share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.delivery.trial import Size, Trial


@pytest.fixture
def make_trial(tmp_path: Path, connection: psycopg.Connection) -> Callable[..., Trial]:
    """Makes the trial of a server, whose processes write down what they track and send to the address given."""

    def make(url: str, *, spool: bool = False, **environ: str) -> Trial:
        return Trial(tmp_path, url, Size(100, 0), connection, tmp_path / "spool" if spool else None, environ)

    return make
