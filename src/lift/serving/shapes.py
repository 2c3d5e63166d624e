"""What requests look like: checked before anything is done with them, told in openapi.json."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.json_schema import models_json_schema

from lift.search.terms import MOST_TERMS

LONGEST_KEY, LONGEST_IMAGE, WIDEST = 4_096, 64 << 20, 65_536
MOST_WORDS, LONGEST_WORD = 4_096, 1_024
LONGEST_TEXT = 1 << 20
"""Larger than any bound of a config, which says it more closely."""

Key = Annotated[str, Field(min_length=1, max_length=LONGEST_KEY)]
Text = Annotated[str, Field(max_length=LONGEST_TEXT)]
Image = Annotated[str, Field(max_length=LONGEST_IMAGE, examples=["data:image/png;base64,iVBO..."])]
Number = Annotated[float, Field(allow_inf_nan=False)]
Kinds = Annotated[list[Literal["image", "text"]], Field(min_length=1, max_length=2)]
Where = str | dict[str, Any] | None
Top = Annotated[int, Field(ge=1, le=100_000)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Part(_Strict):
    """A part of a query: one of text, image (a data URL), item (a key), vector."""

    text: Text | None = None
    image: Image | None = None
    item: Key | None = None
    vector: Annotated[list[Number], Field(min_length=1, max_length=WIDEST)] | None = None
    weight: Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)] = 1.0

    @model_validator(mode="after")
    def _one(self) -> Part:
        given = [v for v in (self.text, self.image, self.item, self.vector) if v is not None]
        if len(given) != 1:
            raise ValueError("a part of a query has one of text, image, item and vector")
        return self


class Search(_Strict):
    """What is looked for."""

    query: Text | Annotated[list[Part], Field(min_length=1, max_length=MOST_TERMS)]
    combine: Literal["sum", "edit"] = "sum"
    top: Top = 20
    where: Where = None
    kinds: Kinds = ["image", "text"]
    merge: Literal["auto", "calibrated", "reciprocal", "cosine"] = "auto"


class Similar(_Strict):
    """What is like an item."""

    key: Key
    top: Top = 20
    where: Where = None
    kinds: Kinds = ["image", "text"]


class OfImage(_Strict):
    """An item's first image by its key, or another one as a data URL."""

    key: Key | None = None
    image: Image | None = None

    @model_validator(mode="after")
    def _one(self) -> OfImage:
        if (self.key is None) == (self.image is None):
            raise ValueError("give either the key of an item or an image")
        return self


class Heatmap(OfImage):
    """Where in an image a text is."""

    text: Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT)]


class Words(OfImage):
    """Which words of a vocabulary an image is near."""

    vocabulary: (
        Annotated[
            list[Annotated[str, Field(min_length=1, max_length=LONGEST_WORD)]],
            Field(min_length=1, max_length=MOST_WORDS),
        ]
        | None
    ) = None
    top: Annotated[int, Field(ge=1, le=200)] = 10


class Captions(OfImage):
    """Captions of an index that fit an image."""

    top: Annotated[int, Field(ge=1, le=200)] = 10


class ImageUrl(BaseModel):
    """As chat messages of OpenAI's have it."""

    url: Image


class ImageInput(BaseModel):
    """An image to be embedded, in one of two forms."""

    type: Literal["image_url", "image", "text"] | None = None
    image: Image | None = None
    image_url: ImageUrl | Image | None = None
    text: Text | None = None

    @model_validator(mode="after")
    def _one(self) -> ImageInput:
        if sum(v is not None for v in (self.image, self.image_url, self.text)) != 1:
            raise ValueError("an input that is an object has one of image, image_url and text")
        return self


class Embeddings(BaseModel):
    """OpenAI's request for embeddings, with images besides; other fields of theirs are ignored."""

    input: Text | ImageInput | list[Text | ImageInput | int | list[int]]
    model: Annotated[str, Field(max_length=1_024)] = ""
    encoding_format: Literal["float", "base64"] | None = "float"
    dimensions: Annotated[int, Field(ge=1, le=WIDEST)] | None = None


class Error(BaseModel):
    """What is wrong, in a sentence."""

    message: str
    type: str
    param: None
    code: None


class Refusal(BaseModel):
    """An answer whose status is 400 or more."""

    error: Error


BODIES: tuple[type[BaseModel], ...] = (
    Search,
    Similar,
    Heatmap,
    Words,
    Captions,
    Embeddings,
    Refusal,
)
_REF = "#/components/schemas/{model}"

REFUSAL = {
    "description": "Refused, in a sentence.",
    "content": {"application/json": {"schema": {"$ref": _REF.format(model=Refusal.__name__)}}},
}
"""What openapi.json says of answers other than 200."""


def described(shape: type[BaseModel]) -> dict[str, Any]:
    """Return what openapi.json says of a route that takes this body."""
    reference = {"$ref": _REF.format(model=shape.__name__)}
    content = {"application/json": {"schema": reference}}
    return {"requestBody": {"required": True, "content": content}}


def schemas() -> dict[str, Any]:
    """Return the schemas of all bodies, by name."""
    _, found = models_json_schema([(b, "validation") for b in BODIES], ref_template=_REF)
    return found["$defs"]
