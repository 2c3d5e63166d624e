"""What an inspection finds in pairs whose every trait is known."""

from __future__ import annotations

import io
import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lift.config import Part
from lift.curation.advice import as_table, commands_of, share, size, warnings_of
from lift.curation.findings import Inspection
from lift.curation.inspection import _drawn, inspect
from lift.curation.layout_words import words_of
from lift.data.source import parse_part
from lift.errors import BrokenSample, ConfigError, DataError


def image(
    seed: int, width: int, height: int, mode: str = "RGB", kind: str = "JPEG", **more
) -> bytes:
    rng = np.random.default_rng(seed)
    made = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8)).resize((width, height))
    if mode == "RGBA":
        made.putalpha(128)
    out = io.BytesIO()
    made.convert(mode).save(out, kind, **more)
    return out.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return image(0, 60, 40, exif=exif)


def animated() -> bytes:
    frames = [Image.new("RGB", (30, 20), color) for color in ("red", "lime", "blue")]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    return out.getvalue()


IMAGES = [
    image(1, 100, 80),
    image(2, 120, 90),
    image(1, 100, 80),  # the first one again
    turned(),
    image(3, 50, 50, "P", "PNG"),
    image(4, 64, 48, "RGBA", "PNG"),
    image(5, 64, 48, "L"),
    animated(),
    image(6, 200, 200)[:1500],  # cut off
    b"<html>not found</html>",
    b"",
    image(7, 300, 200, "CMYK"),
]
CAPTIONS = [[f"a picture of number {n}", "the same words"] for n in range(len(IMAGES))]


def table(folder: Path, images=IMAGES, captions=CAPTIONS, **options) -> Part:
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, (content, texts) in enumerate(zip(images, captions, strict=True)):
        (folder / f"{number}.jpg").write_bytes(content)
        rows.append({"image": f"{number}.jpg", "caption": texts, "alt": f"alt {number}"})
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {"path": str(folder / "pairs.jsonl"), "caption": ["caption:raw", "alt"], **options}
    return Part("data/formats", "table", options)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Inspection:
    return inspect(table(tmp_path_factory.mktemp("data")), samples=4, progress=False)


def test_counts_and_captions(found: Inspection) -> None:
    count, texts = len(IMAGES), found.texts
    assert (found.samples, found.groups, found.layout) == (count, 1, "table")
    assert texts.captions == 3 * count and texts.roles == {"raw": 2 * count, "alt": count}
    assert (texts.duplicates, texts.duplicate) == (count - 1, "the same words")
    assert (texts.words.least, texts.words.median, texts.words.most) == (2, 3, 5)
    assert texts.words.total == count * (5 + 3 + 2)
    assert texts.of_an_image.least == texts.of_an_image.most == 3
    every = [text for texts in CAPTIONS for text in texts]
    every += [f"alt {n}" for n in range(count)]
    assert texts.characters.total == sum(map(len, every))


def test_images(found: Inspection) -> None:
    images = found.images
    assert images.looked_at == len(IMAGES) and images.all
    assert images.sound == 9 and sum(images.broken.values()) == 3
    assert images.kinds == {
        "JPEG RGB": 4,
        "GIF palette": 1,
        "JPEG CMYK": 1,
        "JPEG grey": 1,
        "PNG RGBA": 1,
        "PNG palette": 1,
    }
    assert (images.turned, images.animated, images.duplicates) == (1, 1, 1)
    assert images.duplicate == found.shown[0].key.replace("0", "2")
    sound = [*IMAGES[:8], IMAGES[11]]
    assert images.file_bytes.total == sum(map(len, sound))
    assert (images.width.least, images.width.most) == (30, 300)
    assert (images.shorter.least, images.shorter.median, images.shorter.most) == (20, 50, 200)
    assert images.height.total == 80 + 90 + 80 + 60 + 50 + 48 + 48 + 20 + 200  # turned: 40 x 60
    costs = found.costs
    assert costs.total_bytes == pytest.approx(images.file_bytes.mean * len(IMAGES), abs=1)
    assert costs.images_per_second > 0 and costs.packed_bytes > 0 and costs.packed_faster > 0
    assert costs.epoch_minutes == pytest.approx(len(IMAGES) / costs.images_per_second / 60)


def test_broken_ones_have_a_reason_and_a_first_example(found: Inspection) -> None:
    images = found.images
    assert len(images.broken) >= 2 and set(images.broken) == set(images.examples)
    assert all(images.examples.values())
    told = as_table(found)
    for why in images.broken:
        assert why in told
    assert "25% of the samples that were looked at are broken (3 of 12)" in told


def test_samples_are_shown_as_the_model_sees_them(found: Inspection) -> None:
    assert len(found.shown) == 4 and len({shown.key for shown in found.shown}) == 4
    for shown in found.shown:
        assert [caption.role for caption in shown.captions] == ["raw", "raw", "alt"]
        views = [Image.open(io.BytesIO(v)).size for v in (*shown.trained, shown.judged)]
        assert views == [(208, 208)] * 3
        assert max(Image.open(io.BytesIO(shown.picture)).size) <= 208
    assert any(shown.trained[0] != shown.trained[1] for shown in found.shown)


def test_the_same_draw_gives_the_same_findings(tmp_path: Path) -> None:
    spec = table(tmp_path)
    first, second, other = (
        inspect(spec, most=5, samples=2, seed=seed, progress=False) for seed in (3, 3, 4)
    )
    assert first.images == second.images and first.shown == second.shown
    assert first.images.looked_at == 5 and not first.images.all
    assert first.texts == other.texts and first.texts.captions == 36
    assert "drawn evenly from 12" in as_table(first)
    assert inspect(spec, most=5, all_images=True, progress=False).images.looked_at == 12
    with pytest.raises(ConfigError, match="most"):
        inspect(spec, most=0, progress=False)


