# %% [markdown]
# # A pooler in a notebook
# The cells run in Jupyter, VS Code or as a script. The proxy lives until the kernel is restarted; the cell may be run again.

# %%
import os
from contextlib import ExitStack

import psycopg
import sqlalchemy

import pgpool_core

stack = globals().get("stack") or ExitStack()
stack.close()
proxy = stack.enter_context(pgpool_core.run_proxy_in_thread(os.environ["DATABASE_URL"], default_pool_size=3))
print(proxy)

# %% [markdown]
# Any driver, as often as you like: a connection costs no server while it is idle.

# %%
connections = [psycopg.connect(proxy.url, autocommit=True) for _ in range(20)]
answers = [connection.execute("select %s::int", (n,)).fetchone() for n, connection in enumerate(connections)]
print(answers[-1])

# %%
engine = sqlalchemy.create_engine(proxy.url_for("sqlalchemy+psycopg"), poolclass=sqlalchemy.pool.NullPool)
with engine.connect() as connection:
    print(connection.execute(sqlalchemy.text("select n, n * n from generate_series(1, 3) n")).all())

# %%
for pool in proxy.statistics().pools:
    print(pool.database, "clients:", pool.cl_active, "servers:", pool.servers_total)

# %%
for each in connections:
    each.close()
