"""Configuration out of environment variables, as the packagings around PgBouncer have them."""

from pgpool_core.config.env.generated import KINDS, Generated, generate

__all__ = ["KINDS", "Generated", "generate"]
