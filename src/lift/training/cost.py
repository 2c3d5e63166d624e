"""What LIFT costs in all, the embedding of the captions included, against training CLIP."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from lift import plugins
from lift.config import Part
from lift.errors import ConfigError
from lift.text.encoder import KEY_BYTES
from lift.training import methods
from lift.training.config import RunConfig
from lift.training.devices import Device
from lift.training.effort import image_flops, text_flops
from lift.training.encoder_cost import CaptionLengths, EncoderSize
from lift.training.methods import CONTEXT

CODECS = ("float32", "float16", "int8", "int4")
ROW_EXTRA = KEY_BYTES + 4
"""Bytes a row beside the codec's: the key and the token count."""


def clip_beside(base: RunConfig, *, context: int = CONTEXT, matched: bool = False) -> RunConfig:
    """Return CLIP with the image tower of a recipe, its captions padded to `context`.

    Its text tower is in proportion to the image tower (`methods.text_shape`): 12 x 512 beside
    B/16, which is CLIP-B's (Radford et al. 2021).

    Args:
        base: a recipe of LIFT, its dimensions known.
        context: tokens of every caption.
        matched: keep LIFT's head and the width of its space; else both sides have CLIP's matrix,
            into a space as wide as the text tower.
    """
    config = methods.apply("clip", base)
    assert config.text_tower is not None, "the method has a text tower"
    options = {**config.text_tower.options, "context": context, "pad_to": "context"}
    config = dataclasses.replace(
        config, text_tower=dataclasses.replace(config.text_tower, options=options)
    )
    if matched:
        return config
    return dataclasses.replace(config, head=config.text_head, dimensions=options["width"])


@dataclass(frozen=True, kw_only=True)
class Against:
    """LIFT against CLIP with one way of feeding its text tower.

    Attributes:
        name: how captions are fed ("padded to 77 tokens").
        tokens: that the tower reads of a caption.
        step_flops: of the text tower for one caption, forward and backward.
        clip_flops: of CLIP's whole training.
        image_flops: of CLIP's image tower for one image, the same.
        ratio: cost of LIFT, embedding included, over CLIP's; None where the embedding's is unknown.
        break_even: the embedding over what the text tower costs an epoch; None where unknown.
        cheaper_from: epochs at which LIFT's whole bill, its head included, is CLIP's; of all
            models on these captions together. Infinite where LIFT's own step is no cheaper.
    """

    name: str
    tokens: float
    step_flops: float
    clip_flops: float
    image_flops: float
    ratio: float | None
    break_even: float | None
    cheaper_from: float | None


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The bill of a recipe; see `cost`.

    Attributes:
        captions, encoder, device: what it was counted for.
        recipe: its name.
        dimensions: of the text space.
        dimensions_from: where that width comes from.
        pairs, samples, models: pairs of an epoch, seen by one model, models trained.
        unit: what an epoch is counted in: "pairs", or "images" with however many captions.
        image_flops: training of the image side on one image (tower and head).
        caption_flops: embedding of one caption; None where the encoder's size is unknown.
        text_tower: blocks and width of CLIP's text tower.
        against: CLIP padded as released, padded to the captions' context, and not padded.
        price: of embedding everything through a server, None where no price was given.
        storage: bytes of the cache by codec.
    """

    recipe: str
    captions: CaptionLengths
    encoder: EncoderSize
    device: Device
    dimensions: int
    pairs: int
    samples: int
    models: int
    image_flops: float
    caption_flops: float | None
    text_tower: tuple[int, int]
    against: tuple[Against, ...]
    price: float | None
    storage: dict[str, int]
    dimensions_from: str = "given"
    unit: str = "pairs"

    @property
    def epochs(self) -> float:
        """Epochs over the captions, of all models together."""
        return self.models * self.samples / self.pairs

    @property
    def embedding_flops(self) -> float | None:
        """FLOPs of embedding every caption once."""
        return None if self.caption_flops is None else self.caption_flops * self.captions.count

    @property
    def training_flops(self) -> float:
        """FLOPs of LIFT's training, all models, without the embedding."""
        return self.image_flops * self.samples * self.models

    @property
    def usual(self) -> Against:
        """CLIP as it would be trained on these captions: padded so that few are cut."""
        return self.against[0 if self.captions.mean <= CONTEXT / 2 else len(self.against) - 2]

    def verdict(self) -> str:
        """Return in plain sentences whether LIFT is cheaper than CLIP."""
        from lift.training.cost_words import verdict

        return verdict(self)

    def table(self) -> str:
        """Return the bill as aligned text, the verdict last."""
        from lift.training.cost_words import table

        return table(self)


