"""Studies are scripts: their folder is where they find one another."""

from __future__ import annotations

import sys
from pathlib import Path

RUNS = Path(__file__).parents[2] / "runs"
sys.path.insert(0, str(RUNS))
