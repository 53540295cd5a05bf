"""The kind of file system that a directory is on, as Linux tells it."""

from __future__ import annotations

import re
from pathlib import Path


def kind_of(directory: Path) -> str:
    """Its name in the kernel, for instance "ext4"; "" if that is not known."""
    try:
        mountinfo = Path("/proc/self/mountinfo").read_text(errors="replace")
    except OSError:
        return ""
    return kind_by(mountinfo, str(directory.resolve()))


def kind_by(mountinfo: str, path: str) -> str:
    """The same, by what the kernel says.

    Args:
        mountinfo: As in /proc/self/mountinfo (proc(5)).
        path: Absolute and without symbolic links.
    """
    best, kind = -1, ""
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        if len(fields.split()) < 5 or not rest:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), fields.split()[4])
        is_above = path == point or path.startswith(point.rstrip("/") + "/")
        if is_above and len(point) >= best:  # of several on the same point, the last one shows
            best, kind = len(point), rest.split()[0]
    return kind
