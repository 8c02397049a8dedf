"""Where a report goes, looked at before the minutes that it takes to make."""

from __future__ import annotations

import argparse
import os
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
