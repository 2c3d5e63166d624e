"""Forward and backward through one step's batches, on one of several ranks."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

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
            z_image, z_text = self._vectors(model, number)
            if z_text is not None:
                z_text = self._means.ranks.gather_with_gradient(z_text)
            texts = self._candidates(z_text, number)
            self._note_parts(model, z_image, texts)
            return model.objective(z_image, texts)

        with self._quiet(whole, number):
            loss = whole(part)
            (loss * self._means.ranks.size).backward()
        self.losses.append(loss.detach())

    def _together(self, whole: nn.Module) -> None:
        model, ranks = self._means.model, self._means.ranks
        with torch.no_grad():
            pairs = [self._vectors(model, number) for number in range(len(self._batches))]
        images = torch.cat([z for z, _ in pairs]).requires_grad_()
        own = None
        if self._z_text is None:
            own = torch.cat([z for _, z in pairs if z is not None]).requires_grad_()
        gathered = None if own is None else ranks.gather_with_gradient(own)
        texts = self._candidates(gathered, 0)
        self._note_parts(model, images, texts)
        loss = model.objective(images, texts)
        self.losses.append(loss.detach())
        learned = [p for p in model.objective.parameters() if p.requires_grad]
        leaves = [images, *([] if own is None else [own]), *learned]
        found = torch.autograd.grad(loss, leaves, allow_unused=True)
        d_images = found[0].split([len(z) for z, _ in pairs])
        d_texts = None
        if own is not None:
            d_texts = found[1].split([len(z) for _, z in pairs if z is not None])
        d_learned = found[len(found) - len(learned) :]
        for number in range(len(pairs)):

            def carried(model: TwoSided, number: int = number) -> Tensor:
                z_image, z_text = self._vectors(model, number)
                total = (z_image * d_images[number]).sum()
                if d_texts is not None and z_text is not None and z_text.requires_grad:
                    total = total + (z_text * d_texts[number]).sum()
                if number == len(pairs) - 1:  # once a step, in the pass that is shared
                    for p, gradient in zip(learned, d_learned, strict=True):
                        if gradient is not None:
                            total = total + (p * gradient).sum()
                return total

            with self._quiet(whole, number):
                (whole(carried) * ranks.size).backward()

    def _vectors(self, model: TwoSided, number: int) -> tuple[Tensor, Tensor | None]:
        """Return the unit vectors of a batch's images, and of its texts where they are computed."""
        means, batch = self._means, self._batches[number]
        assert isinstance(batch.images, Tensor), "the loader has finished the images"
        seed = generator(means.seed, _DROPS, self._step, means.ranks.worker.rank)
        torch.manual_seed(int(seed.integers(1 << 62)) + number)
        images = means.transform.normalise(batch.images)
        if means.precision == "float64":
            images = images.double()
        with autocast(means.device, means.precision):
            z_image = model.image(images, self._tiles) if self._tiles > 1 else model.image(images)
            z_text = None
            if self._z_text is None:
                z_text = model.text(means.decode(batch.texts))
        return z_image, z_text

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
