"""Types of options that several commands have."""

from __future__ import annotations

from typing import Annotated

import tyro

Words = Annotated[tuple[str, ...], tyro.conf.arg(metavar="SOURCE [SOURCE ...]")]
Options = Annotated[tuple[str, ...], tyro.conf.arg(name="set", metavar="KEY=VALUE [...]")]
