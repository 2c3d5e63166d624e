"""Every file in objectives/ equals a float64 reference written with loops, and behaves."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from lift import plugins
from lift.candidates import Candidates, Extra
from lift.config import part, to_dict
from lift.errors import ConfigError
from lift.objectives import _tiles
from lift.terms import unit
from objectives.naive import CASES, FACTS, OPTIONS, REFERENCES, step

NAMES = plugins.names("objectives")
SHARING = ["sigmoid", "softmax"]  # the ones that compare with negatives by themselves


def make(name: str, dtype=torch.float64, **options):
    """Return the objective; lengths of matryoshka fit the steps here."""
    if name == "matryoshka":
        options = {"prefixes": (2, 5), **options}
    if isinstance(options.get("of"), str):
        options = {**options, "of": part("objectives", options["of"])}
    return plugins.build(part("objectives", name, **options)).to(dtype)


def numbers_of(objective) -> dict:
    """Return the objective's parameters by their own names, as float64 leaves."""
    return {
        name.rpartition(".")[2]: value.detach().double().requires_grad_()
        for name, value in objective.named_parameters()
    }


def moved(objective, seed=1):
    """Move parameters away from where they start, so that every direction matters."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in objective.named_parameters():
            value.fill_(1.5 if name.endswith("scale") else -1.0)
            value.add_(0.1 * torch.rand((), generator=draw, dtype=torch.float64))
    return objective


def leaves(z_image, texts):
    """Return the same step with leaves that take gradients."""
    z_image = z_image.detach().clone().requires_grad_()
    return z_image, dataclasses.replace(texts, z=texts.z.detach().clone().requires_grad_())


def gradients(loss, *leaf):
    found = torch.autograd.grad(loss, leaf, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(leaf, found, strict=True)]


def expected(name, options, objective, z_image, texts):
    """Return loss, each image's loss, and gradients of images, texts and numbers."""
    numbers = numbers_of(objective)
    z_image, texts = leaves(z_image.double(), dataclasses.replace(texts, z=texts.z.double()))
    loss, by_image = REFERENCES[name](z_image, texts, numbers, **options)
    by_image = torch.stack([x.detach() for x in by_image])
    if not loss.requires_grad:
        loss = loss + 0 * z_image.sum()
    return loss, by_image, gradients(loss, z_image, texts.z, *numbers.values())


@pytest.fixture(params=[None, 12], ids=["one tile", "many tiles"])
def tiles(request, monkeypatch):
    if request.param:
        monkeypatch.setattr(_tiles, "CELLS", {"cpu": request.param})
        monkeypatch.setattr(_tiles, "_EXTRA_ROWS", 2)
    return request.param


def test_every_objective_has_a_reference_and_options():
    assert set(NAMES) == set(REFERENCES) == set(OPTIONS), "a new objective needs its formula"


# --- values and gradients ------------------------------------------------------------------------


