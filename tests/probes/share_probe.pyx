"""Door to `engine.share` for tests."""

from libc.stdint cimport uint32_t, uint64_t

from pgpool_core.engine.share cimport share_accepts, share_lets


def lets(uint32_t logins, uint64_t turn_us):
    return bool(share_lets(logins, turn_us))


def accepts(uint32_t streak):
    return share_accepts(streak)
