"""Transforms of the text space against numpy's own covariance and eigenvectors, and the way back:
which orders survive the fold exactly, which nearly, and which do not."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from lift.cache.conditioned import fit_on
from lift.cache.reader import EmbeddingCache
from lift.cache.writer import embed
from lift.config import from_dict, part
from lift.errors import CheckpointError, ConfigError, NotFinite
from lift.heads import HeadConfig, MLPHead
from lift.model import Side, build_side, save_tensors
from lift.moved_heads import fold_into
from lift.terms import unit
from lift.text.conditioning import Condition, ConditionConfig, Moments, fit
from lift.text.encoder import build_encoder
from lift.training.folding import folded

WIDTH = 12
ALL = [
    ConditionConfig(kind=kind, mean=mean, dimensions=dimensions)
    for kind, mean, dimensions in itertools.product(
        ("centre", "pca", "whiten"), ("project", "subtract"), (0, 5)
    )
    if kind != "centre" or not dimensions
]


def names(config: ConditionConfig) -> str:
    return f"{config.kind}-{config.mean}-{config.dimensions}"


def rows(count: int, width: int = WIDTH, seed: int = 0, shift: float = 0.4) -> np.ndarray:
    """Return rows around a common direction, not of unit length, some directions stronger."""
    dice = np.random.default_rng(seed)
    raw = dice.normal(size=(count, width)) * np.linspace(2, 0.2, width)
    return (raw + shift * np.sqrt(width) * np.linspace(-1, 1, width)).astype(np.float32)


def units(raw: np.ndarray) -> np.ndarray:
    wide = raw.astype(np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


def fitted(config: ConditionConfig, raw: np.ndarray, size: int = 37) -> Condition:
    blocks = (raw[start : start + size] for start in range(0, len(raw), size))
    return fit(config, blocks, raw.shape[1])


def flips(one: Tensor, other: Tensor) -> float:
    """Return which share of all pairs of a query's candidates stand in another order; a row a
    query. Scores equal to 1e-12 have no order."""
    a = one[:, :, None] - one[:, None, :]
    b = other[:, :, None] - other[:, None, :]
    told = (a.abs() > 1e-12) & (b.abs() > 1e-12)
    return float(((a * b < 0) & told).sum() / told.sum())


def scores(condition: Condition, t: Tensor, g: Tensor) -> Tensor:
    """Return texts x images, as training compares them."""
    return unit(condition.apply(t)) @ g.T


# --- the fit ------------------------------------------------------------------------------------


def test_one_pass_is_two_passes() -> None:
    z = units(rows(5_000, 40, shift=5.0))  # hardly anything but the mean: sums lose digits here
    moments = Moments(40)
    for start in range(0, len(z), 333):
        moments.add(z[start : start + 333])
    assert moments.count == 5_000
    np.testing.assert_allclose(moments.mean, z.mean(axis=0), atol=1e-14)
    two_passes = np.cov(z.T, bias=True)
    assert np.abs(moments.covariance - two_passes).max() < 1e-9 * two_passes.max()


@pytest.mark.parametrize("mean", ["project", "subtract"])
def test_centre_takes_out_the_mean_and_nothing_else(mean: str) -> None:
    raw = rows(300)
    z, mu = units(raw), units(raw).mean(axis=0)
    found = fitted(ConditionConfig(kind="centre", mean=mean), raw)  # type: ignore[arg-type]
    h = found.apply(torch.from_numpy(raw).double()).numpy()
    if mean == "subtract":
        np.testing.assert_allclose(h, z - mu, atol=1e-12)
    else:
        m = mu / np.linalg.norm(mu)
        without = z - np.outer(z @ m, m)
        assert h.shape[1] == found.width == WIDTH - 1
        np.testing.assert_allclose(h @ h.T, without @ without.T, atol=1e-12)
        np.testing.assert_allclose(h @ found.matrix.numpy(), without, atol=1e-12)
    assert np.abs(h.mean(axis=0)).max() < 1e-12


@pytest.mark.parametrize("mean", ["project", "subtract"])
@pytest.mark.parametrize("dimensions", [0, 5])
@pytest.mark.parametrize("kind", ["pca", "whiten"])
def test_axes_are_those_of_the_covariance(kind: str, dimensions: int, mean: str) -> None:
    raw = rows(400)
    z, mu = units(raw), units(raw).mean(axis=0)
    rest = z - mu
    if mean == "project":
        m = mu / np.linalg.norm(mu)
        rest = z - np.outer(z @ m, m)
    values, vectors = np.linalg.eigh(np.cov(rest.T, bias=True))
    values, vectors = values[::-1], vectors[:, ::-1]
    axes = WIDTH - (mean == "project")
    kept = dimensions or axes
    config = ConditionConfig(kind=kind, dimensions=dimensions, shrinkage=0.3, mean=mean)  # type: ignore[arg-type]
    found = fitted(config, raw)
    shrunk = 0.7 * values[:kept] + 0.3 * values[:axes].mean()
    scale = 1 / np.sqrt(shrunk) if kind == "whiten" else np.ones(kept)
    expected = vectors[:, :kept].T * scale[:, None]
    assert found.matrix.shape == (kept, WIDTH)
    for row, want in zip(found.matrix.numpy(), expected, strict=True):
        assert min(np.abs(row - want).max(), np.abs(row + want).max()) < 1e-8
        assert row[np.abs(row).argmax()] > 0  # no sign is left to chance
    h = found.apply(torch.from_numpy(raw).double()).numpy()
    spread = np.cov(h.T, bias=True)
    np.testing.assert_allclose(spread, np.diag(values[:kept] * scale**2), atol=1e-9)


def test_shrinkage_goes_from_white_to_turned() -> None:
    raw = rows(400)
    white = fitted(ConditionConfig(kind="whiten", shrinkage=0), raw)
    h = white.apply(torch.from_numpy(raw).double()).numpy()
    np.testing.assert_allclose(np.cov(h.T, bias=True), np.eye(WIDTH - 1), atol=1e-9)
    turned = fitted(ConditionConfig(kind="whiten", shrinkage=1), raw).matrix
    plain = fitted(ConditionConfig(kind="pca"), raw).matrix
    torch.testing.assert_close(turned / turned[0].norm(), plain, atol=1e-10, rtol=0)


@pytest.mark.parametrize("config", ALL, ids=names)
def test_blocks_and_order_change_nothing(config: ConditionConfig) -> None:
    raw = rows(500)
    one, other = fitted(config, raw), fitted(config, raw[::-1].copy(), size=101)
    for name, value in one.to_tensors().items():
        torch.testing.assert_close(other.to_tensors()[name], value, atol=1e-9, rtol=0)


def test_symmetric_rows_have_no_mean_direction() -> None:
    raw = np.concatenate([rows(50), -rows(50)])
    found = fitted(ConditionConfig(kind="centre"), raw)
    torch.testing.assert_close(found.matrix, torch.eye(WIDTH, dtype=torch.float64))
    torch.testing.assert_close(found.fold(), found.matrix.T)


def test_axes_that_no_row_reaches_are_left_out() -> None:
    few = rows(6)  # 6 rows about their mean: 5 axes, one of them the direction of the mean at most
    found = fitted(ConditionConfig(kind="whiten", shrinkage=0), few)
    assert 4 <= found.width <= 5 and found.matrix.isfinite().all()
    assert found.matrix.abs().max() < 1e3
    with pytest.raises(ConfigError, match="reach 5 axes"):
        fitted(ConditionConfig(kind="pca", dimensions=7, mean="subtract"), few)
    with pytest.raises(ConfigError, match="reach 0 axes"):
        fitted(ConditionConfig(kind="pca"), np.tile(rows(1), (9, 1)))
    with pytest.raises(ConfigError, match=r"on 1 row\(s\)"):
        fitted(ConditionConfig(kind="centre"), rows(1))


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_rows_without_direction_are_refused(bad: float) -> None:
    raw = rows(20)
    raw[7] = bad
    with pytest.raises(NotFinite, match="1 of 20 text rows"):
        fitted(ConditionConfig(kind="centre"), raw, size=20)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "whitten"}, "whiten"),
        ({"mean": "substract"}, "subtract"),
        ({"dimensions": -1, "kind": "pca"}, "at least 2"),
        ({"dimensions": 1, "kind": "pca"}, "at least 2"),
        ({"dimensions": 8}, "kind=none"),
        ({"dimensions": 8, "kind": "centre"}, "take pca or whiten"),
        ({"shrinkage": 1.5}, r"\[0, 1\]"),
        ({"shrinkage": -0.1}, r"\[0, 1\]"),
    ],
)
def test_wrong_options_are_named(options: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        from_dict(ConditionConfig, options, "condition")


# --- on a cache ---------------------------------------------------------------------------------


@pytest.fixture
def texts() -> list[str]:
    colours, things = ("red", "green", "blue"), ("dog", "cat", "boat", "house", "tree")
    places = ("a wall", "the sea", "a road", "a very old grey bridge")
    words = itertools.product(colours, things, places)
    return [f"a {colour} {thing} by {place}" for colour, thing, place in words]


@pytest.fixture
def make(tmp_path: Path):
    def cache(name: str, texts: list[str], codec: str = "float16") -> EmbeddingCache:
        encoder = build_encoder(part("text/encoders", "hashing", dimensions=16))
        embed(texts, encoder, tmp_path / name, codec=codec, rows_per_shard=16, progress=False)
        return EmbeddingCache.open(tmp_path / name)

    return cache


@pytest.mark.parametrize("codec", ["float32", "float16", "int8"])
@pytest.mark.parametrize("config", [c for c in ALL if c.mean == "project"], ids=names)
def test_a_cache_counts_each_caption_once_in_any_order(
    config: ConditionConfig, codec: str, make, texts: list[str]
) -> None:
    forth = make("forth", [*texts, *texts[:20]], codec)
    back = make("back", texts[::-1], codec)
    assert len(forth.shards) == 4 and len(forth) == len(texts)
    one, other = fit_on(forth, config), fit_on(back, config)
    naive = fit(config, [forth.take(np.arange(len(forth)))], 16)
    for name, value in one.to_tensors().items():
        torch.testing.assert_close(other.to_tensors()[name], value, atol=1e-6, rtol=0)
        torch.testing.assert_close(naive.to_tensors()[name], value, atol=1e-9, rtol=0)


def test_some_rows_of_a_cache(make, texts: list[str]) -> None:
    cache = make("cache", texts)
    chosen = np.array([3, 40, 7, 7, 22, 51], np.int64)
    found = fit_on(cache, ConditionConfig(kind="centre", mean="subtract"), chosen)
    mean = units(cache.take(np.array([3, 7, 22, 40, 51]))).mean(axis=0)
    np.testing.assert_allclose(found.mean.numpy(), mean, atol=1e-12)


def test_memory_does_not_grow_with_the_rows() -> None:
    import tracemalloc

    def blocks(count: int):
        dice = np.random.default_rng(0)
        for _ in range(count):
            yield dice.normal(size=(256, 64)).astype(np.float32)

    peaks = []
    for count in (4, 200):
        tracemalloc.start()
        fit(ConditionConfig(kind="whiten"), blocks(count), 64)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0] < 5_000_000


def test_a_file_gives_back_every_bit(tmp_path: Path) -> None:
    found = fitted(ConditionConfig(kind="whiten", dimensions=6), rows(300))
    path = tmp_path / "condition.safetensors"
    save_tensors({**found.to_tensors(), "other": torch.zeros(3)}, path)
    again = Condition.from_tensors(load_file(path))
    assert torch.equal(again.mean, found.mean) and torch.equal(again.matrix, found.matrix)
    assert again.gain == found.gain and again.width == 6
    tensors = found.to_tensors()
    with pytest.raises(CheckpointError, match=r"lacks condition\.matrix"):
        Condition.from_tensors({k: v for k, v in tensors.items() if k != "condition.matrix"})
    with pytest.raises(CheckpointError, match="don't fit"):
        Condition.from_tensors({**tensors, "condition.mean": torch.zeros(4)})


def test_training_in_half_precision_conditions_in_full() -> None:
    raw = torch.from_numpy(rows(50))
    found = fitted(ConditionConfig(kind="whiten"), rows(300))
    whole = found.apply(raw.double())
    with torch.autocast("cpu", torch.bfloat16):
        half = found.to("cpu", torch.float32).apply(raw)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half.double(), whole, atol=1e-4, rtol=0)


# --- the fold -----------------------------------------------------------------------------------


@pytest.fixture
def queries() -> Tensor:
    """Return texts of another draw than the fit's, whose component along the mean differs."""
    return unit(torch.from_numpy(rows(60, seed=5)).double())