@pytest.mark.parametrize("facts", FACTS)
@pytest.mark.parametrize(("name", "options"), CASES)
def test_value_and_gradients_equal_the_loops(name, options, facts, tiles):
    z_image, texts = step(seed=0 if tiles is None else 1, **FACTS[facts])
    objective = moved(make(name, **options))
    loss, by_image, slopes = expected(name, options, objective, z_image, texts)
    z_image, texts = leaves(z_image, texts)
    found = objective(z_image, texts)
    torch.testing.assert_close(found, loss, rtol=1e-12, atol=1e-12)
    each = objective.by_image(z_image, texts)
    assert not each.requires_grad
    torch.testing.assert_close(each, by_image, rtol=1e-12, atol=1e-12)
    own = gradients(found, z_image, texts.z, *objective.parameters())
    for one, other in zip(own, slopes, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
    assert own[0].abs().max() > 1e-3


@pytest.mark.parametrize(("name", "options"), CASES)
def test_float32_is_close(name, options, tiles):
    z_image, texts = step(dtype=torch.float32, weights=True, further=5)
    objective = moved(make(name, torch.float32, **options))
    loss, by_image, slopes = expected(name, options, objective, z_image, texts)
    z_image, texts = leaves(z_image, texts)
    found = objective(z_image, texts)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(loss.item(), rel=1e-5)
    each = objective.by_image(z_image, texts)
    assert each.dtype == torch.float32
    assert (each - by_image).abs().max() < 1e-5 * by_image.abs().max()
    own = gradients(found, z_image, texts.z, *objective.parameters())
    for one, other in zip(own, slopes, strict=True):
        assert one.dtype == torch.float32
        assert (one - other).abs().max() <= 1e-5 * other.abs().max()


@pytest.mark.parametrize("name", NAMES)
def test_a_factor_and_a_second_gradient(name):
    """A loss that is scaled before it goes back, and a graph that is used twice."""
    objective = moved(make(name))
    z_image, texts = leaves(*step(weights=True))
    whole = gradients(objective(z_image, texts), z_image, texts.z, *objective.parameters())
    whole = [slope.clone() for slope in whole]
    loss = objective(z_image, texts) * 3
    leaf = [z_image, texts.z, *objective.parameters()]
    for _ in range(2):
        found = torch.autograd.grad(loss, leaf, retain_graph=True)
        for one, other in zip(found, whole, strict=True):
            torch.testing.assert_close(one, 3 * other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_the_order_of_a_step_does_not_matter(name, options):
    z_image, texts = step(weights=True, further=5)
    objective = make(name, **options)
    images, captions = torch.randperm(len(z_image)), torch.randperm(len(texts.owner))
    extras = torch.randperm(len(texts.extra.row))
    rows = texts.extra.take(0, len(extras))[extras]
    again = Candidates(
        texts.z[captions],
        torch.argsort(images)[texts.owner][captions],
        texts.row[captions],
        texts.weight[captions],
        texts.images,
        extra=Extra(texts.extra.row[extras], lambda start, stop: rows[start:stop]),
    )
    found = objective(z_image[images], again)
    torch.testing.assert_close(found, objective(z_image, texts), rtol=1e-12, atol=0)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_parts_add_up_where_a_loss_splits(name, options, tiles):
    objective = moved(make(name, **options))
    z_image, texts = leaves(*step(weights=True, zeros=True, further=5))
    leaf = [z_image, texts.z, *objective.parameters()]
    whole = objective(z_image, texts)
    slopes = gradients(whole, *leaf)
    parts, by_image = [], []
    for start, stop in [(0, 3), (3, 3), (3, 4), (4, 7)]:
        own = dataclasses.replace(texts, first=start)
        parts.append(objective(z_image[start:stop], own))
        by_image.append(objective.by_image(z_image[start:stop], own))
    assert torch.equal(parts[1], torch.zeros_like(parts[1])) or not objective.splits
    torch.testing.assert_close(torch.cat(by_image), objective.by_image(z_image, texts))
    if not objective.splits:
        inner = dict(options).get("of", name)
        assert inner in ("softmax", "matryoshka", "compatible")
        return
    torch.testing.assert_close(sum(parts), whole, rtol=1e-12, atol=1e-12)
    for one, other in zip(gradients(sum(parts), *leaf), slopes, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_which_losses_split():
    assert make("cosine").splits and make("sigmoid").splits
    assert not make("softmax").splits and make("softmax", direction="to_text").splits
    for name in ("matryoshka", "compatible"):
        assert not make(name).splits and make(name, of="sigmoid").splits


@pytest.mark.parametrize("share_equal", [False, True])
@pytest.mark.parametrize("name", SHARING)
def test_sharing_matters_only_where_a_caption_repeats(name, share_equal):
    z_image, texts = step()
    apart = make(name, share_equal=False)(z_image, texts)
    assert make(name)(z_image, texts).item() != pytest.approx(apart.item(), rel=1e-3)
    single = dataclasses.replace(texts, row=torch.arange(len(texts.z)) + 40)
    shared = make(name)(z_image, single)
    torch.testing.assert_close(shared, make(name, share_equal=False)(z_image, single))


@pytest.mark.parametrize("name", SHARING)
def test_close_captions_are_left_out(name):
    z_image, texts = step()
    assert make(name, ignore_above=0.3)(z_image, texts) < make(name)(z_image, texts)


@pytest.mark.parametrize("name", SHARING)
def test_extra_texts_push_and_own_ones_do_not(name):
    z_image, texts = step()
    objective, plain = make(name), make(name)(z_image, texts)
    for row, same in [(texts.row[0], False), (torch.tensor(12345), False), (texts.row[0], True)]:
        some = texts.z[:1] if same else unit(torch.randn(1, 8, dtype=torch.float64))
        extra = Extra(row[None], lambda start, stop, some=some: some[start:stop])
        more = dataclasses.replace(texts, extra=extra)
        each = objective.by_image(z_image, more) - objective.by_image(z_image, texts)
        owns = torch.zeros(len(z_image), dtype=torch.bool)
        owns[texts.owner[texts.row == row]] = True
        assert not each[owns].any() and (each[~owns] >= 0).all()
        assert objective(z_image, more) > plain


@pytest.mark.parametrize("name", SHARING)
def test_each_extra_text_is_taken_once_a_pass(name, monkeypatch):
    monkeypatch.setattr(_tiles, "CELLS", {"cpu": 12})
    monkeypatch.setattr(_tiles, "_EXTRA_ROWS", 4)
    z_image, texts = leaves(*step(further=11))
    asked = []

    def take(start, stop):
        asked.append((start, stop))
        return texts.extra.take(start, stop)

    objective = make(name)
    loss = objective(z_image, dataclasses.replace(texts, extra=Extra(texts.extra.row, take)))
    once = list(asked)
    assert [a for a, _ in once] == [0, *(b for _, b in once[:-1])] and once[-1][1] == 11
    assert max(b - a for a, b in once) <= 4
    loss.backward()
    assert asked == once * {"softmax": 2, "sigmoid": 1}[name]


@pytest.mark.parametrize("name", NAMES)
def test_right_pairs_beat_shuffled_ones(name):
    z_text = unit(torch.randn(16, 8))
    z_image = unit(z_text + 0.1 * torch.randn(16, 8))
    texts = Candidates.alone(z_text, row=torch.arange(16))
    objective = make(name, torch.float32)
    assert objective(z_image, texts) < objective(z_image.roll(1, 0), texts) - 0.1


# --- steps without something ---------------------------------------------------------------------


@pytest.mark.parametrize("facts", FACTS)
@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_rank_without_images_has_no_part(name, options, facts):
    """All its samples were dropped; its gradients are 0, and are there."""
    objective = make(name, **options)
    _, texts = step(**FACTS[facts])
    z_image = torch.zeros(0, 8, dtype=torch.float64, requires_grad=True)
    texts = dataclasses.replace(texts, z=texts.z.requires_grad_(), first=texts.images)
    if objective.splits:
        loss = objective(z_image, texts)
        assert loss == 0
    loss = objective(z_image, dataclasses.replace(texts, first=texts.images))
    loss.backward()
    assert z_image.grad.shape == (0, 8) and not texts.z.grad.any()
    assert all(p.grad is not None and p.grad == 0 for p in objective.parameters())
    assert objective.by_image(z_image, texts).shape == (0,)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_without_texts_is_0(name):
    z_image = unit(torch.randn(3, 8)).requires_grad_()
    none = torch.zeros(0, dtype=torch.int64)
    objective = make(name, torch.float32)
    loss = objective(z_image, Candidates(torch.zeros(0, 8), none, none, None, 3))
    loss.backward()
    assert loss == 0 and not z_image.grad.any()


@pytest.mark.parametrize("ignore_above", [None, -1.0])
@pytest.mark.parametrize("zeros", ["all", "an image's", "one"])
@pytest.mark.parametrize("name", NAMES)
def test_weights_of_zero_teach_nothing_and_break_nothing(name, zeros, ignore_above):
    """A grade of 0, or links that say 0, must not end a run with NaN."""
    options = {"ignore_above": ignore_above} if name in SHARING else {}
    objective = make(name, torch.float32, **options)
    z_image, z_text = unit(torch.randn(4, 8)).requires_grad_(), unit(torch.randn(6, 8))
    owner, row = torch.tensor([0, 0, 1, 1, 2, 3]), torch.arange(6)
    weight = torch.tensor([0.5, 1.0, 0.25, 1.0, 1.0, 0.5])
    weight[{"all": slice(None), "an image's": owner == 1, "one": row == 0}[zeros]] = 0
    texts = Candidates.alone(z_text, owner, row, weight, images=4)
    loss = objective(z_image, texts)
    loss.backward()
    parts = objective.by_image(z_image.detach(), texts)
    assert torch.isfinite(loss) and torch.isfinite(parts).all()
    assert torch.isfinite(z_image.grad).all()
    if zeros == "all" and name != "sigmoid":  # there, what is not right is pushed away
        assert loss == 0 and not z_image.grad.any() and not parts.any()


@pytest.mark.parametrize("name", NAMES)
def test_finite_where_everything_is_equal_or_zero(name):
    texts = Candidates.alone(unit(torch.ones(4, 8)), row=torch.arange(4))
    for z in (torch.zeros(4, 8), unit(torch.ones(4, 8)), -unit(torch.ones(4, 8))):
        z = z.requires_grad_()
        loss = make(name, torch.float32)(z, texts)
        loss.backward()
        assert torch.isfinite(loss) and torch.isfinite(z.grad).all()


@pytest.mark.parametrize("name", NAMES)
def test_finite_where_logits_are_as_far_apart_as_they_get(name):
    """All say one thing but one text and its image, at the largest scale."""
    one = torch.zeros(6, 8)
    one[:, 0] = 1
    z_image, z_text = one.clone().requires_grad_(), one.clone()
    z_text[5] = -z_text[5]
    objective = make(name, torch.float32)
    with torch.no_grad():
        for value in objective.parameters():
            value.fill_(50.0)
    objective.constrain()
    texts = Candidates.alone(z_text, row=torch.arange(6))
    loss, _, slopes = expected(
        name, {"prefixes": (2, 5)} if name == "matryoshka" else {}, objective, z_image, texts
    )
    found = objective(z_image, texts)
    assert found.item() == pytest.approx(loss.item(), rel=1e-6)
    (own,) = gradients(found, z_image)
    assert (own - slopes[0]).abs().max() <= 1e-5 * slopes[0].abs().max()


@pytest.mark.parametrize("name", NAMES)
def test_equal_weights_are_no_weights(name):
    z_image, texts = step()
    ones = dataclasses.replace(texts, weight=torch.ones(len(texts.z)))
    torch.testing.assert_close(make(name)(z_image, ones), make(name)(z_image, texts))


# --- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_only_what_asks_for_a_gradient_gets_one(name):
    objective = make(name)
    z_image, texts = step(further=4)
    assert not objective.requires_grad_(False)(z_image, texts).requires_grad
    objective.requires_grad_(True)
    with torch.no_grad():
        assert not objective(z_image.requires_grad_(), texts).requires_grad
    objective(z_image, texts).backward()
    assert texts.z.grad is None and torch.isfinite(z_image.grad).all()
    assert all(torch.isfinite(parameter.grad) for parameter in objective.parameters())


@pytest.mark.parametrize(("name", "options"), CASES)
def test_autocast_and_rounded_products_change_nothing(name, options):
    objective = make(name, torch.float32, **options)
    z_image, texts = step(width=64, further=4, dtype=torch.float32)
    z_image.requires_grad_()
    outside = objective(z_image, texts)
    (slopes,) = gradients(outside, z_image)
    seen = []

    def take(start, stop):
        seen.append(torch.backends.mkldnn.matmul.fp32_precision)
        return texts.extra.take(start, stop)

    watched = dataclasses.replace(texts, extra=Extra(texts.extra.row, take))
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = objective(z_image, watched)
            each = objective.by_image(z_image, watched)
            (again,) = gradients(inside, z_image)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert set(seen) <= {"ieee"}
    assert torch.equal(inside, outside) and inside.dtype == torch.float32
    assert torch.equal(again, slopes) and torch.equal(each, objective.by_image(z_image, texts))


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_not_decayed_and_stay_in_range(name):
    objective = make(name)
    assert all(parameter.ndim == 0 for parameter in objective.parameters())
    start = objective.scalars()
    objective.constrain()
    assert objective.scalars() == start  # where it starts is inside the range
    for far, scale in ((50.0, 100.0), (-50.0, 1.0)):
        with torch.no_grad():
            for parameter in objective.parameters():
                parameter.fill_(far)
        objective.constrain()
        assert objective.scalars().get("scale", scale) == pytest.approx(scale)


@pytest.mark.parametrize("name", NAMES)
def test_state_and_options_round_trip(name):
    objective, other = make(name), make(name)
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.add_(0.5)
    other.load_state_dict(objective.state_dict())
    assert other.scalars() == objective.scalars()
    assert all(isinstance(value, float) for value in other.scalars().values())
    whole = plugins.resolve(part("objectives", name))
    assert plugins.configure(whole) == plugins.configure(plugins.resolve(whole))
    assert to_dict(plugins.resolve(whole)) == to_dict(whole)


# --- errors ------------------------------------------------------------------------------------


def test_captions_without_owner_must_match_images():
    with pytest.raises(ConfigError, match="13 captions for 7 images need `owner`"):
        Candidates.alone(torch.zeros(13, 8), images=7)


@pytest.mark.parametrize("name", SHARING)
def test_rows_are_needed_where_equal_texts_matter(name):
    z_image, texts = step(further=3)
    blind = dataclasses.replace(texts, row=None)
    with pytest.raises(ConfigError, match="share_equal needs `row`"):
        make(name)(z_image, blind)
    with pytest.raises(ConfigError, match="Extra texts need `row`"):
        make(name, share_equal=False)(z_image, blind)


@pytest.mark.parametrize("name", SHARING)
def test_more_images_than_the_step_has_stop(name):
    z_image, texts = step()
    with pytest.raises(ConfigError, match="A step of 7 images has no images 3 to 9"):
        make(name)(z_image, dataclasses.replace(texts, first=3))


@pytest.mark.parametrize("name", SHARING)
@pytest.mark.parametrize(
    "options", [{"ignore_above": 1.0}, {"ignore_above": -1.5}, {"max_scale": 0.5}]
)
def test_impossible_options_stop(name, options):
    with pytest.raises(ConfigError, match=name):
        make(name, **options)
