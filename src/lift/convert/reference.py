"""Checkpoints that the paper's own code wrote, in our names."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lift.convert.weights import check_names, check_shape, from_layout, refuse_strays
from lift.errors import CheckpointError
from lift.heads import HeadConfig
from lift.towers import vit


@dataclass(frozen=True)
class Reference:
    """What a checkpoint of the paper's own code holds, in our names.

    Attributes:
        tower: the trunk; pooled by mean (LIFT) or class token (CLIP).
        tower_state: weights for `vit.build(tower)`.
        head: the MLP of LIFT, or CLIP's single matrix without bias.
        head_state: weights for `MLPHead(head, tower.width, shared)`.
        shared: width of the space in which images and texts meet.
        log_scale: the learned ln(1 / temperature); None where none was trained (cosine loss).
        text_state: CLIP's text tower under the names that it came with; empty for LIFT.
    """

    tower: vit.Config
    tower_state: dict[str, Tensor]
    head: HeadConfig
    head_state: dict[str, Tensor]
    shared: int
    log_scale: float | None
    text_state: dict[str, Tensor]


def load_reference_checkpoint(path: str | PathLike[str], **facts: Any) -> Reference:
    """Read a LIFT or CLIP checkpoint that the paper's own code wrote (`epoch_N.pt`).

    Tensors are memory-mapped, so the optimiser's are never read, and nothing in the file is run.

    Args:
        path: the file.
        facts: as in `from_layout`; `heads` is needed where the tower is no ViT-T, -S, -B or -L.

    Raises:
        CheckpointError: not such a file, or names missing, left over or of the wrong shape.
    """
    state = _read_reference(path)
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    # Its first releases called the head what the class was called then.
    state = {re.sub(r"^text_decoder\.", "mlp_projector.", n): t for n, t in state.items()}
    scale = state.pop("logit_scale", None)
    visual = {name: t for name, t in state.items() if name.startswith("visual.")}
    rest = {name: t for name, t in state.items() if name not in visual}
    where = f"the checkpoint {fspath(path)}"
    if any(name.startswith("mlp_projector.") for name in rest):
        tower, tower_state = from_layout(visual, "open_clip", **{"pooling": "mean", **facts})
        head, head_state = _mlp_head(rest, where)
        text = {}
    elif "visual.proj" in visual:
        head_state = {"layers.0.weight": visual.pop("visual.proj").T.clone()}
        tower, tower_state = from_layout(visual, "open_clip", **{"pooling": "token", **facts})
        head, text = HeadConfig(layers=1, bias=False), rest
        parts = ("token_embedding", "positional_embedding", "transformer", "ln_final")
        parts += ("text_projection",)
        refuse_strays(where, [n for n in rest if n.split(".")[0] not in parts], "reference")
    else:
        raise CheckpointError(
            f"Neither mlp_projector.* (LIFT) nor visual.proj (CLIP) is in {where}: "
            "the reference code did not write it."
        )
    widths = [weight.shape for name, weight in head_state.items() if name.endswith("weight")]
    if widths[0][1] != tower.width:
        raise CheckpointError(
            f"The head in {where} takes {widths[0][1]} numbers, the tower gives {tower.width}."
        )
    if scale is not None:
        check_shape("logit_scale", scale, ())
    return Reference(
        tower=tower,
        tower_state=tower_state,
        head=head,
        head_state=head_state,
        shared=widths[-1][0],
        log_scale=None if scale is None else float(scale),
        text_state={name: tensor.clone() for name, tensor in text.items()},
    )


def _read_reference(path: str | PathLike[str]) -> dict[str, Tensor]:
    # Its learning rates are numpy scalars, which torch refuses unless they are named; rebuilding
    # one runs nothing. numpy 1, which it was trained with, called the place numpy.core.
    scalar = np.float64(0).__reduce__()[0]
    safe: list[Any] = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    safe += [np.dtype, type(np.dtype(np.float64))]
    try:
        with torch.serialization.safe_globals(safe):
            content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"The checkpoint {fspath(path)} holds objects other than tensors and plain values; "
            "those are never loaded, because loading them can run code."
        ) from error
    except Exception as error:
        # Broad on purpose: changed bytes make the unpickler raise nearly anything (OSError,
        # EOFError, RuntimeError, UnicodeDecodeError, IndexError, KeyError, TypeError, ...).
        reason = str(error).splitlines()[0] if str(error) else "it ends too early."
        raise CheckpointError(f"The checkpoint {fspath(path)} can't be read: {reason}") from error
    for key in ("model", "module", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not all(isinstance(t, Tensor) for t in content.values()):
        raise CheckpointError(f"The checkpoint {fspath(path)} holds no state dict.")
    return {str(name): tensor for name, tensor in content.items()}


def _mlp_head(state: Mapping[str, Tensor], where: str) -> tuple[HeadConfig, dict[str, Tensor]]:
    # Counted, not read off the highest number, which could be any; odd places are the GELUs.
    pattern = re.compile(r"mlp_projector\.projector\.[0-9]*[02468]\.(weight|bias)")
    layers = max(sum(1 for name in state if pattern.fullmatch(name)) + 1, 2) // 2
    names = [f"{2 * i}.{kind}" for i in range(layers) for kind in ("weight", "bias")]
    check_names(where, [f"mlp_projector.projector.{name}" for name in names], state, "reference")
    head = {f"layers.{n}": state[f"mlp_projector.projector.{n}"].clone() for n in names}
    shared = len(head["layers.0.weight"])
    for name, tensor in head.items():
        width = tensor.shape[-1] if name == "layers.0.weight" else shared
        check_shape(name, tensor, (shared, width) if name.endswith("weight") else (shared,))
    return HeadConfig(layers=layers), head
