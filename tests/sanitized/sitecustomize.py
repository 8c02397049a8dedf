"""What every Python does first in `make test-asan` and `make test-tsan`, which put this folder on its path.

The sanitizer's runtime has to be preloaded into Python, because Python itself is built without it. PostgreSQL, psql and
what else a test starts are not to have it: they would be slower, and judged. So Python forgets LD_PRELOAD once it is
loaded, and calls itself by the script that sets it again. ASAN_OPTIONS goes too: pytest's own process is full of other
people's modules and not asked about leaks, the pooler's is.
"""

import os
import sys

if os.environ.pop("LD_PRELOAD", None) is not None and "PGPOOL_SANITIZED_PYTHON" in os.environ:
    sys.executable = os.environ["PGPOOL_SANITIZED_PYTHON"]
    os.environ.pop("ASAN_OPTIONS", None)