def images(condition: Condition, count: int = 40) -> Tensor:
    return unit(torch.randn(count, condition.width, dtype=torch.float64))


@pytest.mark.parametrize("config", [c for c in ALL if c.mean == "project"], ids=names)
def test_images_of_a_text_keep_their_order(config: ConditionConfig, queries: Tensor) -> None:
    condition = fitted(config, rows(400))
    g = images(condition)
    trained, h = scores(condition, queries, g), g @ condition.fold().T
    assert flips(trained, queries @ h.T) == 0
    cosine = flips(trained, queries @ unit(h).T)
    if config.kind == "whiten":
        assert 0 < cosine < 0.2  # the length of F g is an image's own
    else:
        torch.testing.assert_close(h.norm(dim=1), torch.ones(len(h), dtype=torch.float64))
        assert cosine == 0


@pytest.mark.parametrize("config", [c for c in ALL if c.mean == "subtract"], ids=names)
def test_a_mean_that_was_subtracted_has_to_be_projected_out(
    config: ConditionConfig, queries: Tensor
) -> None:
    condition = fitted(config, rows(400))
    g, mu = images(condition), condition.mean
    trained, h = scores(condition, queries, g), g @ condition.fold().T
    assert (h @ mu).abs().max() < 1e-12
    nearly, without = (
        flips(trained, queries @ h.T),
        flips(trained, queries @ condition.matrix.T @ g.T),
    )
    assert 0 < nearly < without
    # Exactly where texts have the usual component along the mean.
    m = mu / mu.norm()
    rest = queries - torch.outer(queries @ m, m)
    usual = mu.norm() * m + (1 - mu.norm() ** 2).sqrt() * unit(rest)
    torch.testing.assert_close(usual.norm(dim=1), torch.ones(len(usual), dtype=torch.float64))
    trained = scores(condition, usual, g)
    assert flips(trained, usual @ h.T) == 0
    assert flips(trained, usual @ condition.matrix.T @ g.T) > 0.02


