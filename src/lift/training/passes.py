"""Forward and backward through one step's batches, on one of several ranks."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lift.candidates import Candidates, Extra
from lift.data.dice import generator
from lift.data.transform import Transform
from lift.model import TwoSided
from lift.ranks import ALONE, Ranks
from lift.terms import Batch
from lift.training.anchor import AnchorConfig, References, Start, anchor_loss
from lift.training.bank import Bank
from lift.training.gathered import Gathered
from lift.world import Precision, autocast

_DROPS = 5
"""Purpose of the dice: what towers drop in a step."""


@dataclass(kw_only=True)
class Means:
    """What every step of a run works with.

    Attributes:
        model: the two sides and the objective, on the device.
        transform: of the model's images.
        device: of the model.
        precision: of the towers; objectives work in float32 by themselves, or in float64.
        ranks: who takes part.
        seed: of what towers drop.
        decode: from a batch's texts, on the device, to rows: `Loader.decode`.
        decode_stored: from rows as the cache has them; a loader that mixes captions gives others.
        condition: from rows to those that images are trained against.
        bank: stored captions that images also compete with.
        stored_images: whether images come as what the tower gave them, earlier.
        anchor: what images are kept near to.
        start: the run's start, where that is it.
        decode_teacher: from a batch's stored rows of a teacher to float32 ones, where that is it.
    """

    model: TwoSided
    transform: Transform
    device: torch.device
    precision: Precision = "float32"
    ranks: Ranks = ALONE
    seed: int = 0
    decode: Callable[[Tensor], Tensor] = Tensor.float
    decode_stored: Callable[[Tensor], Tensor] = Tensor.float
    condition: Callable[[Tensor], Tensor] | None = None
    bank: Bank | None = None
    stored_images: bool = False
    anchor: AnchorConfig = field(default_factory=AnchorConfig)
    start: Start | None = None
    decode_teacher: Callable[[Tensor], Tensor] = Tensor.float

    def seen(self, images: Tensor) -> Tensor:
        """Return a batch's images as the model takes them: normalised pixels, or features."""
        x = images if self.stored_images else self.transform.normalise(images)
        return x.double() if self.precision == "float64" else x

    def unit_stored(self, stored: Tensor) -> Float[Tensor, "n d"]:
        """Return the unit vectors of rows as the cache has them."""
        return self.unit_rows(self.decode_stored(stored.to(self.device)))

    def unit_rows(self, rows: Tensor) -> Float[Tensor, "n d"]:
        """Return the unit vectors of rows that images are trained against."""
        if self.precision == "float64":
            rows = rows.double()
        if self.condition is not None:
            rows = self.condition(rows)
        return self.model.text(rows)


class _Vectors(NamedTuple):
    """What a batch came out as.

    Attributes:
        h_image: of the tower, raw.
        z_image: in the shared space.
        z_text: of the batch's texts, where they are computed.
    """

    h_image: Tensor
    z_image: Tensor
    z_text: Tensor | None