@pytest.mark.parametrize(("count", "most"), [(400, 300), (12, 5), (10**9, 2000), (7, 6)])
def test_a_draw_is_even_and_never_twice_the_same(count: int, most: int) -> None:
    numbers = _drawn(count, most, 0)
    assert len(set(numbers)) == most and numbers == sorted(numbers)
    assert 0 <= numbers[0] and numbers[-1] < count
    for place, number in enumerate(numbers):
        assert abs(number - place * count / most) <= count / most + 1


def test_strict_stops_at_the_first_broken_one(tmp_path: Path) -> None:
    with pytest.raises(BrokenSample):
        inspect(table(tmp_path / "a"), strict=True, progress=False)
    fine = table(tmp_path / "b", IMAGES[:8], CAPTIONS[:8])
    assert inspect(fine, strict=True, progress=False).images.sound == 8
    captions = [*CAPTIONS[:7], [" "]]
    with pytest.raises(DataError):
        inspect(table(tmp_path / "c", IMAGES[:8], captions), strict=True, progress=False)


def test_unusable_captions_are_left_out_and_counted(tmp_path: Path) -> None:
    found = inspect(table(tmp_path, IMAGES[:3], [["fine"], [""], ["fine too"]]), progress=False)
    assert sum(found.left_out.values()) == 1 and found.texts.of_an_image.least == 1
    assert set(found.left_out) == set(found.examples)
    assert "1 item(s) are no samples" in warnings_of(found)[0]  # a caption beside a good one


def test_large_images_ask_to_be_packed(tmp_path: Path) -> None:
    images = [image(n, 1600, 1200, quality=92) for n in range(4)]
    found = inspect(table(tmp_path, images, CAPTIONS[:4]), progress=False)
    (line,) = [line for line in warnings_of(found) if "lift data pack" in line]
    assert "Images are 1,600 px wide" in line and "x faster" in line
    assert found.costs.packed_faster > 1.3
    assert found.costs.packed_bytes < found.costs.total_bytes
    assert any("objective.share_equal=true" in line for line in warnings_of(found))


def test_a_bare_path_is_guessed_and_said_why(tmp_path: Path) -> None:
    table(tmp_path)
    path = str(tmp_path / "pairs.jsonl")
    found = inspect(path, progress=False)
    assert found.layout == "table" and found.why and found.why in as_table(found)
    assert parse_part("data/formats", found.data).options["path"] == path


def test_several_sources_are_looked_at_together(tmp_path: Path) -> None:
    one, two = (words_of(table(tmp_path / name, IMAGES[:3], CAPTIONS[:3])) for name in "ab")
    found = inspect(f"{one}::{two}", progress=False)
    assert found.samples == 6 and found.images.duplicates == 4 and found.layout == "several, joined"
    assert found.data == f"{one}::{two}" and found.texts.roles == {"raw": 12, "alt": 6}


def test_texts_without_images(tmp_path: Path) -> None:
    (tmp_path / "captions.txt").write_text("a dog\na cat\n")
    found = inspect(f"texts:path={tmp_path}/captions.txt", progress=False)
    assert found.images.looked_at == 0 and found.texts.captions == 2 and not found.shown
    assert len(commands_of(found)) == 1 and as_table(found)


def test_commands_can_be_pasted(tmp_path: Path) -> None:
    folder = tmp_path / "my data; rm x"
    spec = words_of(table(folder))
    found = inspect(spec, samples=0, progress=False)
    for command in commands_of(found):
        words = shlex.split(command)
        given = words[words.index("--data") + 1]
        assert parse_part("data/formats", given) == parse_part("data/formats", spec)


@pytest.mark.parametrize(
    "options",
    [
        {"path": "a.jsonl"},
        {"path": "a,b.jsonl", "caption": ("x:raw", "y:long")},
        {"path": ("a.csv", "b.csv"), "image": "true", "key": "12"},
        {"path": "train-{0000..0003}.csv", "quote": False, "memory_mb": 64},
        {"path": "a+b.csv", "caption": "x+y", "fields": ("one",)},
    ],
)
def test_words_lead_back_to_the_part(options: dict) -> None:
    part = Part("data/formats", "table", options)
    back = parse_part("data/formats", words_of(part))
    assert {k: tuple(v) if isinstance(v, list) else v for k, v in back.options.items()} == options


@pytest.mark.slow
def test_memory_does_not_grow_with_the_samples(tmp_path: Path) -> None:
    """One process looks at 500 samples, then at 5,000: 200 MB of files, 10 MB of captions."""
    (tmp_path / "0.jpg").write_bytes(image(1, 20, 20) + bytes(40_000))
    for count in (500, 5000):
        rows = [{"image": "0.jpg", "caption": f"words {n} " * 200} for n in range(count)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{count}.jsonl").write_text(text)
    program = (
        "import resource\n"
        "from lift.curation.inspection import inspect\n"
        "for count in (500, 5000):\n"
        "    found = inspect(f'table:path={count}.jsonl', all_images=True, progress=False)\n"
        "    assert found.images.sound == count, found\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    few, many = map(int, done.stdout.split())
    assert many - few < 20_000, (few, many)


def test_figures_in_words() -> None:
    assert [share(*pair) for pair in ((0, 5), (5, 5), (1, 10**6), (31, 100), (1, 40))] == [
        "0%",
        "100%",
        "0.01%",
        "31%",
        "2.5%",
    ]
    assert share(999_999, 10**6) == "99.99%" and share(0, 0) == "0%"
    assert [size(n) for n in (0, 999, 26_600, 1_234_567, 5 * 10**12)] == [
        "0 B",
        "999 B",
        "26.6 kB",
        "1.23 MB",
        "5 TB",
    ]