def test_texts_of_an_image_do_not_keep_theirs(queries: Tensor) -> None:
    """The claim that is not made: whitened texts differ in length, which the raw space lacks."""
    found = {}
    for kind in ("centre", "whiten"):
        condition = fitted(ConditionConfig(kind=kind), rows(400))  # type: ignore[arg-type]
        g = images(condition)
        trained = scores(condition, queries, g)
        raw = queries @ condition.fold() @ g.T
        found[kind] = flips(trained.T, raw.T)
        length = condition.apply(queries).norm(dim=1, keepdim=True)
        torch.testing.assert_close(raw, trained * length)  # equation (1) of the docstring
        assert flips((trained * length).T, raw.T) == 0
    assert found["whiten"] > 0.02


@pytest.mark.parametrize("config", ALL, ids=names)
def test_the_gain_is_the_slope_between_the_cosines(config: ConditionConfig) -> None:
    raw = rows(2_000)
    condition = fitted(config, raw)
    t = unit(torch.from_numpy(raw[:300]).double())
    g = unit(condition.apply(unit(torch.from_numpy(rows(300, seed=9)).double())))
    trained = scores(condition, t, g)
    now = t @ unit(g @ condition.fold().T).T
    slope = np.polyfit(now.flatten().numpy(), trained.flatten().numpy(), 1)[0]
    assert condition.gain == pytest.approx(slope, rel=0.15)