class Passes:
    """The forward and backward passes of one step on one rank.

    A gradient is the sum over ranks, and DistributedDataParallel takes the mean: what goes
    backward is multiplied by the number of ranks.

    Attributes:
        told: the step's texts.
        losses: the own part of the loss, batch by batch.
        by_image: losses of the own images, batch by batch, where they are asked for.
    """

    def __init__(
        self,
        means: Means,
        batches: Sequence[Batch],
        told: Gathered,
        step: int,
        tiles: int,
        by_image: bool,
    ) -> None:
        self.told, self.losses, self.by_image = told, [], []
        self._means, self._batches, self._step = means, batches, step
        self._tiles, self._wants_parts = tiles, by_image
        self._z_text = None
        if told.texts is not None:
            with torch.no_grad():
                self._z_text = means.unit_rows(means.decode(told.texts))
        self._extra = _extra(means, told, step)
        self._references = _references(means, batches, tiles)

    def plainly(self) -> Passes:
        """Return the same step without mosaics: how every run lays out its buckets."""
        return Passes(self._means, self._batches, self.told, self._step, 1, False)

    def run(self, whole: nn.Module) -> None:
        """Leave the gradients of the step's loss in the model."""
        # Where each image's part stands by itself and all texts are known, batches need not wait
        # for each other. Else a first pass without a graph finds the loss' gradient at the vectors,
        # and a second one carries it into the weights (GradCache, Gao et al. 2021, 2101.06983).
        splits = self._means.model.objective.splits and self._z_text is not None
        if len(self._batches) == 1 or splits:
            for number in range(len(self._batches)):
                self._alone(whole, number)
        else:
            self._together(whole)

    def _alone(self, whole: nn.Module, number: int) -> None:
        def part(model: TwoSided) -> Tensor:
            found = self._vectors(model, number)
            z_text = found.z_text
            if z_text is not None:
                z_text = self._means.ranks.gather_with_gradient(z_text)
            texts = self._candidates(z_text, number)
            self._note_parts(model, found.z_image, texts)
            loss = model.objective(found.z_image, texts)
            held = self._held(found, number)
            return loss if held is None else loss + held

        with self._quiet(whole, number):
            loss = whole(part)
            (loss * self._means.ranks.size).backward()
        self.losses.append(loss.detach())

    def _together(self, whole: nn.Module) -> None:
        model, ranks = self._means.model, self._means.ranks
        with torch.no_grad():
            pairs = [self._vectors(model, number) for number in range(len(self._batches))]
        images = torch.cat([found.z_image for found in pairs]).requires_grad_()
        own_texts = [found.z_text for found in pairs if found.z_text is not None]
        own = torch.cat(own_texts).requires_grad_() if own_texts else None
        gathered = None if own is None else ranks.gather_with_gradient(own)
        texts = self._candidates(gathered, 0)
        self._note_parts(model, images, texts)
        loss = model.objective(images, texts)
        self.losses.append(loss.detach())
        learned = [p for p in model.objective.parameters() if p.requires_grad]
        leaves = [images, *([] if own is None else [own]), *learned]
        found = torch.autograd.grad(loss, leaves, allow_unused=True)
        d_images = found[0].split([len(pair.z_image) for pair in pairs])
        d_texts = None if own is None else found[1].split([len(z) for z in own_texts])
        d_learned = found[len(found) - len(learned) :]
        for number in range(len(pairs)):

            def carried(model: TwoSided, number: int = number) -> Tensor:
                found = self._vectors(model, number)
                total = (found.z_image * d_images[number]).sum()
                z_text = found.z_text
                if d_texts is not None and z_text is not None and z_text.requires_grad:
                    total = total + (z_text * d_texts[number]).sum()
                # An image's anchor needs no other image: it has no part in the first pass.
                held = self._held(found, number)
                if held is not None:
                    self.losses.append(held.detach())
                    total = total + held
                if number == len(pairs) - 1:  # once a step, in the pass that is shared
                    for p, gradient in zip(learned, d_learned, strict=True):
                        if gradient is not None:
                            total = total + (p * gradient).sum()
                return total

            with self._quiet(whole, number):
                (whole(carried) * ranks.size).backward()

    def _held(self, found: _Vectors, number: int) -> Tensor | None:
        """Return the part of the loss that keeps a batch's images at their references, if any."""
        if self._references is None:
            return None
        config = self._means.anchor
        a = found.h_image if config.of == "tower" else found.z_image
        before = sum(len(batch.index) for batch in self._batches[:number])
        return anchor_loss(a, self._references.after(before), config)

    def _vectors(self, model: TwoSided, number: int) -> _Vectors:
        """Return the vectors of a batch's images, and of its texts where they are computed."""
        means, batch = self._means, self._batches[number]
        seed = generator(means.seed, _DROPS, self._step, means.ranks.worker.rank)
        torch.manual_seed(int(seed.integers(1 << 62)) + number)
        images = means.seen(_pixels(batch))
        with autocast(means.device, means.precision):
            h = images if means.stored_images else model.image.features(images, self._tiles)
            z_image = model.image.finish(h)
            z_text = None
            if self._z_text is None:
                z_text = model.text(means.decode(batch.texts))
        return _Vectors(h, z_image, z_text)

    def _candidates(self, z_text: Tensor | None, number: int) -> Candidates:
        told = self.told
        z = self._z_text if z_text is None else z_text
        assert z is not None, "texts are stored or computed"
        weight = told.weight if told.weight is None else told.weight.to(z.dtype)
        return Candidates(
            z=z,
            owner=told.owner,
            row=told.row,
            weight=weight,
            images=told.images,
            first=told.first[number],
            extra=self._extra,
            ranks=self._means.ranks,
        )

    def _note_parts(self, model: TwoSided, z_image: Tensor, texts: Candidates) -> None:
        if self._wants_parts:
            z, of = z_image.detach(), dataclasses.replace(texts, z=texts.z.detach())
            self.by_image.append(model.objective.by_image(z, of))  # type: ignore[operator]

    def _quiet(self, whole: nn.Module, number: int) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which gradients are not shared yet: all but the last pass."""
        if isinstance(whole, DistributedDataParallel) and number < len(self._batches) - 1:
            return whole.no_sync()
        return contextlib.nullcontext()


def _references(means: Means, batches: Sequence[Batch], tiles: int) -> References | None:
    """Return where the images of a step shall be, where a run says so."""
    config, known = means.anchor, None
    if not config.pulls:
        return None
    if means.start is not None:
        with autocast(means.device, means.precision), torch.no_grad():
            rows = [means.start.rows(means.seen(_pixels(batch)), tiles) for batch in batches]
    else:
        rows = [means.decode_teacher(_teacher(batch)) for batch in batches]
        known = torch.cat([_teacher(batch, batch.taught) for batch in batches])
    return References.gather(torch.cat(rows), known, means.ranks, config)


def _pixels(batch: Batch) -> Tensor:
    assert isinstance(batch.images, Tensor), "the loader has finished the images"
    return batch.images


def _teacher(batch: Batch, value: Tensor | None = None) -> Tensor:
    found = batch.teacher if value is None else value
    assert found is not None, "the loader has a teacher"
    return found


def _extra(means: Means, told: Gathered, step: int) -> Extra | None:
    """Return what images also compete with: stored captions, then negatives of the step."""
    drawn = None if means.bank is None else means.bank.of(step, means.device, told.own_rows)
    if told.negatives is None or told.negative_row is None:
        return drawn
    with torch.no_grad():
        z = means.unit_stored(told.negatives)
    if drawn is None:
        return Extra(told.negative_row, lambda start, stop: z[start:stop])
    kept, bank = len(drawn.row), drawn

    def take(start: int, stop: int) -> Tensor:
        parts = []
        if start < kept:
            parts.append(bank.take(start, min(stop, kept)))
        if stop > kept:
            parts.append(z[max(start - kept, 0) : stop - kept])
        return torch.cat(parts)

    return Extra(torch.cat([drawn.row, told.negative_row]), take)
