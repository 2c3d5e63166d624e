"""One optimiser step: averaging, clipping, and no step on a loss that is not finite."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

from lift import plugins
from lift.candidates import Candidates
from lift.config import part
from lift.data.transform import Transform
from lift.errors import NotFinite
from lift.heads import HeadConfig
from lift.model import SideConfig, TwoSided, build_side
from lift.terms import Batch
from lift.training.config import OptimConfig
from lift.training.optim import make_optimizer
from lift.training.passes import Means
from lift.training.step import Stepper, StepReport

CPU = torch.device("cpu")
TRANSFORM = Transform(resolution=16)


def model(objective: str = "cosine") -> TwoSided:
    torch.manual_seed(0)
    tower = part("towers", "vit", width=16, depth=1, heads=2, patch=8, resolution=16)
    image = build_side(SideConfig(tower=tower, head=HeadConfig(layers=1)), None, 8)
    text = build_side(SideConfig(), 8, 8)
    options = {"prefixes": (2, 4)} if objective == "matryoshka" else {}
    return TwoSided(image, text, plugins.build(part("objectives", objective, **options)))


def batch(count: int, seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        images=torch.randint(0, 256, (count, 3, 16, 16), generator=generator).to(torch.uint8),
        texts=torch.randn(count, 8, generator=generator),
        owner=torch.arange(count),
        row=torch.arange(count) + 100 * seed,
        index=torch.arange(count) + 1000 * seed,
        source=torch.zeros(count, dtype=torch.int64),
        prints=torch.zeros(count, 2, dtype=torch.int64),
    )


def join(a: Batch, b: Batch) -> Batch:
    return Batch(
        images=torch.cat([a.images, b.images]),
        texts=torch.cat([a.texts, b.texts]),
        owner=torch.arange(len(a.images) + len(b.images)),
        row=torch.cat([a.row, b.row]),
        index=torch.cat([a.index, b.index]),
        source=torch.cat([a.source, b.source]),
        prints=torch.cat([a.prints, b.prints]),
    )


def step(
    two_sided: TwoSided, batches: list[Batch], clip: float | None = 1.0, sources: int = 0, **more
) -> StepReport:
    optimizer = make_optimizer(two_sided, OptimConfig(lr=1e-2, warmup_steps=0))
    means = Means(model=two_sided, transform=TRANSFORM, device=CPU, **more)
    return Stepper(means, optimizer, clip_norm=clip).take(batches, 0, sources=sources)


@pytest.mark.parametrize("objective", plugins.names("objectives"))
def test_batches_of_a_step_equal_one_batch(objective: str) -> None:
    """Also where the loss does not split by image, and with dropped patches drawn twice alike."""
    one, two = model(objective), model(objective)
    a, b = batch(4, 1), batch(4, 2)
    whole = step(one, [join(a, b)])
    parts = step(two, [a, b])
    assert whole.loss == pytest.approx(parts.loss, abs=1e-6)
    assert whole.grad_norm == pytest.approx(parts.grad_norm, rel=1e-5)
    assert whole.images == parts.images == 8
    for p, q in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-6)


def test_a_second_pass_over_batches_drops_what_the_first_did() -> None:
    tower = part(
        "towers", "vit", width=16, depth=2, heads=2, patch=4, resolution=16, patch_dropout=0.5
    )
    gradients = []
    for _ in range(2):
        torch.manual_seed(0)
        image = build_side(SideConfig(tower=tower, head=HeadConfig(layers=1)), None, 8)
        two_sided = TwoSided(
            image, build_side(SideConfig(), 8, 8), plugins.build(part("objectives", "softmax"))
        )
        torch.manual_seed(len(gradients))  # a step's chance has an address of its own
        step(two_sided, [batch(4, 1), batch(4, 2)])
        gradients.append([p.grad.clone() for p in two_sided.parameters()])
    for p, q in zip(*gradients, strict=True):
        assert torch.equal(p, q)


def test_the_gradient_is_clipped_to_the_global_norm() -> None:
    two_sided = model("softmax")
    report = step(two_sided, [batch(6, 1)], clip=0.01)
    norm = torch.stack([p.grad.norm() for p in two_sided.parameters() if p.grad is not None]).norm()
    assert report.grad_norm > 0.01
    assert float(norm) == pytest.approx(0.01, rel=1e-3)


def test_not_finite_texts_are_named_and_nothing_moves() -> None:
    two_sided = model("softmax")
    before = copy.deepcopy(two_sided.state_dict())
    bad = batch(4, 1)
    bad.texts[2, 3] = float("nan")
    with pytest.raises(NotFinite, match=r"row\(s\) \[102\].*lift audit"):
        step(two_sided, [batch(4, 2), bad])
    assert all(torch.equal(before[name], value) for name, value in two_sided.state_dict().items())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_stored_rows_are_decoded_in_float32_whatever_the_towers_run_in(precision) -> None:
    codec = plugins.build(part("cache/codecs", "int4"), 8)
    plain = batch(4, 1)
    stored = codec.stored(codec.encode(plain.texts.numpy()))
    packed = dataclasses.replace(plain, texts=torch.from_numpy(stored.copy()))
    decoded = dataclasses.replace(plain, texts=torch.from_numpy(codec.decode(stored)))
    one, two = model("softmax"), model("softmax")
    ours = step(one, [packed], precision=precision, decode=codec.decode_on)
    theirs = step(two, [decoded], precision=precision)
    assert (ours.loss, ours.grad_norm) == (theirs.loss, theirs.grad_norm)
    for p, q in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(p, q)


def test_stored_rows_that_are_not_finite_are_named() -> None:
    codec = plugins.build(part("cache/codecs", "int8"), 8)
    stored = codec.stored(codec.encode(batch(4, 1).texts.numpy())).copy()
    stored[2, -4:] = 255  # the scale of a row is NaN
    bad = dataclasses.replace(batch(4, 1), texts=torch.from_numpy(stored))
    with pytest.raises(NotFinite, match=r"row\(s\) \[102\].*lift audit"):
        step(model("softmax"), [bad], decode=codec.decode_on)


def test_a_gradient_that_is_not_finite_stops_before_the_step() -> None:
    two_sided = model("softmax")
    with torch.no_grad():
        next(two_sided.image.tower.parameters()).fill_(float("inf"))
    before = copy.deepcopy(two_sided.state_dict())
    with pytest.raises(NotFinite, match=r"Samples \[1000, 1001"):
        step(two_sided, [batch(4, 1)])
    assert all(torch.equal(before[name], value) for name, value in two_sided.state_dict().items())


def test_losses_of_sources_are_means_over_their_images() -> None:
    mixed = join(batch(4, 1), batch(4, 2))
    mixed.source[:] = torch.tensor([0, 0, 0, 0, 0, 2, 2, 2])
    two_sided = model("softmax")
    with torch.no_grad():
        z_image = two_sided.image(TRANSFORM.normalise(mixed.images))
        texts = Candidates.alone(two_sided.text(mixed.texts), mixed.owner, mixed.row)
        loss = two_sided.objective(z_image, texts)
        parts = two_sided.objective.by_image(z_image, texts)
    report = step(two_sided, [mixed], sources=3)
    assert set(report.by_source) == {0, 2}
    assert report.by_source[0] == pytest.approx(parts[:5].mean().item(), rel=1e-5)
    assert report.by_source[2] == pytest.approx(parts[5:].mean().item(), rel=1e-5)
    assert report.loss == pytest.approx(loss.item(), rel=1e-6)
    assert not step(two_sided, [mixed]).by_source
