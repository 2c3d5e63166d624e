"""An image side as a graph of ONNX: traced, its preprocessing beside it, its matrices in int8."""

from __future__ import annotations

import contextlib
import copy
import importlib
import logging
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lift.bundle import Bundle
from lift.data.transform import Transform
from lift.errors import ConfigError
from lift.model import Side

PIXELS, EMBEDDING, IMAGE = "pixels", "image_embeds", "image"
"""Names of what goes into the graphs and what comes out; none that torch gives to a step."""

_OPSET = 20
"""The first with GELU as one operation; onnxruntime has had it since 1.17."""
_IR = 10
_LARGEST = 1_900_000_000
"""Bytes of weights in one file; protobuf ends at 2 GiB."""


class _FromPixels(nn.Module):
    """An image side that takes pixels as bytes and normalises them itself."""

    mean: Tensor
    std: Tensor

    def __init__(self, side: Side, transform: Transform) -> None:
        super().__init__()
        self.side = side
        for name in ("mean", "std"):
            value = torch.tensor(getattr(transform, name)).view(1, 3, 1, 1) * 255
            self.register_buffer(name, value)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.side((pixels.float() - self.mean) / self.std)


def write_side(bundle: Bundle, path: Path) -> None:
    """Write the graph from uint8 pixels [batch 3 r r] to unit rows [batch d], in float32.

    Raises:
        ConfigError: the tower can't be traced, or only for one number of images.
    """
    network = _FromPixels(copy.deepcopy(bundle.side).cpu(), bundle.transform).eval()
    size = sum(value.nbytes for value in network.state_dict().values())
    if size > _LARGEST:
        raise ConfigError(
            f"The image side of {bundle.name} has {size / 1e9:.1f} GB of weights, and a file of "
            "ONNX holds 2: export its tower by another library."
        )
    program = _traced(network, bundle)
    dimension = program.model.graph.inputs[0].shape[0]
    if isinstance(dimension, int):
        raise ConfigError(
            f"The tower of {bundle.name} can be traced for one number of images at a time only "
            f"({dimension}), so it has no ONNX graph for any number; {_ELSEWHERE}"
        )
    _forget_places(program.model)
    program.model.producer_name, program.model.producer_version = "lift-align", ""
    program.save(str(path), external_data=False)
    importlib.import_module("onnx").checker.check_model(str(path))  # no name twice, for one


_ELSEWHERE = "export it by its own library (--to transformers, timm or open_clip)."


