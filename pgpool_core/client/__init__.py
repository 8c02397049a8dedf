"""PostgreSQL from trio: a pool of connections, queries, rows. The public names are in `pgpool_core` itself."""
