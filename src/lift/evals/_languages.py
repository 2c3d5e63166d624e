"""The captions of a source by the language that they say."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64

from lift.evals._pairs import Pairs
from lift.terms import Source
from lift.text.encoder import clean


class Spoken:
    """The captions of a source that say their language.

    Attributes:
        keys: of all samples.
        texts, owner: of each caption, and the number of its sample.
        tags: for each language, which captions are in it.
        mute: how many captions say none.
    """

    def __init__(self, source: Source) -> None:
        self.keys: list[str] = []
        self.texts: list[str] = []
        self.mute = 0
        owner: list[int] = []
        tags: dict[str, list[int]] = {}
        for number, (key, captions) in enumerate(source.texts()):
            self.keys.append(key)
            for caption in captions:
                if not caption.language:
                    self.mute += 1
                    continue
                tags.setdefault(caption.language, []).append(len(self.texts))
                self.texts.append(caption.text)
                owner.append(number)
        self.owner = np.array(owner, dtype=np.int64)
        self.tags = {tag: np.array(tags[tag], dtype=np.int64) for tag in sorted(tags)}

    def photos_of(self, photo: Int64[np.ndarray, " n"]) -> dict[str, int]:
        """Return how many images each language describes; `photo` numbers those of all samples."""
        found = {tag: photo[self.owner[own]] for tag, own in self.tags.items()}
        return {tag: len(np.unique(own[own >= 0])) for tag, own in found.items()}

    def pairs(self, tag: str, photo: Int64[np.ndarray, " n"], shown: list[int]) -> Pairs:
        """Return the captions of a language and whose they are.

        Args:
            tag: of the language.
            photo: the number of each sample's image, -1 where it can't be read.
            shown: the number of the sample that shows each image first.
        """
        own = self.tags[tag]
        own = own[photo[self.owner[own]] >= 0]
        texts = [self.texts[int(caption)] for caption in own]
        place: dict[str, int] = {}
        same = [place.setdefault(clean(text), len(place)) for text in texts]
        keys = [self.keys[number] for number in shown]
        return Pairs(shown, keys, texts, photo[self.owner[own]], np.array(same, dtype=np.int64))
