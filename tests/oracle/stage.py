"""The place of the comparisons: one PostgreSQL with two equal databases, and a pooler in front of one of them."""

from __future__ import annotations

import attrs

from pgpool_core.testing import PoolerProcess, PostgresServer, PostgresUser

__all__ = ["POOLED", "STRAIGHT", "USERS", "Address", "furnish", "pooler_before"]

USERS = (
    PostgresUser(name="app", password="app-secret", method="trust"),
    PostgresUser(name="boss", password="boss-secret", method="trust", options="superuser"),
    PostgresUser(name="reader", password="reader-secret", method="trust"),
)
POOLED, STRAIGHT = "pooled", "straight"

# The same table in three schemas tells which search_path counts; `act` does what its argument says.
_FURNITURE = """
    create schema if not exists s1; create schema if not exists "S 2";
    create table public.spot as select 'public' as here;
    create table s1.spot as select 's1' as here;
    create table "S 2".spot as select 'S 2' as here;
    create table public.load (n int primary key, t text);
    create table public.watched (n int, t text);
    create function public.refuse() returns trigger language plpgsql as
        $$begin raise exception 'not here'; end$$;
    create trigger t before insert on public.watched for each statement execute function public.refuse();
    create table public.parent (n int primary key);
    create table public.child (n int references public.parent deferrable);
    create function public.act(what text) returns text language plpgsql as 'begin execute what; return what; end';
    create function public.quietly() returns text language sql as $$select set_config('work_mem', '11MB', false)$$;
    create function public.at_write() returns trigger language plpgsql as
        $$begin perform set_config('app.b', 'triggered', false); return null; end$$;
    create table public.trap (n int);
    create trigger t after insert on public.trap for each row execute function public.at_write();
    create view public.pane as select quietly() as q;
    create sequence public.counter;
    grant all on all tables in schema public, s1, "S 2" to public;
    grant all on sequence public.counter to public;
    grant usage, create on schema public, s1, "S 2" to public;
"""


@attrs.frozen
class Address:
    """Where clients connect."""

    host: str
    port: int
    database: str


def furnish(server: PostgresServer) -> None:
    """Make both databases the same."""
    server.sql("grant reader to app")
    for database in (POOLED, STRAIGHT):
        server.sql(_FURNITURE, database=database)


def pooler_before(server: PostgresServer | Address, *, servers: int, **settings: object) -> PoolerProcess:
    """A pooler, not started yet, in transaction mode, whose clients need no password; `server` may be another one's place."""
    return PoolerProcess(
        databases={POOLED: f"host={server.host} port={server.port}"},
        passwords={user.name: user.password for user in USERS},
        settings={
            "auth_type": "trust",
            "pool_mode": "transaction",
            "session_state": "auto",
            "default_pool_size": servers,
            "max_client_conn": 500,
            "query_wait_notify": 0,  # a NOTICE of the pooler's own
            "max_pinned_connections": servers,
            "admin_users": "app",
            "log_connections": False,
            "log_disconnections": False,
            **settings,
        },
    )
