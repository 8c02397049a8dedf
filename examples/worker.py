"""A queue of jobs in PostgreSQL, and worker processes that take from it, as Celery's prefork workers do: `python worker.py [WORKERS]`.

All of them share one pooler in a process of its own: ten workers need no more servers than two jobs at a time do.
"""

from __future__ import annotations

import multiprocessing
import os
import sys

import psycopg

import pgpool_core

TAKE = """delete from jobs where id = (select id from jobs order by id for update skip locked limit 1)
    returning id, number"""


def work(url: str) -> None:
    """Take jobs until none is left. A job and its result are one transaction: who dies in between has not taken it."""
    with psycopg.connect(url) as connection:
        while True:
            with connection.transaction():
                job = connection.execute(TAKE).fetchone()
                if job is None:
                    return
                number, square = job[0], job[1] ** 2
                connection.execute("insert into results values (%s, %s, %s)", (number, square, os.getpid()))


def main(workers: int = 4) -> None:
    with pgpool_core.run_proxy_process(os.environ["DATABASE_URL"], default_pool_size=2) as proxy:
        with psycopg.connect(proxy.url) as connection:
            connection.execute("create table if not exists jobs (id serial primary key, number int not null)")
            connection.execute("create table if not exists results (id int primary key, square int, worker int)")
            connection.execute("insert into jobs (number) select generate_series(1, 200)")
        processes = [multiprocessing.Process(target=work, args=(proxy.url,)) for _ in range(workers)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        with psycopg.connect(proxy.url) as connection:
            done = connection.execute("select count(*), count(distinct worker) from results").fetchone()
        servers = max(pool.servers_total for pool in proxy.statistics().pools)
        print("jobs and workers:", done, "servers:", servers)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
