"""The process around a pooler: who it runs as, its pid file, the background, systemd, taking over from a running one."""

from pgpool_core.control.footprint import import_in_steps

import_in_steps("pgpool_core.metrics.snapshot", "pgpool_core.control.pooler")  # 1 MB less than all at once
