"""Shards of MobileCLIP's reinforced data (DataCompDR), joined with their images."""

from __future__ import annotations

from dataclasses import dataclass

from lift.data.formats._captions import Column, captions_of, lines, usable
from lift.data.formats._members import Recipe
from lift.data.formats._paths import expand_anywhere, key_prefixes
from lift.data.formats._shards import Parts, TarBounds, TarLayout
from lift.terms import Caption

_WRITTEN = Column("syn_text", "rewrite")


@dataclass(frozen=True, kw_only=True)
class Config(TarBounds):
    """Options of reinforced shards.

    Attributes:
        synthetic: also the captions that a model wrote (`syn_text` of `.syn.json`), as rewrites;
            what a sample lacks is counted.
        key_field: the field of `.json` that is a sample's key ("uid"), unique over all shards;
            None takes the name of its files.
    """

    synthetic: bool = True
    key_field: str | None = None


def build(config: Config) -> Reinforced:
    """Open every shard and return the source.

    Raises:
        DataError: a shard is missing, cut off, not a tar, or without samples.
        BrokenSample: `strict`, and something is left out.
    """
    return Reinforced(config)


class Reinforced(TarLayout):
    """Samples with the caption in `.txt` and the synthetic ones in `.syn.json`.

    Three more files of each sample are never read: `.npz` or `.pth.gz` (the teachers' vectors lie
    in another space than the texts here, and the latter is a pickle, which can run code) and
    `.paug.json` (the views that those vectors were made of). Nor is `.url.txt`.
    """

    hint = (
        "The shards that are published hold no images and no captions: join them with "
        "DataComp's of the same uid."
    )

    def __init__(self, config: Config) -> None:
        self._synthetic = config.synthetic
        extra = "syn.json" if config.synthetic else ""
        endings = ("txt", extra) if extra else ("txt",)
        recipe = Recipe(endings, extra, config.key_field or "")
        files = expand_anywhere(config.path)
        super().__init__(config, recipe, files, None if config.key_field else key_prefixes(files))

    def _captions(self, parts: Parts) -> tuple[Caption, ...]:
        key, most = parts.key, self.bounds.max_caption_chars
        makers = [lambda: lines(parts.text(), "raw", key, most)]
        if self._synthetic:
            makers.append(lambda: captions_of(parts.extra(), [_WRITTEN], key, most))
        return usable(makers)
