"""When memory that logins have left free goes back to the system."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgpool_core.control.slack import BURST, FEW, Slack
from pgpool_core.engine.memory import let_go, trim


@pytest.mark.parametrize(
    ("looks", "trims"),
    [
        ([(BURST, 0)], [0]),
        ([(BURST, 0), (BURST, 0), (BURST, 0), (BURST, 0)], [0, 1, 2, 2]),
        ([(BURST - 1, 0), (BURST - 1, 0)], [0, 0]),
        ([(BURST, FEW), (BURST, FEW), (BURST, FEW - 1)], [0, 0, 1]),
        ([(BURST, 0), (BURST + 1, 0), (BURST + 1, 0)], [0, 0, 1]),
        ([(BURST, 0), (BURST, 0), (BURST + 1, 0), (BURST + 1, 0), (BURST + 1, 0)], [0, 1, 1, 2, 2]),
        ([(BURST, 0), (BURST, 0), (BURST, 0), (2 * BURST - 1, 0), (2 * BURST - 1, 0)], [0, 1, 2, 2, 2]),
        ([(BURST, 0), (BURST, 0), (2 * BURST, 0), (2 * BURST, 0), (2 * BURST, 0)], [0, 1, 1, 2, 3]),
    ],
    ids=[
        "not while they come",
        "and once more",
        "too few",
        "when logins are over",
        "quiet",
        "once more when it is quiet",
        "not enough more",
        "twice",
    ],
)
def test_memory_is_trimmed_after_each_burst(looks: list[tuple[int, int]], trims: list[int]) -> None:
    done: list[None] = []
    now = [1000, 0]
    slack = Slack(lambda: now[0], lambda: now[1], lambda: done.append(None))
    counted = []
    for connections, logins in looks:
        now[:] = 1000 + connections, logins
        slack.look()
        counted.append(len(done))
    assert counted == trims


def test_pages_of_program_files_are_unmapped_and_come_again() -> None:
    def mapped_kb() -> int:
        """Of private mappings of files, without those that have pages of their own."""
        total = rss = 0
        mode = ""
        for words in map(str.split, Path("/proc/self/smaps").read_text().splitlines()):
            if "-" in words[0]:
                mode, inode = words[1], words[4]
            elif words[0] == "Rss:":
                rss = int(words[1])
            elif words[0] == "Anonymous:" and words[1] == "0" and inode != "0" and mode in ("r-xp", "r--p"):
                total += rss
        return total

    trim()
    before = mapped_kb()
    assert let_go() >= before * 1024 / 2
    assert mapped_kb() < before
    assert sorted(["the", "interpreter", "goes", "on"]) == ["goes", "interpreter", "on", "the"]
