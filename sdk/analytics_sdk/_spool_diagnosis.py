"""What the doctor makes of the spool's directory: pure decisions, facts in, findings out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import msgspec

from ._finding import Finding, count, size

_LEAST_FREE: Final = 16 * 1024 * 1024  # bytes


class SegmentCount(msgspec.Struct):
    """What is in a spool.

    Attributes:
        used_bytes: Of all segments.
        waiting: Records of processes that have ended, for this collector.
        foreign: The same, for other collectors.
        unreadable: Segments that this user may not read.
        living: Segments of living processes.
    """

    used_bytes: int = 0
    waiting: int = 0
    foreign: int = 0
    unreadable: int = 0
    living: int = 0


class SpoolFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in and around the spool's directory.

    Attributes:
        directory: Absolute.
        exists: Whether it was there already.
        error: Why it cannot be used; empty if it can.
        keeps_locks: Whether a lock of one process keeps others out.
        file_system: Its kind, as the kernel calls it; empty if that is not known.
        free_bytes: What the file system has left.
        segments: What is in it.
    """

    directory: str
    exists: bool = True
    error: str = ""
    keeps_locks: bool = True
    file_system: str = ""
    free_bytes: int = 0
    segments: SegmentCount = msgspec.field(default_factory=SegmentCount)


def judge_no_spool() -> Finding:
    """What it means to have none."""
    return Finding(
        "ok", "spool", "none: what waits in memory ends with the process", "ANALYTICS_SPOOL names a directory"
    )


def judge_spool(facts: SpoolFacts, max_spool_bytes: int) -> list[Finding]:
    """Whether the spool does what it is for.

    Args:
        facts: What was found.
        max_spool_bytes: The setting.
    """
    if facts.error:
        advice = "every user whose processes track must be able to write there"
        return [Finding("fail", "spool", f"{facts.directory} cannot be used: {facts.error}", advice)]
    if not facts.keeps_locks:
        advice = "use a directory on a local disk, or events are sent by several processes at once"
        return [Finding("fail", "spool", f"{facts.directory} keeps no locks", advice)]
    state = "writable, and locks hold" if facts.exists else "will be made, and locks hold there"
    return [
        Finding("ok", "spool", f"{facts.directory}: {state}"),
        *_judge_file_system(facts.file_system),
        _judge_room(facts.free_bytes, facts.segments.used_bytes, max_spool_bytes),
        *_judge_segments(facts.segments),
    ]


_NETWORK: Final = re.compile(r"nfs4?|cifs|smb[23]?|smbfs|9p|afs|ceph|glusterfs|lustre|gpfs|beegfs|ocfs2|fuse\..+")
_VOLATILE: Final = frozenset({"tmpfs", "ramfs", "rootfs"})


def _judge_file_system(kind: str) -> list[Finding]:
    if kind in _VOLATILE:
        return [Finding("warn", "spool", f"is on {kind}, in memory: a reboot empties it", "use a directory on a disk")]
    if kind == "overlay":
        advice = "mount a volume for it"
        return [Finding("warn", "spool", "is in the container's own layer, and goes with the container", advice)]
    if _NETWORK.fullmatch(kind):
        what = f"is on {kind}: each track() waits for it, and locks of other machines may not hold"
        return [Finding("warn", "spool", what, "use a directory on a local disk")]
    return []


def _judge_room(free: int, used: int, most: int) -> Finding:
    if free < _LEAST_FREE:
        advice = "make room; until then events stay in memory"
        return Finding("fail", "spool room", f"{size(free)} left on the disk", advice)
    if used >= most:
        advice = "let it be delivered, or raise max_spool_bytes; until then events stay in memory"
        return Finding("fail", "spool room", f"{size(used)} used of max_spool_bytes={size(most)}", advice)
    if free + used < most:
        what = f"{size(free)} left on the disk, which is less than max_spool_bytes={size(most)}"
        return Finding("warn", "spool room", what, "lower max_spool_bytes, or make room")
    return Finding("ok", "spool room", f"{size(used)} used of {size(most)}, {size(free)} left on the disk")


def _judge_segments(segments: SegmentCount) -> Iterable[Finding]:
    if segments.living:
        yield Finding("ok", "spool", f"{count(segments.living, 'segment')} of living processes")
    if segments.waiting:
        what = f"{count(segments.waiting, 'record')} of processes that have ended, not sent yet"
        yield Finding("ok", "spool", what, "the next process that tracks sends them")
    if segments.foreign:
        what = f"{count(segments.foreign, 'record')} for a collector at another url"
        yield Finding("warn", "spool", what, "a process with that url and this spool sends them")
    if segments.unreadable:
        what = f"{count(segments.unreadable, 'segment')} that this user cannot read"
        yield Finding("warn", "spool", what, "a process of the user who owns them sends them")
