"""Costs of single functions, in nanoseconds."""