def _traced(network: nn.Module, bundle: Bundle) -> Any:
    side = bundle.transform.resolution
    pixels = torch.zeros(2, 3, side, side, dtype=torch.uint8)
    try:
        with torch.no_grad(), _quiet():
            return torch.onnx.export(
                network,
                (pixels,),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                input_names=[PIXELS],
                output_names=[EMBEDDING],
                opset_version=_OPSET,
                verbose=False,
            )
    except Exception as error:
        cause = error.__cause__ or error
        why = textwrap.shorten(str(cause) or type(cause).__name__, 200, placeholder=" ...")
        raise ConfigError(
            f"The tower of {bundle.name} can't be traced to ONNX ({type(cause).__name__}: {why}); "
            + _ELSEWHERE
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what torch's exporter says of its own inside: deprecations, no torchvision."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _forget_places(model: Any) -> None:
    """Drop notes on where each node came from: lines of code, with folders of this machine."""
    model.metadata_props.clear()
    graph = model.graph
    graph.metadata_props.clear()
    for value in [*graph.inputs, *graph.outputs, *graph.initializers.values()]:
        value.metadata_props.clear()
    for node in graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()


# --- preprocessing ------------------------------------------------------------------------------


def write_preprocess(transform: Transform, path: Path) -> None:
    """Write the graph from an image, uint8 [height width 3], to pixels, uint8 [1 3 r r].

    onnxruntime resizes bytes with antialiasing in whole numbers, as Pillow does. Torch, which
    models are trained with, rounds otherwise here and there: by one of 255 levels for up to 4
    numbers of 1,000 (photographs to 64, 112 and 224 pixels), by two over a canvas. Float pixels,
    or a border counted in, differ by up to 20.
    """
    onnx = importlib.import_module("onnx")
    helper, kind = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node("Transpose", [IMAGE], ["planes"], perm=[2, 0, 1]),
        helper.make_node("Unsqueeze", ["planes", "zero"], ["whole"]),
    ]
    numbers = {"zero": [0]}
    last = "whole"
    if transform.resize == "center_crop":
        nodes += _central_square(helper)
        numbers |= {"one": [1], "two": [2], "heights": [2, 3]}
        last = "square"
    sides = [s for s in (transform.canvas, transform.resolution) if s is not None]
    sides = list(dict.fromkeys(sides))
    for number, side in enumerate(sides):
        name = PIXELS if number == len(sides) - 1 else f"canvas_{side}"
        numbers[f"to_{side}"] = [1, 3, side, side]
        nodes.append(
            helper.make_node(
                "Resize",
                [last, "", "", f"to_{side}"],
                [name],
                mode="cubic" if transform.interpolation == "bicubic" else "linear",
                cubic_coeff_a=-0.5,
                antialias=1,
                exclude_outside=1,
                coordinate_transformation_mode="half_pixel",
            )
        )
        last = name
    side = transform.resolution
    graph = helper.make_graph(
        nodes,
        "preprocess",
        [helper.make_tensor_value_info(IMAGE, kind.UINT8, ["height", "width", 3])],
        [helper.make_tensor_value_info(PIXELS, kind.UINT8, [1, 3, side, side])],
        [helper.make_tensor(n, kind.INT64, [len(v)], v) for n, v in numbers.items()],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR,
        producer_name="lift-align",
    )
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def _central_square(helper: Any) -> list[Any]:
    """Return the nodes from "whole" [1 3 h w] to its central "square"."""
    make = helper.make_node
    return [
        make("Shape", ["whole"], ["size"], start=2),
        make("ReduceMin", ["size"], ["short"], keepdims=1),
        make("Sub", ["size", "short"], ["over"]),
        make("Div", ["over", "two"], ["first"]),
        make("Add", ["first", "short"], ["end"]),
        make("Slice", ["whole", "first", "end", "heights"], ["square"]),
    ]


# --- int8 ---------------------------------------------------------------------------------------


def write_int8(source: Path, path: Path) -> None:
    """Write a float32 graph with its weight matrices in int8, activations scaled as they come.

    Of what onnxruntime has, this lost least and ran fastest on both models that it was tried on:
    static scales from 128 calibration images had three times the distance and 1.4 times the time.
    Weights take 7 of 8 bits, or products overflow on CPUs without VNNI and the loss measured here
    would not be the loss there. The patch embedding stays float32: in int8 it is slower.

    Raises:
        ConfigError: onnxruntime can't quantise this graph.
    """
    model = importlib.import_module("onnx").load(source)
    del model.graph.value_info[:]  # shapes on the way: they are inferred again
    try:
        with _quiet_quantiser():
            tools = importlib.import_module("onnxruntime.quantization")
            tools.quantize_dynamic(
                model,
                str(path),
                op_types_to_quantize=["MatMul"],
                per_channel=True,
                reduce_range=True,
                weight_type=tools.QuantType.QInt8,
            )
    except Exception as error:
        why = textwrap.shorten(str(error), 200, placeholder=" ...")
        raise ConfigError(
            f"This graph can't be brought to int8 ({type(error).__name__}: {why}); export it with "
            "--set precision=float32."
        ) from error


@contextlib.contextmanager
def _quiet_quantiser() -> Iterator[None]:
    """Hold back its advice, logged to the root, to optimise first: that changed nothing."""
    root = logging.getLogger()
    aside = _Advice()
    root.addFilter(aside)
    try:
        yield
    finally:
        root.removeFilter(aside)


class _Advice(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return "pre-processing before quantization" not in record.getMessage()
