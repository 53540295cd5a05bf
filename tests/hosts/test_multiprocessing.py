"""Children of Celery's billiard, and pools: they end without exit handlers, and deliver all the same.

Those of multiprocessing are in tests/sdk/test_exit.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.conftest import WRITE_KEY
from tests.programs import Collector
from tests.sdk.test_fork import stored_ids

WORK = """
import os, sys

{imports}

def work(count):
    ids = [analytics_sdk.track("click") for _ in range(count)]
    with open(sys.argv[1], "a") as file:
        file.write("".join(f"{{event_id}}\\n" for event_id in ids))

if __name__ == "__main__":
    work(7)
{main}
    work(1)
"""

#: Processes that end all at once on a busy machine take more than two seconds now and then.
INIT = "import analytics_sdk\nanalytics_sdk.init(flush_interval=60, exit_timeout=30)"
IMPORTS = {"billiard first": f"import billiard\n{INIT}", "billiard later": f"{INIT}\nimport billiard"}

PROCESSES = """
    children = [billiard.Process(target=work, args=(10,)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0, 0]
"""

POOLS = {
    "multiprocessing": """
    import multiprocessing

    with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=2) as pool:
        pool.map(work, [5] * 6, chunksize=1)
        pool.close()
        pool.join()
""",
    "concurrent.futures": """
    import concurrent.futures, multiprocessing

    with concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
        list(pool.map(work, [5] * 6))
""",
}


def run(folder: Path, url: str, imports: str, main: str) -> set[str]:
    """Run a program whose processes track; returns all ids that they were given."""
    program = folder / "program.py"
    program.write_text(WORK.format(imports=imports, main=main))
    environ = {**os.environ, "ANALYTICS_URL": url, "ANALYTICS_WRITE_KEY": WRITE_KEY}
    subprocess.run([sys.executable, program, folder / "ids"], env=environ, check=True, timeout=60)
    return set((folder / "ids").read_text().split())


@pytest.mark.parametrize("imports", IMPORTS)
def test_children_of_billiard_deliver(
    collector: Collector, connection: psycopg.Connection, tmp_path: Path, imports: str
) -> None:
    """A child of billiard delivers what it tracked, also if billiard is imported after the client was made."""
    ids = run(tmp_path, collector.url, IMPORTS[imports], PROCESSES)
    assert len(ids) == 38
    assert stored_ids(connection) == ids


@pytest.mark.parametrize("pool", POOLS)
def test_pools_deliver(collector: Collector, connection: psycopg.Connection, tmp_path: Path, pool: str) -> None:
    """Workers of a pool that is closed, or that are replaced after a few tasks, deliver what they tracked."""
    ids = run(tmp_path, collector.url, INIT, POOLS[pool])
    assert len(ids) == 38
    assert stored_ids(connection) == ids
