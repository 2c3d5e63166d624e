"""Shapes as transformers names them: the image half, fewer layers, the size of its images."""

from __future__ import annotations

import copy
from typing import Any

from lift.errors import ConfigError


def image_shape(shape: Any, wanted_by: str) -> Any:
    """Return the shape of the network that sees pixels. Raises ConfigError."""
    inner = getattr(shape, "vision_config", None)
    found = shape if inner is None else inner
    if found.model_type == "vit_mae":
        # Its encoder hides patches at random; the same weights make a plain ViT that does not.
        import transformers

        known = set(transformers.ViTConfig().to_dict())
        values = {name: value for name, value in found.to_dict().items() if name in known}
        return transformers.ViTConfig(**{**values, "model_type": "vit"})
    if not any(hasattr(found, name) for name in ("num_channels", "image_size", "patch_size")):
        raise ConfigError(
            f"{wanted_by}: a model of the type {found.model_type!r} sees no images; towers are "
            "image models (vit, dinov2, clip, siglip, convnext, ...)."
        )
    return found


def wanted_shape(shape: Any, pooling: str, layer: int, wanted_by: str) -> Any:
    """Return the shape of what is loaded: of both towers only where their space is wanted.

    Args:
        shape: as the model's files have it.
        pooling, layer: as in the tower's `Config`.
        wanted_by: the part's name, for messages.

    Raises:
        ConfigError: one tower where two are wanted, or no such block.
    """
    if pooling != "projected":
        return of_layer(image_shape(shape, wanted_by), layer, wanted_by)
    if not hasattr(shape, "vision_config"):
        raise ConfigError(
            f"{wanted_by}: pooling=projected is for models of two towers (CLIP, SigLIP), and this "
            f"one is a {shape.model_type}; use pooling=own, mean or token."
        )
    return of_layer(shape, layer, wanted_by)


def of_layer(shape: Any, layer: int, wanted_by: str) -> Any:
    """Return the shape of the network that ends after a block.

    Args:
        shape: of a network, or of two towers.
        layer: 1 is the first block, -1 the last.
        wanted_by: the part's name, for messages.

    Raises:
        ConfigError: no such block, or a network of stages, which differ in width.
    """
    if layer == -1:
        return shape
    shape = copy.deepcopy(shape)
    inner = image_shape(shape, wanted_by)
    depth = getattr(inner, "num_hidden_layers", None)
    if not isinstance(depth, int) or hasattr(inner, "depths"):
        raise ConfigError(
            f"{wanted_by}: layer={layer}, but a {inner.model_type} has stages instead of blocks of "
            "one width; leave layer out."
        )
    counted = layer if layer > 0 else depth + 1 + layer
    if not 1 <= counted <= depth or not layer:
        raise ConfigError(
            f"{wanted_by}: layer={layer}, but the network has {depth} blocks; give 1 to {depth}, "
            f"or -1 (the last) to -{depth}."
        )
    inner.num_hidden_layers = counted
    return shape if hasattr(shape, "vision_config") else inner


def halved(shape: Any) -> Any:
    """Return a shape of two towers with hardly any text tower: a saved model has none of it."""
    text = getattr(shape, "text_config", None)
    if text is None:
        return shape
    shape = copy.deepcopy(shape)
    text = shape.text_config
    pad = getattr(text, "pad_token_id", None)
    few = 8 if pad is None or pad < 8 else pad + 1
    for name, value in (("num_hidden_layers", 1), ("vocab_size", few)):
        if isinstance(getattr(text, name, None), int):
            setattr(text, name, value)
    return shape


def side_of(shape: Any) -> int | None:
    """Return the pixels of a side that a network has positions for, None where nothing is said."""
    size = getattr(shape, "image_size", None)
    if isinstance(size, list | tuple):
        size = size[0] if len(size) and len(set(size)) == 1 else None
    return size if isinstance(size, int) and not isinstance(size, bool) and size > 0 else None


def network_of(shape: Any, wanted_by: str) -> Any:
    """Return the class of transformers that has a shape. Raises ConfigError."""
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    try:
        found: Any = MODEL_MAPPING[type(shape)]
    except KeyError:
        raise ConfigError(
            f"{wanted_by}: transformers knows no plain network of the type {shape.model_type!r}; "
            "towers are image models (vit, dinov2, clip, siglip, convnext, ...)."
        ) from None
    return found[0] if isinstance(found, tuple | list) else found


def projection(network: Any, wanted_by: str) -> Any:
    """Return what a network calls to put images where its texts are. Raises ConfigError."""
    found = getattr(network, "get_image_features", None)
    if found is None:
        raise ConfigError(
            f"{wanted_by}: {type(network).__name__} has no space that it shares with texts; use "
            "pooling=own, mean or token."
        )
    return found
