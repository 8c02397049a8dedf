"""`open_pool` beside asyncpg.Pool and psycopg_pool: queries per second, and CPU of the client per query."""
