"""`python -m pgpool_core`, and what the console script `pgpool-core` calls."""

from __future__ import annotations

from pgpool_core.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
