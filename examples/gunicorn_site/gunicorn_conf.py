"""gunicorn's configuration: one pooler, in a process beside the workers, which share its servers.

With 4 workers of 8 threads each a pool in each worker would be 32 connections to PostgreSQL. Here it is 5.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any

import pgpool_core

bind = os.environ.get("BIND", "127.0.0.1:8000")
workers = 4
worker_class = "gthread"
threads = 8
preload_app = True

stack = ExitStack()


def on_starting(server: Any) -> None:
    proxy = stack.enter_context(pgpool_core.run_proxy_process(os.environ["DATABASE_URL"], default_pool_size=5))
    os.environ["DATABASE_URL"] = proxy.url


def on_exit(server: Any) -> None:
    stack.close()
