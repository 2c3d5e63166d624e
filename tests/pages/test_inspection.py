"""The page of an inspection: one safe file, whatever the data say."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from lift.config import Part
from lift.curation.advice import SECTIONS, commands_of, figures_of, warnings_of
from lift.curation.findings import Inspection
from lift.curation.inspection import inspect
from lift.errors import ConfigError, StorageError
from lift.pages.inspection import render, write_inspection
from lift.pages.inspection_charts import charts_of
from page_reader import HOSTILE, Tables


def read(path: Path) -> tuple[str, Tables]:
    text = path.read_text(encoding="utf-8")
    page = Tables()
    page.feed(text)
    page.close()
    assert page.open == [] and len(page.ids) == len(set(page.ids))
    assert "script" not in page.tags
    for reference in page.references:
        is_picture = reference.startswith("data:image/jpeg;base64,")
        assert is_picture or (reference.startswith("#") and reference[1:] in page.ids), reference
    assert not re.search(r"(?:@import|url\()\s*['\"]?(?!#)", text)
    assert not re.search(r"https?://", text)
    return text, page


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Inspection:
    folder = tmp_path_factory.mktemp("data")
    rows = []
    for number in range(30):
        out = io.BytesIO()
        Image.new("RGB", (40 + number, 60), (8 * number, 9, 99)).save(out, "JPEG")
        content = b"broken" if number == 5 else out.getvalue()
        (folder / f"{number}.jpg").write_bytes(content)
        texts = [HOSTILE, f"words {'and more ' * number}", *[f"{n}" for n in range(number)]]
        rows.append({"id": f"{HOSTILE}{number}", "image": f"{number}.jpg", "text": texts})
    (folder / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {"path": str(folder / "p.jsonl"), "key": "id", "caption": [f"text:{HOSTILE}"]}
    return inspect(Part("data/formats", "table", options), samples=3, progress=False)


def test_the_page_holds_every_figure(found: Inspection, tmp_path: Path) -> None:
    text, page = read(write_inspection(found, tmp_path / "inspect.html"))
    assert set(SECTIONS) | {"samples", "next"} <= set(page.ids)
    assert "&lt;script&gt;" in text and "prefers-color-scheme: dark" in text
    rows = {row[0]: row[1] for row in page.rows}
    for figure in figures_of(found):
        assert rows[f"{figure.name}{figure.says}"] == figure.value, figure.name
    said = "".join(page.said)
    for words in (*warnings_of(found), *commands_of(found)):
        assert words in said or words.replace("`", "") in said
    drawn = sum(len(charts) for charts in charts_of(found).values())
    assert text.count("<svg") == drawn == 6
    # The whole picture, two epochs of training, and evaluation; of three samples.
    assert page.tags.count("img") == 3 * 4
    for shown in found.shown:
        assert shown.key in said
    assert "training, epoch 2" in said and "evaluation" in said
    assert re.search(r"and \d+ more", said)


def test_the_figures_lie_beside_the_page(found: Inspection, tmp_path: Path) -> None:
    write_inspection(found, tmp_path / "inspect.html")
    values = json.loads((tmp_path / "inspect.json").read_text())
    assert values["format"] == "lift.inspection/1"
    assert values["texts"]["captions"] == found.texts.captions
    assert values["images"]["broken"] == dict(found.images.broken) and found.images.broken
    assert values["shown"] == [shown.key for shown in found.shown]
    assert values["warnings"] == warnings_of(found)


def test_the_same_findings_give_the_same_bytes(found: Inspection, tmp_path: Path) -> None:
    pages = [write_inspection(found, tmp_path / f"{i}.html").read_bytes() for i in range(2)]
    assert pages[0] == pages[1]


def test_texts_alone_have_a_page_without_images(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("one\ntwo words\n")
    alone = inspect(f"texts:path={tmp_path}/c.txt", progress=False)
    text, page = read(write_inspection(alone, tmp_path / "inspect.html"))
    assert "img" not in page.tags and "samples" not in page.ids and "without images" in text


def test_warnings_are_escaped_and_commands_in_them_are_code(found: Inspection) -> None:
    import dataclasses

    odd = dataclasses.replace(found, left_out={f"`{HOSTILE}`": 3})
    text = render(odd)
    assert "<script" not in text and "<code>&lt;script&gt;" in text


def test_names_that_are_no_unicode_are_printed(found: Inspection) -> None:
    import dataclasses

    odd = dataclasses.replace(found, name="a\udcff.tar", why="\udcff")
    assert "a\\udcff.tar" in render(odd)
    render(odd).encode("utf-8")


def test_where_it_can_not_be_written(found: Inspection, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"NAME\.html"):
        write_inspection(found, tmp_path / "inspect.json")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        write_inspection(found, tmp_path / "file" / "inspect.html")


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_a_missing_package_is_told_before_the_work(package: str, tmp_path: Path) -> None:
    program = (
        "import importlib.util, sys\n"
        "find = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda n, *a: None if n == {package!r} else find(n, *a)\n"
        "from lift.cli import main\n"
        "sys.exit(main(['data', 'inspect', 'scenes:count=4', '--quiet']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 2 and "lift-align[plots]" in done.stderr, done.stderr
    assert list(tmp_path.iterdir()) == []