# --- the fold into a head -----------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
def test_folding_into_the_last_matrix_is_exact(bias: bool) -> None:
    condition = fitted(ConditionConfig(kind="whiten", dimensions=5), rows(400))
    last, back = torch.nn.Linear(9, 5, bias=bias).double(), condition.fold()
    x = torch.randn(30, 9, dtype=torch.float64)
    weight, offset = fold_into(last.weight, last.bias, back)
    assert weight.shape == (WIDTH, 9) and (offset is not None) == bias
    now = unit(torch.nn.functional.linear(x, weight, offset))
    torch.testing.assert_close(now, unit(unit(last(x)) @ back.T), atol=1e-13, rtol=0)


class Tower(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.width, self.resolution = 5, 4
        self.map = torch.nn.Linear(48, 5)
        self.drop = torch.nn.Dropout(0.5)

    def forward(self, images: Tensor) -> Tensor:
        return self.drop(self.map(images.flatten(1)))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("hidden", [None, 7])
@pytest.mark.parametrize("layers", [0, 1, 2, 3])
def test_a_folded_side_answers_in_the_raw_space(
    layers: int, hidden: int | None, training: bool
) -> None:
    condition = fitted(ConditionConfig(kind="whiten", dimensions=5), rows(400))
    config = HeadConfig(layers=layers, hidden=hidden, dropout=0.1)
    head = MLPHead(config, 5, 5) if layers else None
    if head is not None:
        for p in head.parameters():
            torch.nn.init.normal_(p)  # biases too
    side = Side(Tower(), head).train(training)
    kept = {name: value.clone() for name, value in side.state_dict().items()}
    dice = torch.get_rng_state()
    made, new = folded(side, config, condition)
    assert torch.equal(torch.get_rng_state(), dice)  # a run is the same whether it is looked at
    assert made.training == training and all(m.training == training for m in made.modules())
    assert made.tower is side.tower
    assert all(torch.equal(kept[name], value) for name, value in side.state_dict().items())
    assert new.layers == max(1, layers) and new.hidden == (hidden or 5)
    x = torch.randn(6, 3, 4, 4)
    made.eval(), side.eval()
    expected = unit(side(x).double() @ condition.fold().T).float()
    torch.testing.assert_close(made(x), expected, atol=2e-6, rtol=0)
    # What is saved is enough to build it again.
    assert made.head is not None
    again = MLPHead(new, 5, WIDTH)
    again.load_state_dict(made.head.state_dict())
    with torch.no_grad():
        made.head.layers[-1].weight.zero_()  # the head is its own, no view of the side's
    assert all(torch.equal(kept[name], value) for name, value in side.state_dict().items())


def test_the_options_of_a_folded_head_build_it() -> None:
    from lift.model import SideConfig

    condition = fitted(ConditionConfig(kind="pca", dimensions=8), rows(400))
    tower = part("towers", "vit", width=16, depth=1, heads=2, patch=8, resolution=16)
    config = SideConfig(tower=tower, head=HeadConfig(layers=2))
    side = build_side(config, None, condition.width)
    made, new = folded(side, config.head, condition)
    again = build_side(SideConfig(tower=tower, head=new), None, WIDTH)
    again.load_state_dict(made.state_dict())
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(again.eval()(x), made.eval()(x))
