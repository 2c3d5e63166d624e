"""The house keeps its own rules: sizes, first lines, no rooms without a name, true trees."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "lift"
FILES = sorted(PACKAGE.rglob("*.py"))
GROUPS = ("data", "index")
"""Commands that have commands of their own."""
LINES_OF_A_FILE = 360
LINES_OF_A_FUNCTION = 70
DOCUMENTS = (
    "composition",
    "data",
    "databases",
    "diagnosis",
    "evaluation",
    "export",
    "ladder",
    "multimodal",
    "reproduce",
    "scoring",
    "search",
    "serving",
    "text",
    "towers",
    "training",
)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_and_functions_are_short_and_say_their_job(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    first = (ast.get_docstring(tree) or "").split("\n")[0]
    assert first.endswith((".", ":")), f"{path}: no first line that says its job"
    assert text.count("\n") <= LINES_OF_A_FILE, path
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno
            assert lines <= LINES_OF_A_FUNCTION, f"{path}: {node.name} has {lines} lines"
    assert path.stem not in ("utils", "common", "helpers", "misc")


def test_nothing_unpickles_or_evaluates() -> None:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                if node.value.id in ("pickle", "dill", "cloudpickle", "marshal"):
                    assert node.attr == "UnpicklingError", path  # only torch's refusal is caught
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("eval", "exec"), path
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "np.load"):
                allowed = ("weights_only=True", "allow_pickle=False")
                assert any(word in ast.unparse(node) for word in allowed), path


def test_the_rooms_in_the_picture_are_the_rooms() -> None:
    picture = (ROOT / "ARCHITECTURE.md").read_text().split("```")[1]
    drawn = {word.rstrip("/") for word in re.findall(r"[a-z_]+(?:\.py|/)", picture)}
    real = {p.name for p in PACKAGE.glob("*.py") if p.name != "__init__.py"}
    real |= {p.name for p in PACKAGE.iterdir() if (p / "__init__.py").exists()}
    assert drawn == real


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_links_between_documents_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / name).read_text()):
        if "://" not in target:
            assert (ROOT / target).exists(), f"{name} links to {target}"


def test_every_layout_is_in_the_table() -> None:
    from lift import plugins

    table = (ROOT / "docs" / "data.md").read_text()
    for name in plugins.names("data/formats"):
        assert any(f"`{name}:{option}=" in table for option in ("path", "count", "data")), name


def test_commands_in_the_documents_parse() -> None:
    """Every `lift ...` line of the documents names a command and options that exist."""
    import subprocess
    import sys

    helps: dict[str, str] = {}
    for name in ("README.md", *(f"docs/{n}.md" for n in DOCUMENTS)):
        text = (ROOT / name).read_text().replace("\\\n", " ")
        for line in re.findall(r"^\s*(?:\$ )?lift ([^\n#]+)", text, flags=re.MULTILINE):
            words = line.split()
            command = " ".join(words[: 2 if words[0] in GROUPS else 1])  # `lift data inspect ...`
            if command not in helps:
                done = subprocess.run(
                    [sys.executable, "-m", "lift.cli", *command.split(), "--help"],
                    capture_output=True,
                    text=True,
                    check=False,
                )
                assert done.returncode == 0, f"{name}: lift {line}"
                helps[command] = done.stdout
            for option in re.findall(r"(?<!\S)(--[a-z-]+)", line):
                assert option in helps[command], f"{name}: lift {line}"
