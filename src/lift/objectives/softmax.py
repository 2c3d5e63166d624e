"""Symmetric InfoNCE with a learned temperature (CLIP's loss, and the paper's)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lift.candidates import Candidates
from lift.errors import ConfigError
from lift.objectives._growing import Growing
from lift.objectives._targets import check_ignore_above, own_texts
from lift.objectives._tiles import Grid, Tile, exactly
from lift.ranks import Ranks


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the softmax objective.

    Attributes:
        init_temperature: what the cosines are divided by at the start.
        max_scale: the most that 1/temperature may become.
        learn_temperature: False keeps it where it starts.
        share_equal: captions that are equal are right for each other's images.
        ignore_above: text-text cosine above which another image's caption is left out of the
            denominator instead of being pushed away; None leaves none out.
        direction: "both", or "to_text": each image among texts only. Then no image needs word of
            another one, so that a step in several batches is exact and ranks tell each other
            nothing.
        soft: share of the target that goes by how close texts are, in [0, 1] (see `Softmax`).
        soft_temperature: what text-text cosines are divided by there.

    The paper's loss is `share_equal=False, ignore_above=None`.
    """

    init_temperature: float = 0.07
    max_scale: float = 100.0
    learn_temperature: bool = True
    share_equal: bool = True
    ignore_above: float | None = None
    direction: Literal["both", "to_text"] = "both"
    soft: float = 0.0
    soft_temperature: float = 0.05


class Softmax(nn.Module):
    """Mean of image-to-text and text-to-image cross-entropy (Radford et al. 2021, figure 3).

    The target of an image is uniform over the captions that are right for it (or in proportion to
    their weights), the target of a caption likewise over the images it is right for; with one
    caption an image and none equal, this is plain InfoNCE. Images and captions without a target
    (nothing is right, or by a weight of 0) don't count.

    With `soft` = s the target is 1 - s of that plus s of a softmax by text-text similarity. The
    text of image i is t_i, the unit vector of the mean of its own captions by weight. An image's
    soft target over captions j is softmax_j(t_i z_j / soft_temperature), that of a caption over
    images that have a target softmax_i of the same; pairs that `ignore_above` leaves out, and
    extra texts, take no part. No gradient goes through a target.

    Extra texts (`Candidates.extra`: a bank of stored captions, hard negatives) stand in the
    denominators of images only. They help the image-to-text direction alone: no image of theirs
    is here that a text could be told apart from. One that is a caption of an image, or too close
    to one by `ignore_above`, is left out for that image.

    No logits are kept: a rank makes its own images' in tiles, once for the value and once more for
    the gradient, and of other images it needs only their part of each text's log-sum-exp: two
    vectors of as many values as texts. `log_scale` is 0-d, so the optimiser does not decay it.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.splits = config.direction == "to_text"
        self.log_scale = nn.Parameter(
            torch.tensor(-math.log(config.init_temperature), dtype=torch.float32),
            requires_grad=config.learn_temperature,
        )

    def forward(
        self,
        z_image: Float[Tensor, "b d"],
        texts: Candidates,
    ) -> Float[Tensor, ""]:
        """Return the own part of the loss in nats; the rest as in `lift.candidates.Objective`.

        Its gradients are those of the whole loss, so every rank has to send the same factor back.
        Those of `texts.z`, where it has any, are of the own images: the sum over ranks is whole.
        """
        with exactly(z_image.device):
            step = _Step(self.config, z_image, texts)
            loss = _Loss.apply(z_image, texts.z, self.log_scale.to(z_image.dtype), step)
        assert isinstance(loss, Tensor)
        return loss

    @torch.no_grad()
    def by_image(
        self,
        z_image: Float[Tensor, "b d"],
        texts: Candidates,
    ) -> Float[Tensor, " b"]:
        """Return each image's image-to-text cross-entropy in nats; 0 without a target."""
        with exactly(z_image.device):
            step = _Step(self.config, z_image, texts, direction="to_text")
            return step.find(z_image, self.log_scale.to(z_image.dtype).exp())[1]

    @torch.no_grad()
    def constrain(self) -> None:
        """Clamp the log scale to [0, ln max_scale]."""
        self.log_scale.clamp_(0.0, math.log(self.config.max_scale))

    def scalars(self) -> dict[str, float]:
        """Return `scale` (what cosines are multiplied by) and its inverse, `temperature`."""
        scale = math.exp(self.log_scale.item())
        return {"scale": scale, "temperature": 1.0 / scale}


@dataclass(frozen=True, slots=True)
class _Shifts:
    """What makes a gradient of a logit, found in the first pass over the logits.

    Attributes:
        image, text: exp(logit - shift) is a softmax times the factor of its row or column in the
            loss; infinite where that is 0. `text` is None where texts are not compared.
        soft_image, soft_text: the same for text-text logits.
    """

    image: Float[Tensor, " b"]
    text: Float[Tensor, " c"] | None = None
    soft_image: Float[Tensor, " b"] | None = None
    soft_text: Float[Tensor, " c"] | None = None


