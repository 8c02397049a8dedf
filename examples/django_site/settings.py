"""Django's settings. The pooler runs in a thread of this process; `django_database` is its entry in DATABASES.

A server that forks workers starts one pooler for all of them (see gunicorn_site); then `django_database(os.environ["DATABASE_URL"])` is all.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

from pgpool_core import django_database, run_proxy_in_thread

stack = ExitStack()  # left when the interpreter ends
proxy = stack.enter_context(run_proxy_in_thread(os.environ["DATABASE_URL"], default_pool_size=5))

# Persistent connections cost the pooler half a kilobyte each, and no server while they are idle. Cursors on the server stay switched on.
DATABASES = {"default": django_database(proxy, CONN_MAX_AGE=None, CONN_HEALTH_CHECKS=True)}

SECRET_KEY = os.environ.get("SECRET_KEY", "only for an example")
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
INSTALLED_APPS = ["notes"]
ROOT_URLCONF = "notes.views"
WSGI_APPLICATION = "wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
