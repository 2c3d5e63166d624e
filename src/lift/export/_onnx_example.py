"""Image files to unit vectors: python example.py IMAGE ... (--model model.onnx, --out vectors.npy).

Needs onnxruntime, numpy and Pillow, nothing else; the files that it reads lie beside it.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

HERE = Path(__file__).resolve().parent


def upright_rgb(path, background):
    """Return an image as uint8 [h w 3]: turned as EXIF says, transparent pixels on a background."""
    with Image.open(path) as file:
        image = ImageOps.exif_transpose(file)
        if image.mode.startswith("I"):  # grey of 16 bits
            values = np.rint(np.asarray(image).astype(np.float64) / 257)
            image = Image.fromarray(values.clip(0, 255).astype(np.uint8))
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            under = Image.new("RGBA", image.size, (*background, 255))
            image = Image.alpha_composite(under, image.convert("RGBA"))
        return np.asarray(image.convert("RGB"))


def session(name):
    """Return a graph that runs on the CPU."""
    return onnxruntime.InferenceSession(str(HERE / name), providers=["CPUExecutionProvider"])


def planes(prepare, image):
    """Return what the network sees of an image, uint8 [1 3 r r]."""
    return np.asarray(prepare.run(None, {"image": image})[0])


def vectors(paths, model="", batch=32):
    """Return one unit vector an image, float32 [n d]."""
    facts = json.loads((HERE / "preprocess.json").read_text(encoding="utf-8"))
    there = [name for name in ("model.onnx", "model_int8.onnx") if (HERE / name).exists()]
    prepare, network = session("preprocess.onnx"), session(model or there[0])
    rows = []
    for start in range(0, len(paths), batch):
        images = [upright_rgb(path, facts["background"]) for path in paths[start : start + batch]]
        pixels = np.concatenate([planes(prepare, image) for image in images])
        rows.append(np.asarray(network.run(None, {"pixels": pixels})[0]))
    return np.concatenate(rows)


def main():
    """Read the arguments, write the vectors, print how near the images are to the first one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", nargs="+")
    parser.add_argument("--model", default="", help="model.onnx or model_int8.onnx")
    parser.add_argument("--out", default="vectors.npy")
    given = parser.parse_args()
    found = vectors(given.images, given.model)
    np.save(given.out, found)
    for path, cosine in zip(given.images, found @ found[0], strict=True):
        sys.stdout.write(f"{cosine:.4f} {path}\n")


if __name__ == "__main__":
    main()
