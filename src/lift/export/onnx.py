"""The image side as a graph of ONNX, in float32 and int8, for onnxruntime without torch or lift."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from lift.bundle import Bundle
from lift.config import to_dict
from lift.errors import CheckpointError, ConfigError, unknown
from lift.export import _onnx_graph as graphs
from lift.export import _onnx_judged
from lift.export._protocol import Difference, Written, difference

NEEDS = {"onnx": "export", "onnxscript": "export", "onnxruntime": "export"}

FLOAT, INT8, PREPROCESS = "model.onnx", "model_int8.onnx", "preprocess.onnx"
FACTS, EXAMPLE = "preprocess.json", "example.py"
SAME = 1e-5
"""Largest difference of a number of a unit vector; 1e-7 to 1e-6 is what is found."""
Precision = Literal["float32", "int8", "both"]

LEVELS = 2.0
"""Of 255: what resizing in onnxruntime, once or over a canvas, may differ from torch's in."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """What is written.

    Attributes:
        precision: "float32", "int8" or "both".
        judge: pairs of images and captions (as for `lift evaluate`) on which the loss of int8 is
            told as recall; "" tells cosines alone.
        least_cosine: of an int8 vector with the model's, over the pictures compared on; below it
            the export fails.
    """

    precision: Precision = "both"
    judge: str = ""
    least_cosine: float = 0.97

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            raise unknown("precision", self.precision, get_args(Precision))
        if not -1 <= self.least_cosine <= 1:
            raise ConfigError(f"least_cosine must be from -1 to 1, not {self.least_cosine}.")
        if self.judge and self.precision == "float32":
            raise ConfigError("judge= tells what int8 loses: set precision=both or int8.")


def build(config: Config) -> OnnxExporter:
    """Return the exporter."""
    return OnnxExporter(config)


class OnnxExporter:
    """Writes graphs, a description of what goes in, and a program that runs them."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def write(self, bundle: Bundle, folder: Path) -> Written:
        """Fill the folder; raises as `Exporter.write`."""
        graphs.write_side(bundle, folder / FLOAT)
        notes = [_IN_WORDS]
        if self.config.precision != "float32":
            graphs.write_int8(folder / FLOAT, folder / INT8)
            notes.append(_sizes(folder))
            if self.config.judge:
                run = self._runner(folder / INT8)
                notes += _onnx_judged.losses(bundle, run, self.config.judge)
            else:
                notes.append(_NOT_JUDGED)
        if self.config.precision == "int8":
            (folder / FLOAT).unlink()
        graphs.write_preprocess(bundle.transform, folder / PREPROCESS)
        text = json.dumps(facts(bundle), indent=2, ensure_ascii=False)
        (folder / FACTS).write_text(text + "\n", encoding="utf-8")
        shutil.copyfile(Path(__file__).with_name("_onnx_example.py"), folder / EXAMPLE)
        main = INT8 if self.config.precision == "int8" else FLOAT
        return Written(
            usage=_USAGE.replace("{model}", main),
            notes=tuple(notes),
            library="onnx",
            tags=("onnx", "onnxruntime"),
        )

    def check(
        self, bundle: Bundle, folder: Path, images: Sequence[np.ndarray]
    ) -> Sequence[Difference]:
        """Run the graphs in onnxruntime; see `Exporter.check`.

        Raises:
            CheckpointError: an int8 vector is further from the model's than `least_cosine`.
        """
        pixels = np.stack([bundle.transform.evaluate(image).numpy() for image in images])
        ours = bundle.encode_images(list(images))
        prepare = session(folder / PREPROCESS)
        theirs = np.concatenate([prepare.run(None, {graphs.IMAGE: image})[0] for image in images])
        found = [
            difference(
                f"pixels of {PREPROCESS}, in levels of 255",
                pixels.astype(np.int64),
                theirs.astype(np.int64),
                LEVELS,
                vectors=False,
            )
        ]
        if (folder / FLOAT).exists():
            run = self._runner(folder / FLOAT)
            alone = np.concatenate([run(pixels[:1]), run(pixels)])  # any number of images
            what = "float32 image vectors, from the same pixels"
            found.append(difference(what, np.concatenate([ours[:1], ours]), alone, SAME))
            what = f"float32 image vectors, over {PREPROCESS}"
            found.append(difference(what, ours, run(theirs)))
        if (folder / INT8).exists():
            what = "int8 image vectors, from the same pixels"
            found.append(difference(what, ours, self._runner(folder / INT8)(pixels)))
            self._require_near(found[-1])
        return found

    def _require_near(self, int8: Difference) -> None:
        least = self.config.least_cosine
        if int8.cosine is None or not int8.cosine >= least:
            raise CheckpointError(
                f"In int8 the model is another one: {int8}, and least_cosine={least:g} is asked "
                "for. Nothing was left; export with --set precision=float32."
            )

    @staticmethod
    def _runner(path: Path) -> _onnx_judged.Run:
        running = session(path)
        return lambda pixels: running.run(None, {graphs.PIXELS: pixels})[0]


