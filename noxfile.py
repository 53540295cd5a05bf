# /// script
# requires-python = ">=3.11"
# dependencies = ["nox>=2025.2.9"]
# ///
"""The project's two commands: `python3 noxfile.py -s demo`, and `python3 noxfile.py` for the tests.

Needs Python 3.11 with venv and nothing else: it makes .nox/nox, installs nox there and runs again inside it. The
same file works with `nox`, `uvx nox` and `pipx run nox`. `python3 noxfile.py --list` shows all sessions.
"""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent

if sys.version_info < (3, 11):  # noqa: UP036  # the very message this guard is for
    sys.exit("analytics-sdk needs Python 3.11 or newer; this is {}.{}.".format(*sys.version_info))

# Downloads are kept inside the checkout: nothing outside of it changes.
os.environ.setdefault("PIP_CACHE_DIR", str(HERE / ".nox" / "cache"))
# The tests start programs by the thousand: each would compile all that it imports, which takes longer than the rest.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

try:
    import nox
except ModuleNotFoundError:
    import venv

    home = HERE / ".nox" / "nox"
    if not (home / "bin" / "nox").exists():  # and not bin/python, which an interrupted first run leaves behind
        print("Making .nox/nox, once ...", flush=True)
        venv.create(home, clear=True, with_pip=True)
        pip = [str(home / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
        subprocess.run([*pip, "nox>=2025.2.9"], check=True)
    # exec and not a child: Ctrl-C and exit codes are then nobody's to pass on.
    os.execv(home / "bin" / "python", [str(home / "bin" / "python"), __file__, *sys.argv[1:]])

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["lint", "plain", "tests"]
nox.options.reuse_venv = "yes"
nox.options.default_venv_backend = "venv"  # virtualenv would fill a cache in the home folder

PROJECT = nox.project.load_toml("pyproject.toml")
POSTGRES_15 = Path("/usr/lib/postgresql/15/bin")
# Of the collector's tests, those of HTTP, processes, programs, outages and faults.
SAME_WITH_ANY_POSTGRES = (
    *("embedded", "outages", "peers", "crew", "rolling", "drain", "slow_clients", "watch", "probe", "committer"),
    *("heads", "shortcut", "trace", "metrics", "splitter", "records", "plan", "openapi", "auth", "keys", "limits"),
    *("app", "ingest", "browser", "cli", "selftest", "faults"),
)
BENCHMARKS = sorted(path.name for path in Path("tests/benchmarks").glob("[a-z]*.py"))


def install(session: nox.Session, *extras: str, groups: tuple[str, ...] = ()) -> None:
    """Install the project as its users do, as a wheel, and what the session needs beside it."""
    packages = [name for group in groups for name in nox.project.dependency_groups(PROJECT, group)]
    project = f".[{','.join(extras)}]" if extras else "."
    # Python compiles what it imports; most of all these packages it never does.
    session.install("--quiet", "--no-compile", "--constraint", "constraints.txt", project, *packages)


@nox.session
def demo(session: nox.Session) -> None:
    """A shop with visitors, a collector with its own Postgres, and profiles to look at; Ctrl-C ends it."""
    install(session, "collector", "embedded")
    session.run("python", "examples/demo.py", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Format, lint, types, import rules, and a sentence for every test."""
    install(session, "collector", "embedded", "plan", groups=("lint",))
    session.run("ruff", "format", "--check", "--quiet")
    session.run("ruff", "check", "--quiet")
    session.run("mypy")
    session.run("lint-imports", "--no-cache", silent=True)
    session.run("interrogate", "tests")


@nox.session
def plain(session: nox.Session) -> None:
    """The wheel without extras, in an environment of its own: the SDK works, and nothing else is there."""
    install(session)
    session.run("python", "-I", "-W", "error", "tests/packaging/plain_install.py")


@nox.session
def tests(session: nox.Session) -> None:
    """All tests but the slow ones on the embedded Postgres 18, and those of SQL on 15, where Debian's is installed."""
    install(session, "collector", "embedded", "plan", groups=("test", "hosts"))
    if session.posargs:
        session.run("python", "-m", "pytest", *session.posargs)
        return
    quick = ("-m", "not slow", "--numprocesses=3")  # for two cores: the tests wait for a third of their time
    session.run("python", "-m", "pytest", *quick, "--ignore=tests/api")
    if POSTGRES_15.exists():
        others = [f"--ignore=tests/collector/test_{name}.py" for name in SAME_WITH_ANY_POSTGRES]
        environment = {"ANALYTICS_POSTGRES_BIN": str(POSTGRES_15)}
        session.run("python", "-m", "pytest", *quick, "tests/collector", *others, env=environment)


@nox.session
def api(session: nox.Session) -> None:
    """schemathesis: what /openapi.json says against what the application does."""
    install(session, "collector", "embedded", groups=("test", "api"))
    session.run("python", "-m", "pytest", "tests/api", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Whatever bytes may come, for so many minutes (`-- 60`): guided by coverage, then to a real collector."""
    install(session, "collector", "embedded", groups=("test", "fuzz"))
    seconds = 60 * int(session.posargs[0] if session.posargs else 10) // 4
    found = Path(session.create_tmp()) / "found"
    guided = (f"-max_total_time={seconds}", "-max_len=4096", str(found), "tests/fuzz/corpus")
    session.run("python", "-m", "tests.fuzz.guided", *guided)
    environment = {"TEST_FUZZ_SECONDS": str(seconds)}
    session.run("python", "-m", "pytest", "-m", "slow", "-s", "tests/fuzz", env=environment)


@nox.session
def load(session: nox.Session) -> None:
    """A crowd in front of `serve`, and its memory, for so many minutes each (`-- 10`)."""
    install(session, "collector", "embedded", groups=("test",))
    environment = {"TEST_LOAD_SECONDS": str(60 * int(session.posargs[0] if session.posargs else 5))}
    session.run("python", "-m", "pytest", "-m", "slow", "-s", "tests/load", env=environment)


@nox.session
def nightly(session: nox.Session) -> None:
    """The slow tests: long repetitions and large numbers."""
    install(session, "collector", "embedded", groups=("test", "hosts"))
    session.run("python", "-m", "pytest", "-m", "slow", "--timeout=1800", "--ignore=tests/api", *session.posargs)


@nox.session
def delivery(session: nox.Session) -> None:
    """The proofs of delivery in full: 10,000 events a run, 5 runs, 20 of kills and forks; an hour."""
    install(session, "collector", "embedded", groups=("test",))
    arguments = session.posargs or ["-m", "slow", "--numprocesses=2"]
    session.run("python", "-m", "pytest", "--timeout=600", "tests/delivery", *arguments)


@nox.session
def chaos(session: nox.Session) -> None:
    """Everything is killed, cut, filled and stepped for 10 minutes; `-- --events 200000 --seconds 60` is shorter."""
    install(session, "collector", "embedded", groups=("test",))
    session.run("python", "-m", "tests.chaos", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Print the benchmarks' tables; no figure ever fails a run."""
    install(session, "collector", "embedded", groups=("test",))
    for name in session.posargs or BENCHMARKS:
        session.run("python", f"tests/benchmarks/{name}")


@nox.session
def speed(session: nox.Session) -> None:
    """What was asked of the collector's speed, on both Postgres; `-- --page docs/benchmarks.md` writes the tables."""
    install(session, "collector", "embedded", groups=("test",))
    also = ["--before", str(POSTGRES_15)] if POSTGRES_15.exists() else []
    session.run("python", "tests/benchmarks/collector.py", *also, *session.posargs)


@nox.session
def rivals(session: nox.Session) -> None:
    """Other SDKs from PyPI beside this one; `-- --page docs/benchmarks.md` writes the tables there, too."""
    install(session)
    others = "tests/benchmarks/rivals-requirements.txt"
    session.install("--quiet", "--no-compile", "--constraint", "constraints.txt", "--requirement", others)
    session.run("python", "-m", "tests.benchmarks.rivals", "--disk", session.create_tmp(), *session.posargs)


if __name__ == "__main__":
    nox.main()
