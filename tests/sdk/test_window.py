"""A window: what is stored is in the file at once, and nothing is stored where that would end the process."""

from __future__ import annotations

import faulthandler
import mmap
import os
import signal
import sys
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from analytics_sdk import _window
from analytics_sdk._window import Window
from tests.sdk.world import disk_with_room_for

END = 256 * 1024
pytestmark = pytest.mark.usefixtures("windows")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with a head of five bytes."""
    path = tmp_path / "file"
    path.write_bytes(b"head\n")
    return path


@pytest.fixture
def fd(path: Path) -> Iterator[int]:
    """The file, open."""
    fd = os.open(path, os.O_RDWR)
    yield fd
    os.close(fd)


def test_what_is_stored_is_in_the_file(fd: int, path: Path) -> None:
    """A line that was stored is read from the file by anybody, where the window says that it begins."""
    window = Window(fd, 5, END)
    assert window.look(4) >= 4
    window.write(b"one\n")
    assert window.position == 9
    window.write(b"two\n")
    assert path.read_bytes() == b"head\none\ntwo\n".ljust(END, b"\0")
    window.close()


def test_it_begins_in_the_midst_of_a_page(fd: int, path: Path) -> None:
    """What stands before the window's first line stays as it is, however far into the file that is."""
    before = b"x" * (3 * mmap.PAGESIZE + 100)
    path.write_bytes(before)
    window = Window(fd, len(before), END)
    window.look(4)
    window.write(b"one\n")
    assert path.read_bytes().rstrip(b"\0") == before + b"one\n"
    window.close()


def test_no_room_is_taken_before_it_is_used(fd: int, path: Path) -> None:
    """The file is long at once, and takes room on the disk as it fills."""
    window = Window(fd, 5, END)
    taken = [path.stat().st_blocks * 512]
    for _ in range(3):
        window.look(30_000)
        window.write(b"x" * 30_000)
        taken.append(path.stat().st_blocks * 512)
    assert path.stat().st_size == END
    assert taken == sorted(taken)
    assert taken[0] <= 4096 < 90_000 <= taken[-1] < END
    window.close()


def test_it_says_how_much_it_takes(fd: int) -> None:
    """So many bytes as it has promised can be stored, to the last one; behind the end it promises none."""
    window = Window(fd, 5, END)
    while room := window.look(1000):
        assert room >= 1000
        window.write(b"x" * room)
    assert END - 1000 < window.position <= END
    assert window.look(END - window.position + 1) == 0
    window.close()


def test_a_line_larger_than_what_is_made_ready_at_once(fd: int) -> None:
    """A line of 100 KB finds room in one look."""
    window = Window(fd, 5, END)
    assert window.look(100_000) >= 100_000
    window.write(b"x" * 100_000)
    window.close()


def test_a_closed_window_takes_nothing(fd: int) -> None:
    """Who stores into a window that was closed gets an error, and the file stays as long as it was made."""
    window = Window(fd, 5, END)
    window.look(4)
    window.close()
    with pytest.raises(ValueError, match="closed"):
        window.write(b"one\n")
    assert os.fstat(fd).st_size == END


def test_a_disk_without_room_is_an_error(fd: int) -> None:
    """Where the file may not grow there is no window; where the disk has no room left there is none for a line."""
    with disk_with_room_for(1000), pytest.raises(OSError, match="large"):
        Window(fd, 5, END)
    window = Window(fd, 5, END)
    with disk_with_room_for(1000), pytest.raises(OSError, match=r"large|space"):
        window.look(10_000)
    window.close()


def in_child(function: Callable[..., object], *arguments: object) -> int | None:
    """The exit code of a process of its own: 0 if the function returned, below zero if a signal has ended it."""
    process = get_context("fork").Process(target=function, args=arguments)
    process.start()
    process.join(30)
    return process.exitcode


def store_after_a_cut(path: Path, asks: Callable[[Window], object]) -> None:
    """Store a line after somebody has cut the file."""
    window = Window(os.open(path, os.O_RDWR), 5, END)
    window.look(4)
    os.truncate(path, 0)
    faulthandler.disable()  # which would tell of the signal at length
    asks(window)
    window.write(b"one\n")


def look_in_vain(window: Window) -> None:
    """Ask, hear that no store is possible, and leave it at that."""
    with pytest.raises(OSError, match="address"):
        window.look(4)
    sys.exit(0)


def test_a_file_that_somebody_has_cut(path: Path) -> None:
    """Who asks gets an error where a store would have ended the process, as it does that of who does not ask."""
    assert in_child(store_after_a_cut, path, look_in_vain) == 0
    assert in_child(store_after_a_cut, path, id) == -signal.SIGBUS


def test_cleared_it_begins_anew(fd: int, path: Path) -> None:
    """Of a window that was cleared the head is left, and it takes lines from there on, in the room that it has."""
    window = Window(fd, 5, END)
    window.look(40_000)
    window.write(b"x" * 40_000)
    taken = path.stat().st_blocks
    window.clear(5)
    assert path.read_bytes() == b"head\n".ljust(END, b"\0")
    assert (window.position, path.stat().st_blocks) == (5, taken)
    assert window.look(40_000) >= 4
    window.write(b"one\n")
    assert path.read_bytes().rstrip(b"\0") == b"head\none\n"
    window.close()


def shared_bytes() -> int:
    """How much memory of this process is a file's."""
    return int(Path("/proc/self/statm").read_text().split()[2]) * mmap.PAGESIZE


def test_it_holds_little_memory(fd: int, path: Path) -> None:
    """However much passes through a window, it holds no more than about half a megabyte, and all is in the file."""
    window = Window(fd, 5, 8 << 20)
    before = shared_bytes()
    for number in range(7000):
        line = b"%07d" % number + b"x" * 1000
        assert window.look(len(line)) >= len(line)
        window.write(line)
        assert shared_bytes() - before < Window.HELD + 200_000
    assert path.read_bytes().rstrip(b"\0") == b"head\n" + b"".join(b"%07d" % n + b"x" * 1000 for n in range(7000))
    window.close()


class Fatal(bytes):
    """Zeros that end whoever takes them."""

    def __getitem__(self, _: object) -> Any:
        raise KeyboardInterrupt


def test_the_first_byte_tells_of_an_end_in_the_midst_of_clearing(
    fd: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as there are zeros for a part of the lines only, the file begins with a zero."""
    window = Window(fd, 5, END)
    window.look(40_000)
    window.write(b"x" * 40_000)
    monkeypatch.setattr(_window, "_ZEROS", Fatal(100))
    with pytest.raises(KeyboardInterrupt):
        window.clear(5)
    assert path.read_bytes().startswith(b"\0ead\nx")
    window.close()


def clear_after_a_cut(path: Path) -> None:
    """Clear a window whose file somebody has cut."""
    window = Window(os.open(path, os.O_RDWR), 5, END)
    window.look(4)
    window.write(b"one\n")
    os.truncate(path, 0)
    with pytest.raises(OSError, match="address"):
        window.clear(5)


def test_clearing_asks_before(path: Path) -> None:
    """A window whose file was cut is not cleared: that is an error, and no signal."""
    assert in_child(clear_after_a_cut, path) == 0