def cost(
    config: RunConfig,
    *,
    dimensions: int,
    captions: CaptionLengths,
    encoder: EncoderSize,
    device: Device,
    dimensions_from: str = "given",
    pairs: int = 0,
    unit: str = "pairs",
    models: int = 1,
    context: int | None = None,
    tower_tokens: float | None = None,
    price_per_million_tokens: float | None = None,
) -> Cost:
    """Count what LIFT costs, embedding included, and what CLIP with the same image tower would.

    CLIP is that of `clip_beside`, and reads one caption an image and step. Losses, data and
    optimiser are counted in neither. All of it is arithmetic; `Device.hours` adds the assumption
    of a utilisation.

    Args:
        config: the recipe.
        dimensions: of the text space.
        dimensions_from: where that comes from, for the table.
        captions: how many distinct captions, and how long.
        encoder: see `encoder_size`.
        device: see `get_device`.
        pairs: of an epoch; 0 takes the recipe's figure, else one for each caption.
        unit: what is counted in `pairs`, for the table.
        models: how many models are trained on the same stored rows.
        context: to what CLIP would pad long captions; None takes their longest, 77 at least.
        tower_tokens: mean length in CLIP's vocabulary; None takes the encoder's.
        price_per_million_tokens: of a server, in any currency.

    Raises:
        ConfigError: a number that is out of range.
    """
    _require(models, pairs, price_per_million_tokens)
    pairs = pairs or config.pairs or captions.count
    context = context or max(CONTEXT, captions.longest)
    image = image_flops(config, dimensions)
    caption = encoder.flops(captions.mean)
    seen = config.steps * config.step_samples
    clip = clip_beside(dataclasses.replace(config, dimensions=dimensions))
    assert clip.text_tower is not None, "CLIP has one"
    shape = plugins.configure(clip.text_tower)
    feeds = {f"padded to {n} tokens": float(n) for n in (CONTEXT, context)}
    feeds["not padded"] = tower_tokens or captions.mean
    whole = None if caption is None else caption * captions.count
    common = (image, seen * models, pairs, whole)
    against = [_against(clip, name, tokens, *common) for name, tokens in feeds.items()]
    return Cost(
        recipe=config.recipe,
        captions=captions,
        encoder=encoder,
        device=device,
        dimensions=dimensions,
        pairs=pairs,
        samples=seen,
        models=models,
        image_flops=image,
        caption_flops=caption,
        text_tower=(shape.depth, shape.width),
        against=tuple(against),
        price=_price(captions, price_per_million_tokens),
        storage=_storage(captions, dimensions),
        dimensions_from=dimensions_from,
        unit=unit,
    )


def _require(models: int, pairs: int, price: float | None) -> None:
    """Raise ConfigError for a number that is out of range."""
    if models < 1 or pairs < 0 or (price or 0) < 0:
        raise ConfigError(
            f"models must be at least 1, pairs and price 0 or more, not models={models}, "
            f"pairs={pairs}, price_per_million_tokens={price}."
        )


def _price(captions: CaptionLengths, per_million: float | None) -> float | None:
    return None if per_million is None else per_million * captions.count * captions.mean / 1e6


def _storage(captions: CaptionLengths, dimensions: int) -> dict[str, int]:
    codecs = {codec: plugins.build(Part("cache/codecs", codec), dimensions) for codec in CODECS}
    return {
        codec: captions.count * (built.bytes_per_row + ROW_EXTRA) for codec, built in codecs.items()
    }


def _against(
    beside: RunConfig,
    name: str,
    tokens: float,
    image: float,
    samples: int,
    pairs: int,
    embedding: float | None,
) -> Against:
    """Compare `samples` images of LIFT's, each `image` FLOPs, with CLIP's on `tokens` each."""
    assert beside.text_tower is not None, "CLIP has one"
    clip_image = image_flops(beside, beside.dimensions)
    step = text_flops(beside, beside.text_tower, tokens)
    clip = samples * (clip_image + step)
    saved = clip_image + step - image
    known = embedding is not None
    return Against(
        name=name,
        tokens=tokens,
        step_flops=step,
        clip_flops=clip,
        image_flops=clip_image,
        ratio=(image * samples + embedding) / clip if known else None,
        break_even=embedding / (pairs * step) if known else None,
        cheaper_from=(embedding / (pairs * saved) if saved > 0 else math.inf) if known else None,
    )
