"""Procedural scenes: coloured shapes with captions and hard negatives, made from a number."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from lift.data.dice import generator
from lift.data.formats._scene_facts import SHAPES, Dice, Scene, draw_scene
from lift.data.formats._scene_pixels import mask, paint
from lift.data.formats._scene_words import describe, foils, names
from lift.errors import ConfigError
from lift.terms import Caption, Region, Sample

_TOLD, _SHOWN = 101, 102
"""Purposes of the dice: facts and captions; pixels and foils."""

_GROUP = 1000


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of procedural scenes.

    Attributes:
        count: how many scenes.
        seed: another seed, other scenes.
        start: number of the first: two sources of one seed whose ranges
            [start, start + count) are apart share no scene's dice.
        resolution: side of the images in pixels.
        short, long: at most how many captions of these two roles a scene has.
        masks: whether samples have masks, whose classes are the background and the shapes.
    """

    count: int = 2000
    seed: int = 0
    start: int = 0
    resolution: int = 64
    short: int = 3
    long: int = 2
    masks: bool = False

    def __post_init__(self) -> None:
        if self.count < 0 or self.start < 0:
            raise ConfigError("count and start of scenes must not be negative.")
        if not 32 <= self.resolution <= 1024:
            raise ConfigError(f"scenes are drawn at 32 to 1024 pixels, not {self.resolution}.")
        if not (0 <= self.short <= 8 and 0 <= self.long <= 8 and self.short + self.long):
            raise ConfigError("short and long must be from 0 to 8, and not both 0.")


def build(config: Config) -> Scenes:
    """Return the source; nothing is drawn yet."""
    return Scenes(config)


class Scenes:
    """Scenes by number: `start`, `start + 1`, ... Each is drawn when it is read.

    A sample's field "scene" holds the facts as JSON, from which captions and foils were made; its
    regions are the things, each with a name that fits nothing else in the scene.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self.name = f"scenes (seed {config.seed}, {config.start} + {config.count})"
        full, rest = divmod(config.count, _GROUP)
        self.groups = (_GROUP,) * full + ((rest,) if rest else ())

    def __len__(self) -> int:
        return self._config.count

    def read(self, index: int) -> Sample:
        """Return scene `index` of this source, painted."""
        scene, captions = self._told(index)
        number = self._config.start + index
        rng = generator(self._config.seed, _SHOWN, item=number)
        dice = Dice(rng)
        resolution = self._config.resolution
        image, stamps = paint(scene, dice, rng, resolution)
        fields, shapes = {"scene": scene.as_json()}, b""
        if self._config.masks:
            fields["mask_classes"] = json.dumps(["background", *SHAPES])
            shapes = mask(scene, stamps, resolution)
        return Sample(
            key=self._key(number),
            image=image,
            captions=captions,
            fields=fields,
            foils=foils(scene, dice),
            regions=tuple(
                Region(name, own.box(resolution))
                for name, own in zip(names(scene), stamps, strict=True)
            ),
            mask=shapes,
        )

    def texts(self) -> Iterator[tuple[str, tuple[Caption, ...]]]:
        """Yield (key, captions) of every sample in order, without painting."""
        for index in range(len(self)):
            yield self._key(self._config.start + index), self._told(index)[1]

    def _told(self, index: int) -> tuple[Scene, tuple[Caption, ...]]:
        if not 0 <= index < len(self):
            raise IndexError(f"no scene {index} among {len(self)}")
        number = self._config.start + index
        dice = Dice(generator(self._config.seed, _TOLD, item=number))
        scene = draw_scene(dice)
        return scene, describe(scene, dice, self._config.short, self._config.long)

    def _key(self, number: int) -> str:
        return f"scene-{self._config.seed}-{number:07d}"
