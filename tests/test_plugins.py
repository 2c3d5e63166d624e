"""A folder is a registry."""

from __future__ import annotations

import pytest

from lift import plugins
from lift.config import part
from lift.errors import ConfigError, MissingPackage


def test_every_part_has_config_and_build() -> None:
    for room in plugins.ROOMS:
        assert plugins.names(room), room
        for name in plugins.names(room):
            module = plugins.load(room, name)
            assert hasattr(module, "Config") and callable(module.build), (room, name)
            assert (module.__doc__ or "").strip(), (room, name)


def test_an_unknown_part_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"Unknown objective 'sofmax'. Did you mean 'softmax'\?"):
        plugins.load("objectives", "sofmax")
    with pytest.raises(ConfigError, match=r"'widht'. Did you mean 'width'\?"):
        plugins.configure(part("towers", "vit", widht=3))


def test_a_missing_package_names_the_command() -> None:
    with pytest.raises(MissingPackage, match=r"pip install 'lift-align\[text\]'"):
        plugins.require("no_such_package_anywhere", "text", "text/encoders/x")


def test_resolving_spells_every_option_out() -> None:
    resolved = plugins.resolve(part("objectives", "softmax"))
    assert "init_temperature" in resolved.options
    assert plugins.resolve(resolved) == resolved
