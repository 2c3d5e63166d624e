"""Prefixes: what is trained, with which shares, and what stops."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from lift import plugins
from lift.candidates import Candidates, Extra
from lift.config import Part, from_dict, part, to_dict
from lift.errors import ConfigError
from lift.objectives import matryoshka, softmax
from lift.terms import unit


def step(width=8):
    return unit(torch.randn(6, width)), Candidates.alone(
        unit(torch.randn(6, width)), row=torch.arange(6)
    )


def cut(texts, length):
    return dataclasses.replace(texts, z=unit(texts.z[:, :length]))


def test_the_mean_over_lengths():
    z_image, texts = step()
    objective = matryoshka.build(matryoshka.Config(prefixes=(2, 4), weights=(1.0, 0.5, 2.5)))
    inner = softmax.build(softmax.Config())
    losses = [inner(unit(z_image[:, :n]), cut(texts, n)) for n in (2, 4)]
    losses.append(inner(z_image, texts))
    mean = (losses[0] + 0.5 * losses[1] + 2.5 * losses[2]) / 4
    torch.testing.assert_close(objective(z_image, texts), mean)


def test_a_length_of_weight_0_costs_nothing(monkeypatch):
    z_image, texts = step()
    objective = matryoshka.build(matryoshka.Config(prefixes=(2, 4), weights=(0.0, 1.0, 0.0)))
    calls = []
    inner = objective.of.forward
    monkeypatch.setattr(objective.of, "forward", lambda z, t: calls.append(z.shape) or inner(z, t))
    objective(z_image, texts)
    assert calls == [(6, 4)]


def test_extra_texts_are_cut_too():
    z_image, texts = step()
    rows = unit(torch.randn(5, 8))
    texts = dataclasses.replace(
        texts, extra=Extra(torch.arange(50, 55), lambda start, stop: rows[start:stop])
    )
    short = dataclasses.replace(
        cut(texts, 3),
        extra=Extra(torch.arange(50, 55), lambda start, stop: unit(rows[start:stop, :3])),
    )
    objective = matryoshka.build(matryoshka.Config(prefixes=(3,), weights=(1.0, 0.0)))
    inner = softmax.build(softmax.Config())
    torch.testing.assert_close(objective(z_image, texts), inner(unit(z_image[:, :3]), short))


@pytest.mark.parametrize("width", [4, 3])
def test_a_prefix_as_long_as_the_space_stops(width):
    objective = matryoshka.build(matryoshka.Config(prefixes=(2, 4)))
    with pytest.raises(ConfigError, match="has 4, which is not shorter than the vectors of this"):
        objective(*step(width))


@pytest.mark.parametrize(
    "options",
    [
        {"prefixes": ()},
        {"prefixes": (0, 2)},
        {"prefixes": (4, 2)},
        {"prefixes": (2, 2)},
        {"prefixes": (2, 4), "weights": (1.0, 1.0)},
        {"prefixes": (2,), "weights": (1.0, -1.0)},
        {"prefixes": (2,), "weights": (0.0, 0.0)},
        {"of": part("objectives", "matryoshka")},
        {"of": part("towers", "vit")},
        {"of": part("objectives", "softmax", soft=2.0)},
    ],
)
def test_impossible_options_stop(options):
    with pytest.raises(ConfigError):
        matryoshka.build(matryoshka.Config(**options))


def test_a_part_within_a_part_survives_json():
    whole = part("objectives", "matryoshka", of=part("objectives", "sigmoid", init_bias=-3.0))
    told = json.loads(json.dumps(to_dict(plugins.resolve(whole))))
    again = from_dict(Part, told)
    assert plugins.configure(again) == plugins.configure(plugins.resolve(whole))
    objective = plugins.build(again)
    assert objective.splits and objective.scalars()["bias"] == -3.0
    assert set(objective.state_dict()) == {"of.log_scale", "of.bias"}
