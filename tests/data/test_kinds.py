"""One name for each reason, over all layouts."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from lift.data import kinds
from lift.data.formats import _layout

FILES = sorted(Path(_layout.__file__).parent.glob("*.py"))


def test_every_kind_says_what_it_means():
    named = {value for name, value in vars(kinds).items() if name.isupper() and type(value) is str}
    assert named - {kinds.BESIDE} == set(kinds.MEANINGS)
    assert len(kinds.MEANINGS) == len(set(kinds.MEANINGS.values()))
    assert all(meaning and not meaning.endswith(".") for meaning in kinds.MEANINGS.values())


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_kinds_are_written_once(file: Path):
    told = {"BrokenSample", "add", "refuse"}
    for call in ast.walk(ast.parse(file.read_text())):
        if isinstance(call, ast.Call) and len(call.args) > 1:
            name = getattr(call.func, "id", getattr(call.func, "attr", ""))
            first = call.args[0]
            plain = isinstance(first, ast.JoinedStr) or (
                isinstance(first, ast.Constant) and isinstance(first.value, str)
            )
            assert name not in told or not plain, f"{file.name}, line {call.lineno}"
