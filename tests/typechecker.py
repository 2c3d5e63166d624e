"""beartype with PEP 484's numeric tower: an int may stand where a float is annotated."""

from __future__ import annotations

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
