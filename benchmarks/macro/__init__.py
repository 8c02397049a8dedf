"""Whole-system benchmark: pgbench against PostgreSQL directly, through PgBouncer and through `pgpool_core`."""
