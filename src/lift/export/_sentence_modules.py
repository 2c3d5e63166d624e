"""The image side as modules of sentence-transformers: its classes, or a file that goes along."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import torch

from lift.bundle import Bundle
from lift.config import to_dict
from lift.convert.layouts import arguments
from lift.convert.weights import to_layout
from lift.errors import ConfigError
from lift.export import _image_module
from lift.export._pixels import write_processor
from lift.export._trunk import trunk_of
from lift.heads import Head, HeadConfig, MLPHead
from lift.towers._pretrained_pooling import as_tokens
from lift.towers.huggingface import PretrainedTower
from lift.towers.vit import ViT

MODULE = "lift_image"
"""Name of the module file; the classes in it are `LiftImage` and `LiftHead`."""

# --- images by the library's classes ------------------------------------------------------------


def layout_of(tower: ViT) -> str | None:
    """Return the class of transformers that computes a trunk's vector, None without one."""
    shape = tower.config
    if not shape.class_token and not shape.pre_norm and shape.patch_bias:
        return "transformers_siglip"
    clip = shape.class_token and shape.pre_norm and not shape.patch_bias
    return "transformers_clip" if clip and shape.pooling == "token" else None


def library_modules(bundle: Bundle, aside: Path) -> list[Any]:
    """Return a `Transformer`, pooling, and a head as modules that compute the image side.

    Args:
        bundle: the model; its tower is a ViT with a layout, or a network of transformers.
        aside: an empty folder for the network, until it is saved with the rest.

    Raises:
        ConfigError: somebody's network whose vector the library doesn't compute.
    """
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    tower, head = bundle.side.tower, bundle.side.head
    output, pooling = "pooler_output", None
    if isinstance(tower, ViT):
        network = _network(trunk_of(bundle))
        if tower.config.pooling == "mean":
            output, pooling = "last_hidden_state", "mean"
    else:
        assert isinstance(tower, PretrainedTower)
        network, output, pooling = _somebodys(tower, bundle.transform.resolution)
    network.save_pretrained(aside)
    write_processor(bundle.transform, aside)
    modality: Any = {"image": {"method": "forward", "method_output_name": output}}
    modules: list[Any] = [
        Transformer(
            str(aside),
            modality_config=modality,
            module_output_name="sentence_embedding" if pooling is None else "token_embeddings",
        )
    ]
    if pooling is not None:
        modules.append(Pooling(int(tower.width), pooling))  # type: ignore[arg-type]
    if isinstance(head, Head) and not is_dense(head):
        return [*modules, _own_head(head)]
    return [*modules, *(_dense(head) if isinstance(head, Head) else []), Normalize()]


def _network(tower: ViT) -> Any:
    """Return the network of transformers with a trunk's weights."""
    import transformers

    layout = layout_of(tower)
    assert layout is not None
    name = "SiglipVision" if layout == "transformers_siglip" else "CLIPVision"
    shape = getattr(transformers, f"{name}Config")(**arguments(tower.config, layout))
    network = getattr(transformers, f"{name}Model")(shape).eval()
    weights = to_layout(tower.config, {k: v.cpu() for k, v in tower.state_dict().items()}, layout)
    if next(iter(network.state_dict())).startswith("vision_model."):  # of older releases
        weights = {f"vision_model.{key}": value for key, value in weights.items()}
    network.load_state_dict(weights)
    return network


@torch.inference_mode()
def _somebodys(tower: PretrainedTower, side: int) -> tuple[Any, str, str | None]:
    """Return a tower's network as it was published, which of its outputs is read, and its pooling.

    Which of them is the tower's vector is tried, on noise of `side` x `side` pixels.
    """
    own = copy.deepcopy(tower).cpu().eval()
    drawn = torch.Generator().manual_seed(0)
    pixels = torch.randn(2, 3, side, side, generator=drawn)
    h, network = own(pixels), _published(own)
    try:
        made = network(pixel_values=pixels)
        last, pooler = as_tokens(made.last_hidden_state), getattr(made, "pooler_output", None)
        found = {
            # The library makes tokens of a map: one of 1 x 1 here.
            ("pooler_output", "mean" if pooler is not None and pooler.ndim == 4 else None): pooler,
            ("last_hidden_state", "cls"): last[:, 0],
            ("last_hidden_state", "mean"): last.mean(1),
        }
    except (AttributeError, TypeError, ValueError, RuntimeError):
        found = {}
    for (output, pooling), vectors in found.items():
        if isinstance(vectors, torch.Tensor) and vectors.numel() == h.numel():
            if torch.allclose(vectors.flatten(1), h, atol=1e-4, rtol=1e-4):
                return network, output, pooling
    raise ConfigError(
        f"export/sentence_transformers: a {type(network).__name__} with "
        f"pooling={tower.config.pooling} at {side} pixels gives no vector that the "
        "library computes; --to onnx exports it."
    )


