"""What RELOAD takes over and what it leaves for a restart."""

from __future__ import annotations

from pgpool_core.config import SETTINGS, Config, describe, reload_config
from pgpool_core.config.not_built import NOT_BUILT


def test_nothing_changes_when_nothing_was_changed():
    new = Config.of(databases={"a": {}})
    reloaded = reload_config(Config.of(databases={"a": {}}), new)
    assert reloaded.config is new
    assert (reloaded.changed, reloaded.waiting, reloaded.warnings) == ((), (), ())


def test_a_setting_that_needs_a_restart_keeps_its_value_and_is_warned_about():
    old = Config.of(listen_port=6432, workers=2, verbose=0)
    new = Config.of(listen_port=7000, workers=2, verbose=1, listen_addr=("*",), databases={"a": {}})
    reloaded = reload_config(old, new)
    assert reloaded.config == Config.of(listen_port=6432, workers=2, verbose=1, databases={"a": {}})
    assert reloaded.changed == ("verbose",)
    assert reloaded.waiting == ("listen_addr", "listen_port")
    assert reloaded.warnings == (
        'an empty value stays until a restart, although the configuration now says "*" (listen_addr)',
        '"6432" stays until a restart, although the configuration now says "7000" (listen_port)',
    )


def test_only_sockets_threads_and_what_the_process_is_need_a_restart():
    assert {name for name, setting in SETTINGS.items() if not setting.reloadable} == {
        "listen_addr",
        "listen_port",
        "unix_socket_dir",
        "unix_socket_mode",
        "unix_socket_group",
        "listen_backlog",
        "so_reuseport",
        "user",
        "pidfile",
        "workers",
        "io_backend",
        "pkt_buf",
        "track_extra_parameters",
        "disable_pqexec",
    }
    assert {row.key for row in describe(Config()) if not row.changeable} - NOT_BUILT.keys() == {
        name for name, setting in SETTINGS.items() if not setting.reloadable
    }