def session(path: Path) -> Any:
    """Return a graph that runs on the CPU, in as many threads as torch."""
    import torch

    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def facts(bundle: Bundle) -> dict[str, Any]:
    """Return what goes into the graphs and what comes out, as plain values."""
    transform = bundle.transform
    side = transform.resolution
    sides = [s for s in (transform.canvas, side) if s is not None]
    return {
        "input": {
            "name": graphs.PIXELS,
            "dtype": "uint8",
            "shape": ["batch", 3, side, side],
            "channels": "RGB, planes one after the other",
            "normalisation": "inside the graph: give bytes from 0 to 255",
        },
        "output": {
            "name": graphs.EMBEDDING,
            "dtype": "float32",
            "shape": ["batch", bundle.dimensions],
            "unit_length": True,
        },
        "upright": "turn as EXIF says, before anything else",
        "background": list(transform.background),
        "resize": transform.resize,
        "sides": list(dict.fromkeys(sides)),
        "interpolation": transform.interpolation,
        "antialias": True,
        "cubic_a": -0.5,
        "mean": list(transform.mean),
        "std": list(transform.std),
        "preprocess": {
            "file": PREPROCESS,
            "input": {"name": graphs.IMAGE, "dtype": "uint8", "shape": ["height", "width", 3]},
            "output": {"name": graphs.PIXELS, "dtype": "uint8", "shape": [1, 3, side, side]},
        },
        "scale": bundle.scale,
        "text_space": {**to_dict(bundle.space), "fingerprint": bundle.space.fingerprint},
    }


def _sizes(folder: Path) -> str:
    whole, small = ((folder / name).stat().st_size / 1e6 for name in (FLOAT, INT8))
    return (
        f"{INT8} ({small:.1f} MB, float32 {whole:.1f} MB) has its matrices in 7 of 8 bits, so that "
        "it gives the same on CPUs with and without VNNI instructions, and scales activations as "
        "they come, over a whole batch: an image's vector depends a little on its neighbours."
    )


_IN_WORDS = (
    f"Pixels go in as bytes and are normalised inside; {PREPROCESS} makes them of an upright RGB "
    f"image of any size, and {FACTS} says how in words."
)

_NOT_JUDGED = (
    "What int8 loses of recall was not measured: --set judge=DATA tells it on images and captions."
)

_USAGE = """\
Needs `onnxruntime`, `numpy` and `pillow`; neither torch nor lift.

```python
import numpy as np
import onnxruntime
from PIL import Image, ImageOps

prepare = onnxruntime.InferenceSession("{folder}/preprocess.onnx")
model = onnxruntime.InferenceSession("{folder}/{model}")

def vectors(paths):
    upright = [ImageOps.exif_transpose(Image.open(path)) for path in paths]
    images = [np.asarray(image.convert("RGB")) for image in upright]
    pixels = np.concatenate([prepare.run(None, {"image": image})[0] for image in images])
    return model.run(None, {"pixels": pixels})[0]  # [n d], unit length
```

`python {folder}/example.py IMAGE ...` does the same for any image file (transparent pixels laid on
the background, grey of 16 bits read as such) and writes `vectors.npy`. Texts are encoded by what
`preprocess.json` names under `text_space`; a cosine is the dot product."""
