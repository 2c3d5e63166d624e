"""Methods of a recipe: what they change, and that they change nothing else."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import lift
from lift import plugins, recipes
from lift.config import part, to_dict
from lift.data.loader import LoaderConfig
from lift.errors import ConfigError, LiftError
from lift.model import build_side, count_parameters
from lift.text.conditioning import ConditionConfig
from lift.training import methods
from lift.training.config import RunConfig
from lift.training.matching import differences, is_of_method

BASES = ("quickstart", "flickr8k_tiny", "products_tiny", "lift_b16_512m")
MAY_CHANGE = {
    *("recipe", "encoder", "dimensions", "text_tower", "text_head", "objective", "freeze"),
    "loader",
}


@pytest.mark.parametrize("method", methods.METHODS)
@pytest.mark.parametrize("base", BASES)
def test_a_method_changes_what_it_is_and_nothing_else(base: str, method: str) -> None:
    ours, theirs = recipes.get(f"{base}+{method}"), recipes.get(base)
    changed = {
        field.name
        for field in dataclasses.fields(RunConfig)
        if getattr(ours, field.name) != getattr(theirs, field.name)
    }
    assert changed <= MAY_CHANGE
    assert ours.recipe == f"{base}+{method}"
    assert ours.text_tower is not None and ours.encoder is None
    captions = {"mix": "one"}.get(theirs.loader.captions, theirs.loader.captions)
    assert ours.loader == dataclasses.replace(theirs.loader, captions=captions)
    assert ours.resolved().resolved() == ours.resolved()


@pytest.mark.parametrize("base", BASES)
def test_the_image_side_keeps_its_shape(base: str) -> None:
    lift, clip = recipes.get(base).resolved(), recipes.get(f"{base}+clip").resolved()
    width = lift.dimensions or 384
    with torch.device("meta"):
        sides = [build_side(c.image, None, d) for c, d in ((lift, width), (clip, clip.dimensions))]
    shapes = [{name: p.shape for name, p in side.named_parameters()} for side in sides]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    ("base", "shape"),
    [
        ("lift_b16_512m", {"width": 512, "depth": 12, "heads": 8, "context": 323}),
        ("lift_b16_128m", {"width": 512, "depth": 12, "heads": 8, "context": 77}),
        ("products_tiny", {"width": 128, "depth": 6, "heads": 2, "context": 77}),
        ("flickr8k_tiny", {"width": 64, "depth": 4, "heads": 1, "context": 77}),
    ],
)
def test_the_text_tower_is_scaled_to_the_image_tower(base: str, shape: dict) -> None:
    tower = recipes.get(f"{base}+clip").text_tower
    assert tower == part("text_towers", "transformer", **shape)


def test_objectives_are_the_methods() -> None:
    assert recipes.get("products_tiny+clip").objective == recipes.get("products_tiny").objective
    siglip = recipes.get("lift_b16_512m+siglip").objective
    assert siglip == part("objectives", "sigmoid", share_equal=False, ignore_above=None)
    # The cosine loss has no negatives: two trained sides would meet in one point.
    assert recipes.get("lift_b16_512m_cosine+clip").objective.name == "softmax"


def test_what_is_frozen() -> None:
    frozen = {name: recipes.get(f"quickstart+{name}").freeze for name in methods.METHODS}
    assert frozen == {
        "clip": (),
        "siglip": (),
        "lit": ("image.tower",),
        "clip_minilm": (),
        "frozen_minilm": ("text.tower",),
        "frozen_random": ("text.tower", "text.head"),
    }
    base = dataclasses.replace(recipes.get("quickstart"), freeze=("image.head",))
    assert methods.apply("lit", base).freeze == ("image.head", "image.tower")


def test_freezing_alone_and_pre_training_alone_can_be_told_apart() -> None:
    for one, other in (("clip_minilm", "frozen_minilm"), ("clip", "frozen_random")):
        pair = [recipes.get(f"quickstart+{name}") for name in (one, other)]
        assert {found.option for found in differences(*pair)} == {"freeze"}


def test_what_lives_on_stored_rows_only_is_off() -> None:
    base = dataclasses.replace(
        recipes.get("quickstart"),
        condition=ConditionConfig(kind="whiten"),
        bank=64,
        loader=LoaderConfig(batch_size=8, linked=True, negatives=2),
    )
    found = methods.apply("clip", base)
    assert found.condition == ConditionConfig() and found.bank == 0
    assert not found.loader.linked and found.loader.negatives == 0


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("flickr8k_tny+clip", "Unknown recipe 'flickr8k_tny'. Did you mean 'flickr8k_tiny'?"),
        ("flickr8k_tiny+clp", "Unknown method 'clp'. Did you mean 'clip'?"),
        ("flickr8k_tiny+", "Unknown method ''"),
        ("clp", "Did you mean 'clip'?"),
        ("clip+siglip", "names two methods"),
        ("clip_reference+clip", "trains its text side already"),
    ],
)
def test_wrong_names_are_answered_with_the_nearest(word: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as told:
        recipes.get(word)
    assert sentence in str(told.value)


def test_short_words() -> None:
    for name in ("clip", "siglip", "lit"):
        assert recipes.get(name) == recipes.get(f"lift_b16_512m+{name}")
        assert recipes.is_known(name)
    assert not recipes.is_known("quickstart+clp") and not recipes.is_known("runs/clip")


def test_options_change_the_base_before_it_becomes_a_method() -> None:
    found = recipes.get("quickstart+clip", ["tower.width=192", "tower.depth=3"])
    assert found.text_tower is not None
    assert found.text_tower.options["width"] == 128 and found.text_tower.options["depth"] == 3


def test_a_base_of_unknown_width_says_how_to_tell_it() -> None:
    with pytest.raises(ConfigError, match="--set dimensions=384"):
        recipes.get("quickstart+clip", ["encoder=none"])
    assert recipes.get("quickstart+clip", ["encoder=none", "dimensions=40"]).dimensions == 40


def test_lit_needs_a_model_to_start_from() -> None:
    with pytest.raises(ConfigError, match="--set start="):
        methods.require_start(recipes.get("quickstart+lit"))
    ready = dataclasses.replace(recipes.get("quickstart+lit"), start="somewhere")
    methods.require_start(ready)
    methods.require_start(recipes.get("quickstart+clip"))


@pytest.mark.parametrize(
    ("name", "context", "parameters"),
    [("clip_reference", 77, 149_620_737), ("clip_reference_long", 323, 149_746_689)],
)
def test_the_reference_clip_has_the_size_of_the_reference(
    name: str, context: int, parameters: int
) -> None:
    """149.62 and 149.75 million, as measured on the paper's repository."""
    config = recipes.get(name).resolved()
    assert config.text_tower is not None and config.text_tower.options["context"] == context
    assert config.optim.clip_norm is None and config.tower.options["pooling"] == "token"
    assert config.text_tower.options["pad_to"] == "context"
    with torch.device("meta"):
        modules = [build_side(side, None, 512) for side in (config.image, config.text)]
        modules.append(plugins.build(config.objective))
    assert sum(map(count_parameters, modules)) == parameters


