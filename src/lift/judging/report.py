"""The page of a judgement: what it shows of data and models besides the figures."""

from __future__ import annotations
