"""A folder is a registry."""

from __future__ import annotations

import importlib

import pytest

from lift import plugins, recipes
from lift.config import from_dict, override, part, to_dict
from lift.errors import ConfigError, MissingPackage
from lift.training.config import RunConfig


def test_every_part_has_config_and_build() -> None:
    for room in plugins.ROOMS:
        assert plugins.names(room), room
        for name in plugins.names(room):
            # Not plugins.load: packages that a part needs may be absent, and its file may not care.
            module = importlib.import_module(f"lift.{room.replace('/', '.')}.{name}")
            made = module.look if room == "catalog" else module.build
            assert hasattr(module, "Config") and callable(made), (room, name)
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


@pytest.mark.parametrize(
    ("words", "name", "option"),
    [
        (["objective.of.soft=0.2"], "softmax", ("soft", 0.2)),
        (["objective.of=sigmoid", "objective.of.init_bias=-5"], "sigmoid", ("init_bias", -5.0)),
        (["objective.prefixes=64"], "softmax", ("soft", 0.0)),
    ],
)
def test_words_about_an_objective_of_an_objective(words, name, option):
    """They reach what is built; resolved or not, a config keeps them in its JSON."""
    config = override(recipes.get("quickstart"), ["objective=matryoshka", *words])
    for kept in (config, config.resolved()):
        again = from_dict(RunConfig, to_dict(kept)).resolved()
        assert again == config.resolved()
        of = again.objective.options["of"]
        assert of["name"] == name and of["options"][option[0]] == option[1]
    changed = override(config.resolved(), [f"objective.of.{option[0]}=0.125"]).resolved()
    assert changed.objective.options["of"]["options"][option[0]] == 0.125
    assert plugins.build(changed.objective).of.config == plugins.configure(
        part("objectives", name, **{**of["options"], option[0]: 0.125})
    )
    if "prefixes" in words[0]:
        assert again.objective.options["prefixes"] == [64]


def test_wrong_words_about_an_objective_of_an_objective():
    config = override(recipes.get("quickstart"), ["objective=matryoshka", "objective.of.sfot=1"])
    with pytest.raises(ConfigError, match=r"'sfot'. Did you mean 'soft'\?"):
        config.resolved()
    config = override(recipes.get("quickstart"), ["objective.soft.x=1"])
    with pytest.raises(ConfigError, match=r"soft.x goes deeper than"):
        config.resolved()
