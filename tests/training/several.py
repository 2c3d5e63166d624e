"""A program for `torchrun`: trains the configs named on its command line, one after another.

torchrun --nproc-per-node 3 several.py CONFIG.json=OUT CONFIG.json=OUT ...
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from lift.errors import LiftError
from lift.training.folder import read_config
from lift.training.loop import run

if __name__ == "__main__":
    torch.set_num_threads(1)
    for word in sys.argv[1:]:
        config, _, out = word.partition("=")
        try:
            run(read_config(Path(config)), Path(out), progress=False)
        except LiftError as error:
            sys.exit(f"{type(error).__name__}: {error}")
