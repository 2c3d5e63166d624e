"""The text side of a run: rows of a cache that never change, or captions that a tower reads."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from safetensors.torch import load_file
from torch import nn

from lift.bundle import Bundle, BundleRecord
from lift.cache.conditioned import fit_on
from lift.cache.reader import EmbeddingCache
from lift.config import Part, to_dict
from lift.data.rows import Rows, of_roles
from lift.data.tokens import TokenRows, captions_of
from lift.encoders import CachedTexts, Shared
from lift.errors import ConfigError, SpaceMismatch
from lift.files import whole_file
from lift.model import SideConfig, TwoSided, save_tensors
from lift.ranks import Ranks
from lift.terms import Encoder, Source
from lift.text.conditioning import Condition
from lift.text.encoder import space_of
from lift.text.tokenizer import Tokenizer
from lift.text_side import fitted, saw, stored, text_space_of, tokenizer_of
from lift.training.config import RunConfig
from lift.training.folder import CONDITION
from lift.training.folding import folded


@runtime_checkable
class Texts(Protocol):
    """What a run knows of its texts.

    Attributes:
        rows: what the loader shows of a caption.
        width: of the space in which images and texts meet in training.
        side: the text side as options.
        facts: what `run.json` keeps, and a resumed run has to find again.
        condition: what stored rows go through in training.
        keeps_still: whether an encoder made of the live sides answers for them while they train.
    """

    rows: Rows
    width: int
    side: SideConfig
    facts: dict[str, Any]
    condition: Condition | None
    keeps_still: bool

    def bundle(self, sides: TwoSided, record: Callable[..., BundleRecord], **more: Any) -> Bundle:
        """Return the model as users hold it.

        Args:
            sides: image and text side, or their running mean.
            record: makes the record of what it lacks: `image`, `space`, and so on.
            more: further arguments of `Bundle`.
        """
        ...

    def judged(self, bundle: Bundle, ranks: Ranks) -> Encoder:
        """Return what evaluations see of a model; ranks share its work."""
        ...

    def require_same(self, found: dict[str, Any], place: str) -> None:
        """Raise SpaceMismatch unless the run in `place` was begun with these texts."""
        ...


def open_texts(config: RunConfig, source: Source, folder: Path, ranks: Ranks) -> Texts:
    """Return the texts of a run; what is made once for it is kept in its folder.

    Raises:
        LiftError: no cache, or one of another space.
    """
    if config.text_tower is not None:
        return _TrainedTexts(config, config.text_tower, source, folder, ranks)
    return _FixedTexts(config, source, folder, ranks)


@dataclass
class _Kept:
    rows: Rows
    width: int
    side: SideConfig
    facts: dict[str, Any]
    condition: Condition | None = None
    keeps_still: bool = False


class _FixedTexts(_Kept):
    """Rows of a frozen text encoder: LIFT."""

    def __init__(self, config: RunConfig, source: Source, folder: Path, ranks: Ranks) -> None:
        with ranks.together():
            self.cache = _open_cache(config)
        condition, width = None, self.cache.dimensions
        if config.condition.kind != "none":
            path = folder / CONDITION
            with ranks.together():
                if ranks.first and not path.exists():
                    with whole_file(path) as aside:
                        rows = rows_shown(self.cache, source, config.loader.taking_part)
                        made = fit_on(self.cache, config.condition, rows)
                        save_tensors(made.to_tensors(), aside)
            condition = Condition.from_tensors(load_file(path))
            width = condition.width
        self._head = config.head
        space = self.cache.space
        facts = {"space": {**to_dict(space), "fingerprint": space.fingerprint}}
        super().__init__(
            self.cache, width, config.text, facts, condition, keeps_still=condition is None
        )

    def bundle(self, sides: TwoSided, record: Callable[..., BundleRecord], **more: Any) -> Bundle:
        image, head = sides.image, self._head
        if self.condition is not None:
            image, head = folded(image, head, self.condition)
        # A temperature is one of the conditioned space: the slope of cosines between the two.
        gain = 1.0 if self.condition is None else self.condition.gain
        made = record(
            head=head,
            gain=gain,
            space=self.cache.space,
            encoder=self.cache.part,
            saw=self.cache.saw,
        )
        return Bundle(image, made, probes=self.cache.probes(), **more)

    def judged(self, bundle: Bundle, ranks: Ranks) -> Encoder:
        return CachedTexts(Shared(bundle, ranks), self.cache)

    def require_same(self, found: dict[str, Any], place: str) -> None:
        was = found.get("space", {}).get("fingerprint")
        now = self.cache.space.fingerprint
        if was != now:
            raise SpaceMismatch(
                f"The run in {place} is in the text space {was}, the cache is in {now}: give "
                "the cache that the run was started with."
            )


class _TrainedTexts(_Kept):
    """Captions as tokens, for a text tower that may learn."""

    def __init__(
        self, config: RunConfig, tower: Part, source: Source, folder: Path, ranks: Ranks
    ) -> None:
        roles = config.loader.taking_part
        made: Tokenizer | None = None
        with ranks.together():
            if ranks.first:
                folder.mkdir(parents=True, exist_ok=True)
                made = tokenizer_of(tower, captions_of(source, roles), folder)
        with ranks.together():
            made = made or tokenizer_of(tower, captions_of(source, roles), folder)
        assert made is not None
        self._tokenizer, self._tower = made, tower
        with ranks.together():
            part = fitted(tower, made)
            rows = TokenRows(
                source,
                made,
                context=part.options["context"],
                config=config.loader,
                pad_to=part.options["pad_to"],
            )
        side = SideConfig(tower=part, head=config.text_head)
        facts = {"tokenizer": made.fingerprint}
        super().__init__(rows, config.dimensions, side, facts)

    def bundle(self, sides: TwoSided, record: Callable[..., BundleRecord], **more: Any) -> Bundle:
        made = record(
            text=stored(sides.text, self.side),
            space=text_space_of(sides.text, self._tokenizer, self.side),
            encoder=None,
            saw=saw(self._tower),
        )
        return Bundle(sides.image, made, text_side=sides.text, tokenizer=self._tokenizer, **more)

    def judged(self, bundle: Bundle, ranks: Ranks) -> Encoder:
        return Shared(bundle, ranks)

    def require_same(self, found: dict[str, Any], place: str) -> None:
        was, now = found.get("tokenizer"), self._tokenizer.fingerprint
        if was != now:
            raise SpaceMismatch(
                f"The run in {place} was begun with the tokenizer {was}, now it is {now}: give "
                "the data and options that the run was started with."
            )


def copy_of(model: TwoSided, still: Sequence[nn.Module] = ()) -> TwoSided:
    """Return a copy of sides and objective at rest, which shares the parts that never move."""
    memo = {id(part): part for part in still}
    return copy.deepcopy(model, memo).eval()


def mean_of(model: TwoSided, still: Sequence[nn.Module] = ()) -> TwoSided:
    """Return a copy of the sides, to hold the running mean of their weights."""
    return copy_of(TwoSided(model.image, model.text, nn.Identity()), still)


def rows_shown(cache: EmbeddingCache, source: Source, roles: Sequence[str]) -> np.ndarray:
    """Return the rows of the captions that are trained on: those of the validation stay out."""
    shown = np.zeros(len(cache), dtype=bool)
    held: list[str] = []
    for _, captions in source.texts():
        held += [caption.text for caption in of_roles(captions, roles)]
        if len(held) >= 4096:
            shown[_found(cache, held)] = True
            held.clear()
    shown[_found(cache, held)] = True
    return np.flatnonzero(shown)


def _found(cache: EmbeddingCache, texts: Sequence[str]) -> np.ndarray:
    rows = cache.find(texts)
    return rows[rows >= 0]


def _open_cache(config: RunConfig) -> EmbeddingCache:
    """Open the cache and compare its space with the recipe's, before anything is loaded."""
    if not config.cache:
        raise ConfigError("No cache: make one with `lift embed`, then give it with --cache.")
    cache = EmbeddingCache.open(config.cache)
    if config.dimensions not in (0, cache.dimensions):
        raise ConfigError(
            f"Recipe {config.recipe} needs rows of {config.dimensions} numbers, the cache "
            f"{config.cache} has {cache.dimensions}: embed with the recipe's text encoder, or say "
            f"--set dimensions={cache.dimensions}."
        )
    if config.encoder is not None:
        cache.space.require_same(
            space_of(config.encoder),
            ours=f"the cache {config.cache}",
            theirs=f"recipe {config.recipe}",
        )
    return cache
