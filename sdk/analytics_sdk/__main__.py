"""`python -m analytics_sdk`: the commands."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import msgspec

from . import _doctor
from ._finding import report

_DOCTOR = """\
Looks at what a client would meet here: its settings, the way to the collector, the key, the clock, the spool, and
the process. It reads the same settings as init() and Client(), ANALYTICS_URL, ANALYTICS_WRITE_KEY and so on; run it
where the application runs, as the same user, in the same environment. Nothing is stored, and no key is printed.
"""

_LINES = """\
Each line begins with one of
  ok     as it should be, or good to know
  warn   it works, and something may come of it
  fail   events are lost or wait for ever
  skip   could not be looked at, as something before it failed
The exit code is 1 if anything failed, else 0.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: Those of the command line if left out.

    Returns:
        The exit code.
    """
    given = _parser().parse_args(arguments)
    findings = _doctor.examine({"url": given.url, "write_key": given.write_key, "spool": given.spool})
    is_well = all(finding.status != "fail" for finding in findings)
    if given.json:
        sys.stdout.write(msgspec.json.encode({"ok": is_well, "findings": findings}).decode() + "\n")
    else:
        sys.stdout.write(report(findings))
    return 0 if is_well else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m analytics_sdk", description="The commands of the analytics SDK.")
    commands = parser.add_subparsers(title="commands", metavar="command", required=True)
    doctor = commands.add_parser(
        "doctor",
        help="say what works here and what does not, and what to do about it",
        description=_DOCTOR,
        epilog=_LINES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    doctor.add_argument("--url", help="where the collector is, in the place of ANALYTICS_URL")
    doctor.add_argument(
        "--write-key", metavar="KEY", help="in the place of ANALYTICS_WRITE_KEY; others can see it in ps"
    )
    doctor.add_argument("--spool", metavar="DIR", help="the spool's directory, in the place of ANALYTICS_SPOOL")
    doctor.add_argument("--json", action="store_true", help="print one line of JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