class _Sums:
    """What tiles add up to, of own images with texts.

    Attributes:
        image, text: log-sum-exps of the logits of each own image and each text.
        soft_image, soft_text: the same of text-text logits, and the mean logit they weigh.
        pulled, text_pulled: sums of how right times logit.
    """

    def __init__(self, z_image: Float[Tensor, "b d"], texts: int) -> None:
        images = len(z_image)
        self.image, self.text = Growing(z_image, images), Growing(z_image, texts)
        self.soft_image, self.soft_text = Growing(z_image, images), Growing(z_image, texts)
        self.pulled, self.text_pulled = z_image.new_zeros(images), z_image.new_zeros(texts)


class _Step:
    """The loss of one step, in two passes over the same tiles."""

    def __init__(
        self,
        config: Config,
        z_image: Float[Tensor, "b d"],
        texts: Candidates,
        direction: str | None = None,
    ) -> None:
        self.texts, self.soft, self._heat = texts, config.soft, config.soft_temperature
        self.grid = Grid(
            texts,
            len(z_image),
            z_image.dtype,
            share_equal=config.share_equal,
            ignore_above=config.ignore_above,
            keep_untaught=True,
        )
        self.both = (direction or config.direction) == "both"
        right = self.grid.targets
        share = 0.5 if self.both else 1.0
        zero = torch.zeros((), dtype=z_image.dtype, device=z_image.device)
        # What an image's and a text's cross-entropy counts in the loss; 0 without a target.
        self.image = torch.where(right.image > 0, share / right.images, zero)
        self.text = torch.where(right.text > 0, share / right.texts, zero)
        # The same over the sum of their targets: what a pair's logit counts, if it is right by 1.
        hard = 1.0 - self.soft
        self._image_right = torch.where(right.image > 0, hard * self.image / right.image, zero)
        self._text_right = torch.where(right.text > 0, hard * self.text / right.text, zero)

    def find(
        self, z_image: Float[Tensor, "b d"], scale: Float[Tensor, ""]
    ) -> tuple[Tensor, Tensor, _Shifts]:
        """Go over all tiles once; return the own part, each image's own loss, and shifts."""
        sums = self._sums(z_image, scale)
        by_image = self.image * sums.image.finite() - self._image_right * sums.pulled
        by_image -= self.soft * self.image * sums.soft_image.mean
        each = torch.where(self.image > 0, by_image / self.image, 0.0)
        shift = sums.image.shift(self.image)
        soft_shift = sums.soft_image.shift(self.soft * self.image) if self.soft else None
        if not self.both:
            return by_image.sum(), each, _Shifts(shift, None, soft_shift)
        own_part = sums.soft_text.log_sum
        _over_ranks([sums.text, sums.soft_text] if self.soft else [sums.text], self.texts.ranks)
        own = self.text * own_texts(self.texts, self.grid.images)
        by_text = own * sums.text.finite() - self._text_right * sums.text_pulled
        if not self.soft:
            shifts = _Shifts(shift, sums.text.shift(self.text))
            return by_image.sum() + by_text.sum(), each, shifts
        own_share = (own_part - sums.soft_text.finite()).exp()
        by_text -= self.soft * self.text * own_share * sums.soft_text.mean
        soft_text_shift = sums.soft_text.shift(self.soft * self.text)
        shifts = _Shifts(shift, sums.text.shift(self.text), soft_shift, soft_text_shift)
        return by_image.sum() + by_text.sum(), each, shifts

    def _sums(self, z_image: Float[Tensor, "b d"], scale: Float[Tensor, ""]) -> _Sums:
        """Go over all tiles once, those of extra texts last."""
        sums = _Sums(z_image, len(self.grid.z))
        for tile in self.grid.tiles():
            logits = _logits(z_image, tile, scale)
            over_texts, over_images = tile.right.sums(logits)
            sums.pulled[tile.images] += over_texts
            sums.text_pulled[tile.texts] += over_images
            if self.soft:
                near = self._near(tile)
                sums.soft_image.add(tile.images, near, 1, logits)
                if self.both:
                    sums.soft_text.add(tile.texts, near, 0, logits)
            if tile.dropped is not None:
                logits.masked_fill_(tile.dropped, -math.inf)
            sums.image.add(tile.images, logits, 1)
            if self.both:
                sums.text.add(tile.texts, logits, 0)
        for tile in self.grid.extra_tiles():
            logits = _logits(z_image, tile, scale)
            if tile.dropped is not None:
                logits.masked_fill_(tile.dropped, -math.inf)
            sums.image.add(tile.images, logits, 1)
        return sums

    def gradients(
        self,
        z_image: Float[Tensor, "b d"],
        scale: Float[Tensor, ""],
        shifts: _Shifts,
        of_text: bool,
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Go over all tiles again; return the gradients of images, texts and log scale."""
        grid = self.grid
        image = torch.zeros_like(z_image)
        text = torch.zeros_like(grid.z) if of_text else None
        for tile in grid.tiles():
            slopes = self._slopes(_logits(z_image, tile, scale), tile, shifts)
            image[tile.images].addmm_(slopes, tile.z)
            if text is not None:
                text[tile.texts].addmm_(slopes.T, z_image[tile.images])
        for tile in grid.extra_tiles():
            logits = _logits(z_image, tile, scale)
            slopes = logits.sub_(shifts.image[tile.images, None]).exp_()
            if tile.dropped is not None:
                slopes.masked_fill_(tile.dropped, 0.0)
            image[tile.images].addmm_(slopes, tile.z)
        image.mul_(scale)
        # The sum of slope x logit over all pairs, without another look at them.
        log_scale = torch.stack(
            [(image[rows] * z_image[rows]).sum() for rows in grid.rows] or [scale.new_zeros(())]
        ).sum()
        return image, None if text is None else text.mul_(scale), log_scale

    def _slopes(self, logits: Tensor, tile: Tile, shifts: _Shifts) -> Float[Tensor, "r k"]:
        """Return the gradient of the loss by each logit of a tile, which it overwrites."""
        rows, columns = tile.images, tile.texts
        slopes = (logits - shifts.image[rows, None]).exp_()
        if shifts.text is not None:
            slopes += logits.sub_(shifts.text[columns]).exp_()
        if tile.dropped is not None:
            slopes.masked_fill_(tile.dropped, 0.0)
        both = self.both
        tile.right.subtract_from(
            slopes, self._image_right[rows], self._text_right[columns] if both else None
        )
        if shifts.soft_image is not None:
            near = self._near(tile)
            slopes -= (near - shifts.soft_image[rows, None]).exp_()
            if shifts.soft_text is not None:
                slopes -= near.sub_(shifts.soft_text[columns]).exp_()
        return slopes

    def _near(self, tile: Tile) -> Float[Tensor, "r k"]:
        """Return the text-text logits of a tile; -inf where a pair takes no part."""
        near = self.grid.described(tile.images) @ tile.z.T
        near.div_(self._heat)
        near.masked_fill_((self.image[tile.images] == 0)[:, None], -math.inf)
        return near if tile.dropped is None else near.masked_fill_(tile.dropped, -math.inf)


def _logits(z_image: Tensor, tile: Tile, scale: Tensor) -> Float[Tensor, "r k"]:
    return (z_image[tile.images] @ tile.z.T).mul_(scale)


def _over_ranks(sums: list[Growing], ranks: Ranks) -> None:
    """Make log-sum-exps over own images those over all images; `mean` stays of the own ones."""
    if ranks.size == 1:
        return
    own = torch.stack([one.log_sum for one in sums])
    most = ranks.max(own)
    finite = most.clamp(min=torch.finfo(own.dtype).min)
    whole = finite + ranks.sum((own - finite).exp()).log()
    for one, log_sum in zip(sums, whole, strict=True):
        one.log_sum = log_sum


class _Loss(torch.autograd.Function):
    """The own part of the loss; what is kept for the gradient grows with b + c only."""

    @staticmethod
    def forward(ctx: Any, z_image: Tensor, z_text: Tensor, log_scale: Tensor, step: _Step) -> Any:
        loss, _, ctx.shifts = step.find(z_image, log_scale.exp())
        ctx.step = step
        ctx.save_for_backward(z_image, log_scale)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *factors: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        z_image, log_scale = ctx.saved_tensors
        of_text = ctx.needs_input_grad[1]
        with exactly(z_image.device):
            found = ctx.step.gradients(z_image, log_scale.exp(), ctx.shifts, of_text)
        image, text, scale = (None if g is None else g.mul_(factors[0]) for g in found)
        return image, text, scale, None


def build(config: Config) -> Softmax:
    """Return the objective.

    Raises:
        ConfigError: a temperature, scale, share or cosine that can't be one.
    """
    if not 1.0 <= config.max_scale:
        raise ConfigError(f"softmax.max_scale must be at least 1, not {config.max_scale}.")
    if not 1.0 / config.max_scale <= config.init_temperature <= 1.0:
        raise ConfigError(
            f"softmax.init_temperature must lie in [1/max_scale, 1] = "
            f"[{1.0 / config.max_scale:g}, 1], not {config.init_temperature}."
        )
    if not 0.0 <= config.soft <= 1.0:
        raise ConfigError(f"softmax.soft is a share in [0, 1], not {config.soft}.")
    if not config.soft_temperature > 0.0:
        raise ConfigError(
            f"softmax.soft_temperature must be above 0, not {config.soft_temperature}."
        )
    check_ignore_above(config.ignore_above, "softmax")
    return Softmax(config)
