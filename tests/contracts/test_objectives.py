"""Every file in objectives/ equals a float64 reference written with loops, and behaves."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lift import plugins
from lift.config import part
from lift.errors import ConfigError
from lift.terms import unit

NAMES = plugins.names("objectives")
SHARING = [name for name in NAMES if name != "cosine"]  # the ones that compare with negatives


def make(name: str, **options):
    return plugins.build(part("objectives", name, **options))


def batch(images=7, extra=6, width=8, seed=0):
    """Vectors near their images, several captions an image, some captions equal."""
    rng = torch.Generator().manual_seed(seed)
    z_image = unit(torch.randn(images, width, generator=rng))
    owner = torch.cat([torch.arange(images), torch.randint(0, images, (extra,), generator=rng)])
    owner = owner[torch.randperm(len(owner), generator=rng)]
    row = torch.randint(100, 103, (len(owner),), generator=rng)
    row[::2] = torch.arange(len(row[::2]))
    by_row = {int(r): torch.randn(width, generator=rng) for r in row.unique()}
    z_text = unit(torch.stack([by_row[int(r)] for r in row]) + 0.3)
    return z_image, z_text, owner, row


# --- references: float64, loops, straight from the formulas -----------------------------------


def truth(z_image, z_text, owner, row, share_equal, ignore_above):
    """Return sets of right and of left-out (image, caption) pairs."""
    b, c = len(z_image), len(z_text)
    owner = list(range(b)) if owner is None else [int(o) for o in owner]
    right, dropped = set(), set()
    for i in range(b):
        own = [j for j in range(c) if owner[j] == i]
        for j in range(c):
            if j in own or (share_equal and any(row[j] == row[k] for k in own)):
                right.add((i, j))
            elif ignore_above is not None and any(
                z_text[j] @ z_text[k] > ignore_above for k in own
            ):
                dropped.add((i, j))
    return right, dropped


def reference_softmax(z_image, z_text, owner, row, scalars, share_equal=True, ignore_above=None):
    right, dropped = truth(z_image, z_text, owner, row, share_equal, ignore_above)
    b, c = len(z_image), len(z_text)

    def direction(queries, keys, pair):
        losses = []
        for q in range(queries):
            kept = [k for k in range(keys) if pair(q, k) not in dropped]
            logit = {k: scalars["scale"] * float(z_image[pair(q, k)[0]] @ z_text[pair(q, k)[1]])
                     for k in kept}  # fmt: skip
            total = sum(math.exp(logit[k]) for k in kept)
            mine = [k for k in kept if pair(q, k) in right]
            losses.append(-sum(math.log(math.exp(logit[k]) / total) for k in mine) / len(mine))
        return sum(losses) / len(losses)

    return (direction(b, c, lambda q, k: (q, k)) + direction(c, b, lambda q, k: (k, q))) / 2


def reference_sigmoid(z_image, z_text, owner, row, scalars, share_equal=True, ignore_above=None):
    right, dropped = truth(z_image, z_text, owner, row, share_equal, ignore_above)
    total = 0.0
    for i in range(len(z_image)):
        for j in range(len(z_text)):
            if (i, j) not in dropped:
                label = 1.0 if (i, j) in right else -1.0
                x = scalars["scale"] * float(z_image[i] @ z_text[j]) + scalars["bias"]
                total += math.log1p(math.exp(-label * x))
    return total / len(z_image)


def reference_cosine(z_image, z_text, owner, row, scalars):
    owner = range(len(z_text)) if owner is None else owner
    return float(np.mean([1 - float(z_image[int(o)] @ z) for o, z in zip(owner, z_text)]))  # noqa: B905


REFERENCES = {
    "cosine": reference_cosine,
    "sigmoid": reference_sigmoid,
    "softmax": reference_softmax,
}


def both(name, images, texts, owner, row, **options):
    """Return the objective's loss and the reference's on the same batch."""
    objective = make(name, **options)
    loss = objective(images, texts, owner, row)
    assert loss.dtype == torch.float32
    expected = REFERENCES[name](
        images.double().numpy(),
        texts.double().numpy(),
        None if owner is None else owner.numpy(),
        None if row is None else row.numpy(),
        objective.scalars(),
        **options,
    )
    return loss.item(), expected


def test_every_objective_has_a_reference():
    assert set(NAMES) == set(REFERENCES), "a new objective needs its formula here, in float64"


# --- values ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(3))
def test_one_caption_an_image(name, seed):
    z_image, z_text, _, _ = batch(extra=0, seed=seed)
    options = {"share_equal": False} if name in SHARING else {}
    loss, expected = both(name, z_image, z_text, None, None, **options)
    assert loss == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(3))
def test_several_captions_an_image(name, seed):
    options = {"share_equal": False} if name in SHARING else {}
    loss, expected = both(name, *batch(seed=seed), **options)
    assert loss == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", SHARING)
@pytest.mark.parametrize("seed", range(3))
def test_equal_captions_share_their_images(name, seed):
    shared, expected = both(name, *batch(seed=seed), share_equal=True)
    assert shared == pytest.approx(expected, rel=1e-6)
    apart, _ = both(name, *batch(seed=seed), share_equal=False)
    assert shared != pytest.approx(apart, rel=1e-3)


@pytest.mark.parametrize("name", SHARING)
def test_sharing_changes_nothing_where_no_caption_repeats(name):
    z_image, z_text, owner, _ = batch()
    row = torch.arange(len(owner)) + 40
    shared = make(name, share_equal=True)(z_image, z_text, owner, row)
    apart = make(name, share_equal=False)(z_image, z_text, owner, row)
    assert torch.equal(shared, apart)


@pytest.mark.parametrize("name", SHARING)
@pytest.mark.parametrize("share_equal", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_close_captions_are_left_out(name, share_equal, seed):
    options = {"share_equal": share_equal, "ignore_above": 0.3}
    loss, expected = both(name, *batch(seed=seed), **options)
    assert loss == pytest.approx(expected, rel=1e-6)
    kept, _ = both(name, *batch(seed=seed), share_equal=share_equal)
    assert loss < kept


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_a_batch_does_not_matter(name):
    z_image, z_text, owner, row = batch()
    objective = make(name)
    loss = objective(z_image, z_text, owner, row)
    images, captions = torch.randperm(len(z_image)), torch.randperm(len(owner))
    moved = torch.argsort(images)[owner][captions]
    again = objective(z_image[images], z_text[captions], moved, row[captions])
    torch.testing.assert_close(loss, again, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_right_pairs_beat_shuffled_ones(name):
    z_text = unit(torch.randn(16, 8))
    z_image = unit(z_text + 0.1 * torch.randn(16, 8))
    row = torch.arange(16)
    objective = make(name)
    right = objective(z_image, z_text, None, row)
    assert right < objective(z_image.roll(1, 0), z_text, None, row) - 0.1


# --- gradients and numbers ---------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("options", [{}, {"ignore_above": 0.3}])
def test_gradient_reaches_images_and_parameters_only(name, options):
    z_image, z_text, owner, row = batch()
    z_image.requires_grad_()
    objective = make(name, **(options if name in SHARING else {}))
    objective(z_image, z_text, owner, row).backward()
    assert z_text.grad is None
    assert z_image.grad is not None
    assert torch.isfinite(z_image.grad).all() and (z_image.grad.abs().sum(1) > 0).all()
    for parameter in objective.parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_equals_finite_differences_of_the_reference(name):
    z_image, z_text, owner, row = batch()
    z_image.requires_grad_()
    objective = make(name)
    objective(z_image, z_text, owner, row).backward()
    points = z_image.detach().double().numpy()
    for i, k in [(0, 0), (3, 5), (6, 7)]:
        ends = []
        for step in (1e-5, -1e-5):
            moved = points.copy()
            moved[i, k] += step
            texts = z_text.double().numpy()
            arguments = (moved, texts, owner.numpy(), row.numpy(), objective.scalars())
            ends.append(REFERENCES[name](*arguments))
        slope = (ends[0] - ends[1]) / 2e-5
        assert z_image.grad is not None
        assert z_image.grad[i, k].item() == pytest.approx(slope, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_autocast_changes_nothing(name):
    objective, arguments = make(name), batch(width=64)
    outside = objective(*arguments)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = objective(*arguments)
    assert torch.equal(inside, outside) and inside.dtype == torch.float32


@pytest.mark.parametrize("name", NAMES)
def test_finite_where_everything_is_equal_or_zero(name):
    row = torch.arange(4)
    for z in (torch.zeros(4, 8), unit(torch.ones(4, 8)), -unit(torch.ones(4, 8))):
        assert torch.isfinite(make(name)(z, unit(torch.ones(4, 8)), None, row))


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_not_decayed_and_stay_in_range(name):
    objective = make(name)
    assert all(parameter.ndim == 0 for parameter in objective.parameters())
    start = objective.scalars()
    objective.constrain()
    assert objective.scalars() == start  # where it starts is inside the range
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.fill_(50.0)
    objective.constrain()
    assert objective.scalars().get("scale", 100.0) == pytest.approx(100.0)
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.fill_(-50.0)
    objective.constrain()
    assert objective.scalars().get("scale", 1.0) == pytest.approx(1.0)


@pytest.mark.parametrize("name", NAMES)
def test_state_round_trip(name):
    objective, other = make(name), make(name)
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.add_(0.5)
    other.load_state_dict(objective.state_dict())
    assert other.scalars() == objective.scalars()
    assert all(isinstance(value, float) for value in other.scalars().values())


# --- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_captions_without_owner_must_match_images(name):
    z_image, z_text, _, row = batch()
    with pytest.raises(ConfigError, match="13 captions for 7 images need `owner`"):
        make(name)(z_image, z_text, None, row)


@pytest.mark.parametrize("name", SHARING)
def test_sharing_needs_rows(name):
    z_image, z_text, owner, _ = batch()
    with pytest.raises(ConfigError, match="needs `row`"):
        make(name)(z_image, z_text, owner)


@pytest.mark.parametrize("name", SHARING)
@pytest.mark.parametrize(
    "options", [{"ignore_above": 1.0}, {"ignore_above": -1.5}, {"max_scale": 0.5}]
)
def test_impossible_options_stop(name, options):
    with pytest.raises(ConfigError, match=name):
        make(name, **options)


# --- weights: graded pairs, soft targets ----------------------------------------------------------


def grades(row, owner, seed):
    """Return weights in (0, 1]; the same text may fit different images differently."""
    rng = torch.Generator().manual_seed(seed + 50)
    return torch.rand(len(row), generator=rng) * 0.9 + 0.1


def weighed(owner, row, weight, images, share_equal):
    """Return {(image, caption): weight}: the largest of the texts that an image owns."""
    found = {}
    for i in range(images):
        for j in range(len(row)):
            same = [
                float(weight[k])
                for k in range(len(row))
                if owner[k] == i and (k == j or (share_equal and row[k] == row[j]))
            ]
            if same:
                found[i, j] = max(same)
    return found


def weighted_softmax(z_image, z_text, owner, row, weight, scalars, share_equal):
    target = weighed(owner, row, weight, len(z_image), share_equal)
    logits = scalars["scale"] * z_image @ z_text.T

    def direction(table, pairs):
        losses = []
        for q in range(len(table)):
            mine = {k: w for (p, k), w in pairs.items() if p == q}
            total = math.log(sum(math.exp(x) for x in table[q]))
            spread = sum(mine.values())
            losses.append(-sum(w / spread * (table[q][k] - total) for k, w in mine.items()))
        return sum(losses) / len(losses)

    turned = {(k, q): w for (q, k), w in target.items()}
    return (direction(logits, target) + direction(logits.T, turned)) / 2


def weighted_sigmoid(z_image, z_text, owner, row, weight, scalars, share_equal):
    target = weighed(owner, row, weight, len(z_image), share_equal)
    total = 0.0
    for i in range(len(z_image)):
        for j in range(len(z_text)):
            x = scalars["scale"] * float(z_image[i] @ z_text[j]) + scalars["bias"]
            w = target.get((i, j), 0.0)
            total += w * math.log1p(math.exp(-x)) + (1 - w) * math.log1p(math.exp(x))
    return total / len(z_image)


def weighted_cosine(z_image, z_text, owner, row, weight, scalars, share_equal):
    far = [1 - float(z_image[int(o)] @ z) for o, z in zip(owner, z_text, strict=True)]
    return float(np.average(far, weights=weight))


WEIGHTED = {"cosine": weighted_cosine, "sigmoid": weighted_sigmoid, "softmax": weighted_softmax}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share_equal", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_weights_are_soft_targets(name, share_equal, seed):
    z_image, z_text, owner, row = batch(seed=seed)
    weight = grades(row, owner, seed)
    objective = make(name, **({"share_equal": share_equal} if name in SHARING else {}))
    loss = objective(z_image, z_text, owner, row, weight)
    arrays = [t.double().numpy() for t in (z_image, z_text)]
    facts = [t.numpy() for t in (owner, row, weight)]
    expected = WEIGHTED[name](*arrays, *facts, objective.scalars(), share_equal)
    assert loss.item() == pytest.approx(expected, rel=2e-6)
    plain = objective(z_image, z_text, owner, row)
    assert loss.item() != pytest.approx(plain.item(), rel=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_equal_weights_are_no_weights(name):
    pairs = batch()
    objective = make(name)
    plain, ones = objective(*pairs), objective(*pairs, torch.ones(len(pairs[2])))
    assert ones.item() == pytest.approx(plain.item(), rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("weighted", [False, True])
def test_parts_by_image_add_up(name, weighted):
    z_image, z_text, owner, row = batch()
    weight = grades(row, owner, 0) if weighted else None
    objective = make(name)
    z_image.requires_grad_()
    parts = objective.by_image(z_image, z_text, owner, row, weight)
    assert parts.shape == (len(z_image),) and not parts.requires_grad
    loss = objective(z_image, z_text, owner, row, weight).item()
    if name == "sigmoid":
        assert parts.mean().item() == pytest.approx(loss, rel=1e-6)
    elif name == "cosine":
        share = torch.ones(len(owner)) if weight is None else weight
        shares = torch.zeros(len(z_image)).index_add(0, owner, share)
        assert ((parts * shares).sum() / shares.sum()).item() == pytest.approx(loss, rel=1e-6)
    else:  # the image-to-text half
        turned = objective(z_image, z_text, owner, row, weight) * 2 - parts.mean()
        assert 0 < parts.mean().item() and 0 < turned.item() < 2 * loss
        own = objective.log_scale.exp() * (z_image @ z_text.T)
        assert parts.max() < (own.logsumexp(1) - own.min(1).values).max()


@pytest.mark.parametrize("ignore_above", [None, -1.0])
@pytest.mark.parametrize("zeros", ["all", "an image's", "one"])
@pytest.mark.parametrize("name", WEIGHTED)
def test_weights_of_zero_teach_nothing_and_break_nothing(name, zeros, ignore_above):
    """A grade of 0, or links that say 0, must not end a run with NaN."""
    options = {} if name == "cosine" else {"ignore_above": ignore_above}
    objective = plugins.build(part("objectives", name, **options))
    z_image, z_text = unit(torch.randn(4, 8)).requires_grad_(), unit(torch.randn(6, 8))
    owner, row = torch.tensor([0, 0, 1, 1, 2, 3]), torch.arange(6)
    weight = torch.tensor([0.5, 1.0, 0.25, 1.0, 1.0, 0.5])
    weight[{"all": slice(None), "an image's": owner == 1, "one": row == 0}[zeros]] = 0
    loss = objective(z_image, z_text, owner, row, weight)
    loss.backward()
    parts = objective.by_image(z_image.detach(), z_text, owner, row, weight)
    assert torch.isfinite(loss) and torch.isfinite(parts).all()
    assert torch.isfinite(z_image.grad).all()
    if zeros == "all" and name != "sigmoid":  # there, what is not right is pushed away
        assert loss == 0 and not z_image.grad.any() and not parts.any()
