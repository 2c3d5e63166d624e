"""`python -m lift`, and `torchrun -m lift`: the console."""

from __future__ import annotations

import sys

from lift.cli import main

if __name__ == "__main__":
    sys.exit(main())