def test_what_differs_is_told_apart_from_what_is_the_method() -> None:
    lift, clip = (recipes.get(name) for name in ("flickr8k_tiny", "flickr8k_tiny+clip"))
    found = {one.option: one for one in differences(lift, clip)}
    of_method = {name for name, one in found.items() if is_of_method(one)}
    assert of_method >= {"encoder", "text_tower", "text_head.layers"}
    assert {"loader.captions"} <= found.keys() - of_method <= {"loader.captions", "dimensions"}
    reference = recipes.get("clip_reference")
    names = {one.option for one in differences(recipes.get("lift_b16_1280m"), reference)}
    assert names >= {"tower.pooling", "head.layers", "head.bias", "optim.clip_norm", "dimensions"}


def test_every_option_of_two_runs_is_looked_at() -> None:
    """A changed option of any depth is found, unless it can't matter."""
    base = recipes.get("products_tiny")
    for words in ("optim.lr=0.5", "tower.drop_path=0.5", "transform.augment.flip=0.0", "ema=0.5"):
        from lift.config import override

        assert [one.option for one in differences(base, override(base, [words]))] == [
            words.partition("=")[0]
        ]
    assert not [*differences(base, dataclasses.replace(base, seed=3, log_every=1, data="x"))]


def test_descriptions_are_one_sentence() -> None:
    for name, sentence in recipes.describe():
        assert sentence.endswith("."), name
    assert "+clip" in dict(recipes.describe())


def test_methods_survive_json() -> None:
    from lift.config import from_dict

    for method in methods.METHODS:
        config = recipes.get(f"quickstart+{method}").resolved()
        assert from_dict(RunConfig, to_dict(config)).resolved() == config


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["freeze=[text.tower]"], "which this model does not have"),
        (["freeze=[image.tower,image.head]"], "nothing to train"),
        (["start=nowhere"], "nowhere is no model"),
    ],
)
def test_what_no_data_would_train_is_refused_by_a_dry_run(options: list, sentence: str) -> None:
    with pytest.raises(LiftError, match=sentence):
        lift.dry_run("quickstart", options=options)


def test_a_text_tower_whose_tokenizer_is_to_be_made_has_at_most_so_many_parameters() -> None:
    assert "at most" in lift.dry_run("quickstart+clip").table()
    assert "at most" not in lift.dry_run("quickstart").table()