def _published(tower: PretrainedTower) -> Any:
    """Return a tower's network with what the tower took out: its norm, and a pooling of zeros."""
    network = tower.network
    with torch.random.fork_rng(devices=[]):
        whole = type(network)(network.config).eval()
    for parameter in whole.parameters():
        parameter.zero_()
    whole.load_state_dict(network.state_dict(), strict=False)
    if tower.norm is not None:
        setattr(whole, tower._norm_name, tower.norm)
    return whole


def is_dense(head: Head) -> bool:
    """Return whether a head is matrices with GELU between them, or is by now."""
    inner = head.before is None or is_dense(head.before)
    return inner and (isinstance(head, MLPHead) or head.is_matrix)


def _dense(head: Head) -> list[Any]:
    """Return a head as modules; standardising is folded into the first matrix."""
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize

    modules = [] if head.before is None else _dense(head.before)
    if head.config.unit:
        modules.append(Normalize())
    is_mlp = isinstance(head, MLPHead)
    linears: list[Any] = (
        [m for m in head.layers if isinstance(m, torch.nn.Linear)] if is_mlp else []
    )
    linears = linears or [head.entry]
    for number, linear in enumerate(linears):
        weight, bias = linear.weight.detach().cpu(), linear.bias
        bias = None if bias is None else bias.detach().cpu()
        if number == 0 and head.config.standardise:
            weight, bias = _folded(weight, bias, head.mean.cpu(), head.spread.cpu())
        modules.append(
            Dense(
                linear.in_features,
                linear.out_features,
                bias=bias is not None,
                activation_function=torch.nn.GELU() if number + 1 < len(linears) else None,
                init_weight=weight.clone(),
                init_bias=None if bias is None else bias.clone(),
            )
        )
    return modules


def _folded(weight: Any, bias: Any, mean: Any, spread: Any) -> tuple[Any, Any]:
    """Return the matrix and bias that take rows as they were before standardising."""
    folded = weight.double() / spread.double()
    return folded.float(), (bias.double() - folded @ mean.double()).float()


# --- images by a module of our own --------------------------------------------------------------


def _own_head(head: Head) -> Any:
    config = spelled(head.config, head.width, head.shared)
    module = _image_module.LiftHead({**config, "width": head.width, "dimensions": head.shared})
    module.load_state_dict({f"head.{name}": v.cpu() for name, v in head.state_dict().items()})
    return module.eval()


def own_module(bundle: Bundle) -> Any:
    """Return the whole image side as a module of the file that goes along."""
    tower, head = trunk_of(bundle), bundle.side.head
    transform = {name: v for name, v in to_dict(bundle.transform).items() if name != "augment"}
    config = {
        "tower": to_dict(tower.config),
        "head": spelled(head.config, head.width, head.shared) if isinstance(head, Head) else None,
        "transform": transform,
        "dimensions": bundle.dimensions,
    }
    weights = {f"tower.{name}": v.cpu() for name, v in tower.state_dict().items()}
    if isinstance(head, Head):
        weights |= {f"head.{name}": v.cpu() for name, v in head.state_dict().items()}
    module = _image_module.LiftImage(config)
    module.load_state_dict(weights)
    return module.eval()


def spelled(head: HeadConfig, width: int, shared: int) -> dict[str, Any]:
    """Return a head's options with the width of its hidden layers."""
    hidden = head.hidden_width(width, shared)
    found = to_dict(dataclasses.replace(head, hidden=hidden))
    if head.before is not None and head.between is not None:
        found["before"] = spelled(head.before, width, head.between)
    return found


def bring_module(folder: Path) -> None:
    """Copy the module file, and name it where the library looks for the class."""
    shutil.copyfile(_image_module.__file__, folder / f"{MODULE}.py")
    for path in (folder / "modules.json", folder / "router_config.json"):
        if path.is_file():
            text = path.read_text(encoding="utf-8").replace(
                f"{_image_module.__name__}.", f"{MODULE}."
            )
            path.write_text(json.dumps(json.loads(text), indent=2) + "\n", encoding="utf-8")
