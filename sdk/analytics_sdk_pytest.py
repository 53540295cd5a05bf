"""The pytest plugin: one fixture, `analytics`. It has no effect on tests that do not ask for it.

A module beside the package and not in it: pytest imports every installed plugin in every run, and importing a module
of the package would import the package, in hosts' runs that have nothing to do with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from analytics_sdk.testing import Recorder


@pytest.fixture
def analytics() -> Iterator[Recorder]:
    """What is tracked during this test, as `analytics_sdk.testing.recording()`; nothing touches the network."""
    from analytics_sdk.testing import recording

    with recording() as recorder:
        yield recorder
