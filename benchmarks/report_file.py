"""Where a report goes: looked at before the minutes that it takes to make, and written when it is made."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path


def report_file(text: str) -> Path:
    """For argparse: a file that can be written when the measuring is over.

    Raises:
        argparse.ArgumentTypeError: it cannot.
    """
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text} cannot be written")
    return path


def picture_of(report: Path) -> Path:
    """Where the picture goes that a report shows."""
    return report.with_suffix(".svg")


def deliver(page: str, report: Path | None, picture: str = "") -> None:
    """Print the page; with `report`, write it there too, and a picture beside it if there is one. What was written is said on standard error."""
    print(page, flush=True)
    if report is None:
        return
    report.write_text(page)
    written = [str(report)]
    if picture:
        picture_of(report).write_text(picture)
        written.append(str(picture_of(report)))
    print(f"written to {' and '.join(written)}", file=sys.stderr, flush=True)
