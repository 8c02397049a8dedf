"""The process around a pooler: who it runs as, its pid file, the background, systemd, taking over from a running one."""
