"""Compare the encoder nv_embed with rows that nvidia/NV-Embed-v2's own code made, on your files.

    python runs/check_nv_embed.py --how
    python runs/check_nv_embed.py --write-probes probes.json
    python runs/check_nv_embed.py MODEL_FOLDER --reference reference.npz [--half]

The original code runs with transformers 4.42.4 and fails on 5, so its rows come from an environment
of their own: `--how` prints the commands and the ten lines of Python that make `reference.npz`. It
holds the rows of the 32 probe sentences three times: as captions ("plain"), with an instruction
("asked") and cut to 8 tokens ("cut"). A `.npy` file is taken for "plain" alone.

On a CPU the original computes in float32 (31 GB of memory, some minutes), and every number has to
agree to 1e-4. On a GPU it computes in float16 whatever its weights are; then give `--half`, which
asks for cosines of 0.999 and says nothing sharper.

Leaves with 0 if all rows agree and 2 if they don't or something can't be read. Without
`--reference` it loads the model, embeds, and compares nothing. The last lines are what to send
back: until they have come from the published files, the documentation says "not yet compared".
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

INSTRUCTION = "Instruct: Given a caption, retrieve the image that it describes\nQuery: "
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "asked": {"prompt": INSTRUCTION},
    "cut": {"max_tokens": 8},
}
EXACT = {"difference": 1e-4, "cosine": 0.99999}
HALF = {"difference": 1.0, "cosine": 0.999}

HOW = f"""\
1. In lift's environment:
     python runs/check_nv_embed.py --write-probes probes.json

2. In a new environment with Python 3.10:
     pip install torch==2.2.0 transformers==4.42.4 sentence-transformers==2.7.0 \\
       einops datasets 'numpy<2'

3. There, save this as make_reference.py. It runs the Python code that comes with the model: read
   it first. That code fetches its tokenizer from the hub by the name nvidia/NV-Embed-v2.

import json, sys
import numpy as np, torch
from transformers import AutoModel
folder, probes, out = sys.argv[1:]
model = AutoModel.from_pretrained(folder, trust_remote_code=True, torch_dtype=torch.float32).eval()
model = model.half().cuda() if torch.cuda.is_available() else model
texts = json.load(open(probes, encoding="utf-8"))
def rows(**options):
    return np.concatenate([model.encode([t], **options).float().cpu().numpy() for t in texts])
np.savez(out, plain=rows(), asked=rows(instruction={INSTRUCTION!r}), cut=rows(max_length=8))

4. Run it without GPU for float32 (31 GB of memory, some minutes):
     CUDA_VISIBLE_DEVICES= python make_reference.py MODEL_FOLDER probes.json reference.npz
   or with one, in float16.

5. In lift's environment, with --half if a GPU made the reference:
     python runs/check_nv_embed.py MODEL_FOLDER --reference reference.npz
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", help="folder with the published files")
    parser.add_argument("--reference", type=Path, help="rows of the original, .npz or .npy")
    parser.add_argument("--half", action="store_true", help="the reference is float16")
    parser.add_argument("--weights", default="float32", help="float32, bfloat16 or float16")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, help="write our own rows there (.npz)")
    parser.add_argument("--write-probes", type=Path, help="write the probe sentences there")
    parser.add_argument("--how", action="store_true", help="say how to make the reference")
    options = parser.parse_args(argv)
    from lift.errors import LiftError
    from lift.text.probes import PROBES

    if options.how:
        print(HOW)
        return 0
    if options.write_probes:
        options.write_probes.write_text(json.dumps(PROBES, ensure_ascii=False), encoding="utf-8")
        return 0
    if not options.model:
        parser.error("give the folder of the model, or --how")
    try:
        return check(options)
    except (LiftError, OSError, ValueError) as error:
        print(f"check_nv_embed: {error}", file=sys.stderr)
        return 2


def check(options: argparse.Namespace) -> int:
    """Embed the probes, compare, and say what to send back."""
    reference = read_reference(options.reference) if options.reference else {}
    limits = HALF if options.half else EXACT
    lines, ours, good = [], {}, True
    for case in reference or CASES:
        rows, facts = embed(options, CASES[case])
        ours[case] = rows
        if not lines:
            lines = facts
        if case in reference:
            line, fits = compare(case, rows, reference[case], limits)
            good = good and fits
            lines.append(line)
    if options.out:
        np.savez(options.out, **ours)
    if not reference:
        verdict = "NOTHING COMPARED: give --reference (see --how)."
    else:
        verdict = "The rows agree." if good else "THE ROWS DO NOT AGREE."
    print("Please send these lines back, as a new issue of the project:\n")
    print("\n".join([*lines, verdict]))
    return 0 if good else 2


def read_reference(path: Path) -> dict[str, np.ndarray]:
    """Return the original's rows by case. Raises ValueError for other content."""
    found = np.load(path, allow_pickle=False)
    rows = {"plain": found} if isinstance(found, np.ndarray) else {n: found[n] for n in found}
    if not rows or not set(rows) <= set(CASES):
        raise ValueError(f"{path} holds {sorted(rows)}; expected some of {sorted(CASES)}.")
    return rows


def embed(options: argparse.Namespace, case: dict[str, Any]) -> tuple[np.ndarray, list[str]]:
    """Return (rows of the probes, lines about where they come from)."""
    from lift.config import part
    from lift.text.encoder import build_encoder
    from lift.text.probes import PROBES

    values = {"model": options.model, "weights": options.weights, **case}
    start = time.perf_counter()
    encoder = build_encoder(part("text/encoders", "nv_embed", **values), options.device)
    loaded = time.perf_counter()
    rows = encoder.encode(PROBES).rows
    packages = ("lift-align", "torch", "transformers", "tokenizers")
    return rows, [
        f"model {encoder.space.model} {encoder.space.revision}",
        f"pooling {encoder.space.pooling}, {encoder.space.dimensions} dimensions",
        " ".join(f"{name} {importlib.metadata.version(name)}" for name in packages),
        f"device {encoder.device}, weights {options.weights}, loaded in {loaded - start:.0f} s, "
        f"{len(PROBES)} probes in {time.perf_counter() - loaded:.1f} s",
        f"lengths of rows {np.linalg.norm(rows, axis=1).min():.6f} to "
        f"{np.linalg.norm(rows, axis=1).max():.6f}",
    ]


def compare(
    case: str, ours: np.ndarray, theirs: np.ndarray, limits: dict[str, float]
) -> tuple[str, bool]:
    """Return (a line with the figures, whether they are within the limits)."""
    if theirs.shape != ours.shape:
        return f"{case}: rows of the shape {theirs.shape} instead of {ours.shape}", False
    theirs = theirs.astype(np.float64)
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    cosines = (ours * theirs).sum(axis=1) / lengths
    difference = float(np.abs(ours - theirs).max())
    # Written so that NaN does not pass.
    fits = bool(difference <= limits["difference"] and cosines.min() >= limits["cosine"])
    worst = int(np.argmin(cosines))
    return (
        f"{case}: largest difference {difference:.2e} (at most {limits['difference']:g}), smallest "
        f"cosine {cosines.min():.7f} (at least {limits['cosine']:g}), at probe {worst}",
        fits,
    )


if __name__ == "__main__":
    sys.exit(main())
