"""The kind of file system that a directory is on."""

from __future__ import annotations

from pathlib import Path

import pytest

from analytics_sdk._file_system import kind_by, kind_of

MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:26 / /run rw,nosuid - tmpfs tmpfs rw,size=1k
31 22 0:27 / /mnt/a\\040b rw - nfs4 server:/x rw
32 22 0:28 / /srv rw master:1 - xfs /dev/sdb rw
33 32 0:29 / /srv rw - overlay overlay rw
nonsense
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/var", "ext4"),
        ("/run/x", "tmpfs"),
        ("/runs", "ext4"),
        ("/mnt/a b/c", "nfs4"),
        ("/srv", "overlay"),
    ],
)
def test_file_systems_by_path(path: str, kind: str) -> None:
    """The mount that a path is on is the nearest above it, and of several there the last."""
    assert kind_by(MOUNTS, path) == kind
    assert kind_by("", path) == ""


def test_the_one_of_this_machine() -> None:
    """What Linux says of /proc and of a directory in it is its name; a directory that is missing has its parent's."""
    assert kind_of(Path("/proc/self")) == kind_of(Path("/proc/missing")) == "proc"
