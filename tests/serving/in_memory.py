"""A small index in memory: everything a server and a page ask of one, with a model as made."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from lift.bundle import Bundle
from lift.errors import ConfigError
from lift.search.filters import Condition, Filter
from lift.search.terms import KINDS, FactRange, Hit, Item, Kind, Merge, Query, Searchable, Stored
from lift.terms import ImageLike
from lift.text.space import TextSpace
from made_model import made

COLOURS = {"red": (210, 40, 40), "green": (40, 160, 60), "blue": (40, 70, 200)}
SHAPES = ("circle", "square", "bar")


def drawn(colour: str, shape: str, size: int = 96) -> bytes:
    """Return the PNG of a coloured shape on white."""
    image = Image.new("RGB", (size, size), "white")
    draw, box = ImageDraw.Draw(image), (size // 5, size // 5, size * 4 // 5, size * 4 // 5)
    if shape == "circle":
        draw.ellipse(box, fill=COLOURS[colour])
    elif shape == "square":
        draw.rectangle(box, fill=COLOURS[colour])
    else:
        draw.rectangle((0, size * 2 // 5, size, size * 3 // 5), fill=COLOURS[colour])
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def items(count: int = 30) -> list[Item]:
    """Return items of coloured shapes: every third has two images, every fourth is text alone."""
    names = [(colour, shape) for shape in SHAPES for colour in COLOURS]
    found = []
    for number in range(count):
        colour, shape = names[number % len(names)]
        pictures = (drawn(colour, shape), drawn(colour, SHAPES[number % 3]))
        images = () if number % 4 == 3 else pictures[: 2 if number % 3 == 0 else 1]
        found.append(
            Item(
                key=f"item-{number}",
                texts={
                    "title": (f"a {colour} {shape}",),
                    "body": (f"This is thing {number}: a {shape}, {colour} all over.",),
                },
                images=images,
                facts={"colour": colour, "price": 10.0 + number, "in_stock": number % 2 == 0},
            )
        )
    return found


class InMemory(Searchable):
    """A `Searchable` that keeps everything in memory."""

    def __init__(
        self, items: Sequence[Item], encoder: Bundle | None = None, name: str = "shapes"
    ) -> None:
        self.name, self._encoder = name, encoder or made()
        self._items = {item.key: item for item in items}
        self._rows: list[tuple[str, Kind, str, int, str]] = []
        texts: list[str] = []
        pictures: list[ImageLike] = []
        for item in items:
            for field, several in item.texts.items():
                for number, text in enumerate(several):
                    self._rows.append((item.key, "text", field, number, text))
                    texts.append(text)
        for item in items:
            for number, image in enumerate(item.images):
                self._rows.append((item.key, "image", "image", number, ""))
                pictures.append(image)
        self._z = np.concatenate(
            [self.encoder.encode_texts(texts), self.encoder.encode_images(pictures)]
        )

    @property
    def encoder(self) -> Bundle:
        return self._encoder

    @property
    def space(self) -> TextSpace:
        return self.encoder.space

    def __len__(self) -> int:
        return len(self._items)

    def vectors(self, queries: Sequence[Query]) -> tuple[np.ndarray, list[Kind | None]]:
        rows, of = [], []
        for query in queries:
            sum_ = np.zeros(self.space.dimensions, np.float32)
            kinds: set[Kind] = set()
            for term in query.terms:
                z, kind = self._term(term.kind, term.value)
                sum_ += np.float32(term.weight) * z
                kinds.add(kind)
            rows.append(sum_ / max(float(np.linalg.norm(sum_)), 1e-12))
            of.append(kinds.pop() if len(kinds) == 1 else None)
        return np.stack(rows).astype(np.float32), of

    def _term(self, kind: str, value: Any) -> tuple[np.ndarray, Kind]:
        if kind == "text":
            return self.encoder.encode_texts([value])[0], "text"
        if kind == "image":
            return self.encoder.encode_images([value])[0], "image"
        if kind == "vector":
            return value, "text"
        rows = self.rows(value)
        if not rows:
            raise ConfigError(f"There is no item {value!r}.")
        first = next((row for row in rows if row[0] == "image"), rows[0])
        return first[3], first[0]

    def near(
        self,
        z: np.ndarray,
        *,
        of: Sequence[Kind | None],
        top: int = 20,
        where: Filter | None = None,
        kinds: Sequence[Kind] = KINDS,
        merge: Merge = "auto",
    ) -> list[list[Hit]]:
        found = []
        for cosines in z @ self._z.T:
            best: dict[str, Hit] = {}
            for place in np.argsort(-cosines, kind="stable"):
                key, kind, field, number, text = self._rows[place]
                if key in best or kind not in kinds or not self._meets(key, where):
                    continue
                cosine = float(cosines[place])
                best[key] = Hit(key, cosine, cosine, kind, field, number, text)
                if len(best) == top:
                    break
            found.append(list(best.values()))
        return found

    def item(self, key: str) -> Stored | None:
        item = self._items.get(key)
        if item is None:
            return None
        return Stored(key=key, texts=item.texts, facts=item.facts, images=len(item.images))

    def rows(self, key: str) -> list[tuple[Kind, str, int, np.ndarray]]:
        return [
            (row[1], row[2], row[3], z)
            for row, z in zip(self._rows, self._z, strict=True)
            if row[0] == key
        ]

    def browse(self, start: int, count: int, where: Filter | None = None) -> list[Stored]:
        keys = [key for key in self._items if self._meets(key, where)]
        return [found for key in keys[start : start + count] if (found := self.item(key))]

    def counted(self, where: Filter) -> int:
        return sum(self._meets(key, where) for key in self._items)

    def picture(self, key: str, number: int = 0) -> bytes | None:
        item = self._items.get(key)
        if item is None or not 0 <= number < len(item.images):
            return None
        content = item.images[number]
        content = content if isinstance(content, bytes) else Path(content).read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            stream = io.BytesIO()
            image.convert("RGB").save(stream, "JPEG")
        return stream.getvalue()

    def facts(self) -> dict[str, FactRange]:
        found: dict[str, FactRange] = {}
        for name in {name for item in self._items.values() for name in item.facts}:
            values = [item.facts[name] for item in self._items.values() if name in item.facts]
            numbers = [v for v in values if isinstance(v, int | float) and v not in (True, False)]
            if numbers:
                found[name] = FactRange((), min(numbers), max(numbers), len(values))
            else:
                found[name] = FactRange(tuple(Counter(values).most_common(20)), items=len(values))
        return dict(sorted(found.items()))

    def _meets(self, key: str, where: Filter | None) -> bool:
        facts = self._items[key].facts
        return all(_met(c, facts.get(c.fact)) for c in (where.conditions if where else ()))


def _met(condition: Condition, value: Any) -> bool:
    if value is None:
        return condition.operator == "!="
    same = any(
        v == value and isinstance(v, str) == isinstance(value, str) for v in condition.values
    )
    if condition.operator in ("=", "!="):
        return same == (condition.operator == "=")
    if condition.operator == "~":
        return any(str(v).lower() in str(value).lower() for v in condition.values)
    limit = condition.values[0]
    if isinstance(value, str | bool) or isinstance(limit, str):
        raise ConfigError(f"{condition.fact} is no number.")
    return {
        "<": value < limit,
        "<=": value <= limit,
        ">": value > limit,
        ">=": value >= limit,
    }[condition.operator]


def shapes(count: int = 30, **model: Any) -> InMemory:
    """Return an index of coloured shapes."""
    return InMemory(items(count), made(**model) if model else None)
