"""The page of an evaluation: real results of two models, told apart, safe, used in a browser."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from browser import Page, chromium
from lift import plugins
from lift.against import compared
from lift.data.source import open_source
from lift.errors import ConfigError, MissingPackage
from lift.evaluation import evaluate, parse_plan
from lift.pages import evaluation
from lift.pages.bars import columns_of
from lift.pages.evaluation import Compared, Judged, hash_of, write_evaluation
from lift.pages.evaluation_items import Showing, browser_of
from lift.pages.evaluation_tables import APART, figure, overview_of, pairing_of, sheet_of
from lift.pages.heat import heat_of, painted
from lift.pages.judged import groups_of
from lift.pages.pictures import Pictures
from lift.pages.templates import source as script_of
from lift.pages.words import value_words
from lift.terms import EvalResult, Metric
from page_reader import HOSTILE, Balance

COLOURS = ("red", "lime", "blue", "gold", "teal", "pink", "navy", "gray", "plum", "tan")
BREAKING = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1>"


class Colours:
    """Sees the mean colour of a picture, and reads the first name of a colour in a text."""

    saw = ()

    def __init__(self, name: str, sees: tuple[float, float, float]) -> None:
        self.name, self.sees = name, np.array(sees)

    def encode_images(self, images):
        mean = [
            np.asarray(Image.open(io.BytesIO(one)).convert("RGB")).mean((0, 1)) for one in images
        ]
        return self._unit(np.stack(mean) * self.sees)

    def encode_texts(self, texts):
        rows = []
        for text in texts:
            word = next((w for w in re.findall(r"\w+", text.lower()) if w in COLOURS), "white")
            rows.append(ImageColor.getrgb(word)[:3])
        return self._unit(np.array(rows, np.float64))

    def _unit(self, rows):
        rows = np.concatenate([rows / 255, np.full((len(rows), 1), 0.2)], axis=1)
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def heatmaps(model: str, data: str, index: int, text: str):
    """The left half of every image is near to everything, for one of the models."""
    if model != "sees colours":
        return None
    return np.array([[0.5, 0.1], [0.5, 0.1]], np.float32), (0.0, 0.25, 1.0, 0.75)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "plain.tar"
    with tarfile.open(path, "w") as tar:
        for word in COLOURS:
            picture = io.BytesIO()
            Image.new("RGB", (24, 16), word).save(picture, "PNG")
            hostile = f" {BREAKING}" if word == "red" else ""
            texts = f"a {word} field{hostile}\nall of it {word}"
            about = json.dumps({"colour": word}).encode()
            parts = {"png": picture.getvalue(), "txt": texts.encode(), "json": about}
            for kind, content in parts.items():
                entry = tarfile.TarInfo(f"photo-{word}.{kind}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return path


@pytest.fixture(scope="module")
def found(photos) -> dict[str, list[EvalResult]]:
    """Return what two models got; one of them was asked one thing more, and one thing otherwise."""
    both = [f"retrieval:data={photos}", f"zeroshot:data={photos},label=colour"]
    both += ["compositional:data=[scenes:count=6]"]
    asked = {
        "sees colours": (Colours("sees colours", (1, 1, 1)), [*both, f"mixed:data={photos}"]),
        "sees no red": (
            Colours("sees no red", (0, 1, 1)),
            [*both, f"retrieval:data={photos},protocol=first-caption"],
        ),
    }
    return {
        name: evaluate(encoder, [parse_plan(words) for words in plans], progress=False)
        for name, (encoder, plans) in asked.items()
    }


@pytest.fixture(scope="module")
def models(found) -> list[Judged]:
    return [
        Judged(
            name=name,
            results=tuple(results),
            facts={"Text space": "colours", "Identity": HOSTILE},
            efficiency={"Images a second": 812.5} | ({"Memory": "1 MB"} if number else {}),
            config=[("optim.lr", 0.001)],
            commands=[f"lift eval {name}", "lift eval both"],
            versions={"torch": "2.11"},
        )
        for number, (name, results) in enumerate(found.items())
    ]


@pytest.fixture(scope="module")
def pictures(photos) -> dict:
    images = {}
    for words in (str(photos), "scenes:count=6"):
        source = open_source(words)
        keys = [key for key, _ in source.texts()]
        images[source.name] = {key: source.read(i).image for i, key in enumerate(keys)}
    return images


@pytest.fixture(scope="module")
def page(models, pictures, tmp_path_factory) -> Path:
    differences, notes = compared([models[0].results], [models[1].results])
    against = Compared(
        ours=models[0].name, theirs=models[1].name, differences=differences, notes=notes
    )
    return write_evaluation(
        models,
        tmp_path_factory.mktemp("page"),
        thumbnails=pictures,
        heatmaps=heatmaps,
        comparisons=[against],
    )


def rows_of(models: list[Judged]):
    return [(group, sheet_of(group, columns_of(["a", "b"]))) for group in groups_of(models)]


# --- what stands side by side --------------------------------------------------------------------


def test_differences_have_a_sign_and_a_unit_and_mappings_are_words():
    assert figure("top-1 (effect of pixels)", -0.012) == "-1.2 points"
    assert figure("top-1 (without pixels)", 0.25) == "25.0%" and figure("median rank", 42.0) == "42"
    assert value_words({"flip": 2.0, "half": 3.5}) == "flip 2, half 3.5"


def test_the_page_is_one_safe_file(page):
    text = page.read_text()
    seen = Balance()
    seen.feed(text)
    assert not seen.open and not seen.images_without_words
    assert all(one.startswith(("data:image/", "#")) for one in seen.references)
    assert seen.tags.count("script") == 1 and BREAKING not in text and HOSTILE not in text
    assert "&lt;/script&gt;" in text
    assert page.name == "evaluation.html" and text.count("<h1>") == 1


def test_the_script_is_the_one_that_the_policy_allows(page):
    text = page.read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    script = re.search(r"<script>(.*?)</script>", text, re.S)
    assert policy and script
    assert f"script-src '{hash_of(script.group(1))}'" in policy.group(1)
    assert script.group(1) == script_of("evaluation.js")
    assert policy.group(1).startswith("default-src 'none';") and "unsafe-eval" not in policy.group(
        1
    )
    # Computed by openssl: printf 'alert(1)' | openssl dgst -sha256 -binary | base64
    assert hash_of("alert(1)") == "sha256-bhHHL3z2vDgxUt0W3dWQOrprscmda2Y5pLsLg4GF+pI="


def test_the_same_results_give_the_same_bytes(models, pictures, tmp_path):
    one = write_evaluation(models, tmp_path, thumbnails=pictures, heatmaps=heatmaps)
    other = write_evaluation(
        models, tmp_path, out=tmp_path / "b.html", thumbnails=pictures, heatmaps=heatmaps
    )
    assert one.read_bytes() == other.read_bytes()


def test_no_row_holds_two_protocols(models):
    shown = rows_of(models)
    protocols = [(g.evaluation, g.protocol, [r is not None for r in g.results]) for g, _ in shown]
    retrieval = [one for one in protocols if one[0] == "retrieval"]
    assert [one[1:] for one in retrieval] == [
        ("all-captions", [True, True]),
        ("first-caption", [False, True]),
    ]
    for group, sheet in shown:
        for row in sheet.rows:
            for result, cell in zip(group.results, row.cells, strict=True):
                assert (cell.value == "") == (result is None)
    assert len(overview_of(groups_of(models), columns_of(["a", "b"]))) == len(shown)


@pytest.mark.parametrize("name", ["version", "protocol", "data", "digest"])
def test_what_differs_in_any_way_stands_apart(models, name):
    mine = models[0].results[0]
    changed = mine.version + 1 if name == "version" else "another"
    other = dataclasses.replace(mine, **{name: changed})
    groups = groups_of([Judged(name="a", results=(mine,)), Judged(name="b", results=(other,))])
    assert [[r is not None for r in g.results] for g in groups] == [[True, False], [False, True]]
    assert all(group.apart is (name == "digest") for group in groups)
    notes = [said.text for said in sheet_of(groups[0], columns_of(["a", "b"])).notes]
    assert (APART in notes) is (name == "digest")


def test_what_was_asked_twice_is_shown_twice(models):
    result = models[0].results[0]
    groups = groups_of([Judged(name="a", results=(result, result))])
    assert len(groups) == 2 and all(group.apart for group in groups)


def test_figures_are_those_of_the_results(page, models):
    text = page.read_text()
    sheets = {(g.evaluation, g.protocol): (g, s) for g, s in rows_of(models)}
    group, sheet = sheets["retrieval", "all-captions"]
    row = next(row for row in sheet.rows if row.primary)
    assert row.name == "text to image R@10" and row.items == "10"
    for result, cell, (_, bar) in zip(group.results, row.cells, row.bars, strict=True):
        assert result is not None
        metric = result.metrics[result.primary]
        assert cell.value == f"{100 * metric.value:.1f}%"
        assert cell.interval == f"{100 * metric.low:.1f}% to {100 * metric.high:.1f}%"
        assert bar.at == round(100 * metric.value, 2) and bar.chance == 100.0
        assert cell.value in text and cell.interval in text
    assert "Chance" in text and row.chance == "100.0%"
    rank = next(row for row in sheet.rows if "rank" in row.name)
    assert not rank.bars and rank.chance == ""


def test_notes_stand_beside_the_figures_that_they_are_about(models):
    first, second = models
    noted = dataclasses.replace(
        first.results[0], notes=("both", "3 of these images were trained on")
    )
    other = dataclasses.replace(second.results[0], notes=("both", "the text encoder saw these"))
    models = [
        dataclasses.replace(first, results=(noted,)),
        dataclasses.replace(second, results=(other,)),
    ]
    ((_, sheet),) = rows_of(models)
    assert [("".join(c.letter for c in one.columns), one.text) for one in sheet.notes] == [
        ("", "both"),
        ("A", "3 of these images were trained on"),
        ("B", "the text encoder saw these"),
    ]


def test_counts_are_told_and_pooled_where_equal(page, models):
    text = page.read_text()
    assert "10 images, 20 captions" in text and text.count("Protocol: all-captions") == 1
    assert "<dt>" in text and "812.5" in text and "1 MB" in text  # costs, also of one model only
    assert text.count("lift eval both") == 1  # a command that both have


def test_differences_are_those_of_the_comparison(page, models):
    differences, notes = compared([models[0].results], [models[1].results])
    found = pairing_of(Compared(ours="a", theirs="b", differences=differences, notes=notes))
    assert {row.title.split()[0] for row in found.primary} == {
        "Retrieval", "Zeroshot", "Compositional",
    }  # fmt: skip
    top = next(one for one in differences if one.metric == "top-1")
    row = next(row for row in found.primary if row.metric == "top-1")
    assert top.low is not None and top.mean > 0
    assert row.difference == f"{100 * top.mean:+.1f} points" and row.verdict == top.verdict
    assert row.bar is not None and row.bar.chance == 50.0 and row.bar.at > 50.0
    assert found.notes == tuple(notes) and len(notes) == 2
    assert all(note.replace("'", "&#39;") in page.read_text() for note in notes)


# --- items ---------------------------------------------------------------------------------------


def showing(models, pictures, **changed) -> Showing:
    names = tuple(model.name for model in models)
    own = Showing(Pictures(pictures), Pictures(pictures, 64), heatmaps, names, True)
    return dataclasses.replace(own, **changed)


def test_items_of_both_models_are_one(models, pictures):
    group = next(g for g in groups_of(models) if g.evaluation == "zeroshot")
    browser = browser_of(group, columns_of([m.name for m in models]), showing(models, pictures))
    both = [item for item in browser.items if all(given.asked for given in item.given)]
    assert both == list(browser.items[: len(both)]) and len(both) >= 4
    assert browser.count("differ") > 0
    for item in browser.items:
        told = [given.right for given in item.given if given.asked]
        for place, result in enumerate(group.results):
            assert result is not None
            mine = [e for e in result.examples if e["key"] == item.key]
            assert item.given[place].asked is bool(mine)
            assert not mine or item.given[place].right is mine[0]["right"]
        shows = ("right",) if all(told) else ("wrong",) if not any(told) else ("wrong", "differ")
        assert item.shows == shows
        assert item.picture and item.picture.startswith("data:image/jpeg;base64,")
        heats = [given.heat is not None for given in item.given]
        assert heats == [item.given[0].asked, False]


def test_equal_questions_are_never_one_item(pictures):
    example = {"key": "photo-red", "index": 0, "caption": "a", "foil": "b", "right": True}
    result = EvalResult(
        "compositional", 1, "p", "plain.tar", "m", {"m": Metric(1, 1, 1, 1)}, {},
        examples=(example, {**example, "right": False, "caption_score": 0.3}),
    )  # fmt: skip
    models = [Judged(name="a", results=(result,))]
    (group,) = groups_of(models)
    browser = browser_of(group, columns_of(["a"], alone=""), showing(models, pictures))
    assert [item.shows for item in browser.items] == [("right",), ("wrong",)]


def test_unknown_examples_are_listed(pictures, tmp_path):
    example = {"key": "photo-red", "index": 0, "right": False, "pointed at": [3, 4], "iou": 0.25}
    result = EvalResult(
        "pointing", 1, "p", "plain.tar", "m", {"m": Metric(1, 1, 1, 1)}, {}, examples=(example,)
    )
    text = write_evaluation(
        [Judged(name="a", results=(result,))], tmp_path, thumbnails=pictures
    ).read_text()
    assert "<dt>pointed at</dt><dd>3, 4</dd>" in text and "<dt>iou</dt><dd>0.25</dd>" in text


@pytest.mark.parametrize("top", [5, "abc", [3, None], {"key": 1}, [{"score": "x", "text": 4}]])
def test_examples_of_any_form_are_shown(top, tmp_path):
    deep: list = []
    for _ in range(3000):
        deep = [deep]
    examples = (
        {"key": 7, "index": "0", "right": None, "top": top, "query": "q" * 9000},
        {"a": deep},
    )
    result = EvalResult("e", 1, "p", "d", "m", {"m": Metric(1, 1, 1, 1)}, {}, examples=examples)
    text = write_evaluation([Judged(name="a", results=(result,))], tmp_path).read_text()
    assert text.count('<details class="item"') == 1 and "q" * 1000 + " …" in text
    assert "q" * 1001 not in text


def test_hostile_names_and_examples_are_escaped(tmp_path):
    example = {"key": HOSTILE, "index": 0, "query": BREAKING, "right": True, HOSTILE: HOSTILE}
    top = [{"key": HOSTILE, "score": 0.5, "right": True}]
    result = EvalResult(
        HOSTILE, 1, BREAKING, HOSTILE, HOSTILE, {HOSTILE: Metric(0.5, 0.4, 0.6, 10)},
        {BREAKING: 1}, notes=(BREAKING, "lone \ud800 surrogate"),
        examples=({**example, "top": top},),
    )  # fmt: skip
    model = Judged(
        name=BREAKING, results=(result,), facts={HOSTILE: HOSTILE}, efficiency={BREAKING: HOSTILE},
        config=[(HOSTILE, BREAKING)], commands=[BREAKING], versions={HOSTILE: 1}, notes=[BREAKING],
    )  # fmt: skip
    text = write_evaluation([model, model], tmp_path).read_text()
    seen = Balance()
    seen.feed(text)
    assert not seen.open and seen.tags.count("script") == 1 and "<img src=x" not in text
    assert HOSTILE not in text and "lone ? surrogate" in text
    assert "(1)" in text and "(2)" in text  # two models of one name


def test_one_model_and_none(models, tmp_path):
    text = write_evaluation(models[:1], tmp_path).read_text()
    assert "Models disagree" not in text and "Value" in text and "Items</h4>" in text
    assert 'class="letter' not in text
    with pytest.raises(ConfigError, match="needs a model"):
        write_evaluation([], tmp_path)
    bare = write_evaluation([Judged(name="a", results=())], tmp_path).read_text()
    assert "No evaluation was run" in bare


def test_pictures_that_are_not_there_are_told(models, pictures, tmp_path):
    known = {name: images for name, images in pictures.items() if "scenes" not in name}
    broken = {name: dict(images) for name, images in known.items()}
    next(iter(broken.values()))["photo-red"] = b"no image"
    text = write_evaluation(models, tmp_path, thumbnails=broken).read_text()
    assert "the data was not at hand" in text and "could not be read as a picture" in text


def test_a_page_that_would_be_too_large_shows_fewer_items(models, pictures, tmp_path, monkeypatch):
    whole = write_evaluation(models, tmp_path, thumbnails=pictures)
    items = whole.read_text().count('<details class="item"')
    monkeypatch.setattr(evaluation, "MOST_BYTES", whole.stat().st_size // 2)
    less = write_evaluation(models, tmp_path, thumbnails=pictures)
    assert less.stat().st_size <= evaluation.MOST_BYTES
    assert 0 < less.read_text().count('<details class="item"') < items
    assert re.search(r"\d+ items of \d+ that the results keep", less.read_text())
    monkeypatch.setattr(evaluation, "MOST_BYTES", 10)  # nothing is left to leave out
    assert '<details class="item"' not in write_evaluation(models, tmp_path).read_text()


def test_a_missing_package_is_told_before_the_work(models, tmp_path, monkeypatch):
    def missing(name, *_):
        raise MissingPackage(name)

    monkeypatch.setattr(plugins, "require", missing)
    with pytest.raises(MissingPackage, match="jinja2"):
        write_evaluation(models, tmp_path)
    assert not list(tmp_path.iterdir())


# --- heatmaps ------------------------------------------------------------------------------------


def test_near_is_bright_and_far_is_dark():
    pixels = painted(np.array([[0.1, 0.2, 0.3]], np.float32)).astype(int)[0]
    assert pixels[0, :3].sum() < 100 and pixels[2, :3].sum() > 400
    assert pixels[1, 3] == 0 and pixels[0, 3] > 100 and pixels[2, 3] > 100
    assert (painted(np.full((2, 2), 0.7, np.float32))[..., 3] == 0).all()


def test_a_heatmap_lies_where_its_frame_is():
    found = heat_of(heatmaps, "sees colours", "d", 0, "t")
    assert found is not None and (found.left, found.top, found.width, found.height) == (
        0,
        25,
        100,
        50,
    )
    assert (found.low, found.high, found.text) == ("0.10", "0.50", "t")
    assert heat_of(heatmaps, "another", "d", 0, "t") is None
    assert heat_of(None, "sees colours", "d", 0, "t") is None


@pytest.mark.parametrize(
    ("grid", "frame"),
    [
        (np.full((2, 2), np.nan, np.float32), (0, 0, 1, 1)),
        (np.zeros((0, 2), np.float32), (0, 0, 1, 1)),
        (np.zeros((2, 300), np.float32), (0, 0, 1, 1)),
        (np.zeros((2, 2), np.float32), (0.5, 0, 0.5, 1)),
    ],
)
def test_what_can_not_be_drawn_is_left_out(grid, frame):
    assert heat_of(lambda *_: (grid, frame), "m", "d", 0, "t") is None


# --- in a browser --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("browser")) as found:
        yield found


COLUMN = """Array.from(document.querySelectorAll('#evaluation-1 .figures tbody tr'))
    .map(row => row.cells[3].dataset.value)"""
HEADING = "#evaluation-1 .figures thead th:nth-child(4)"
ORDER = f"document.querySelector('{HEADING}').getAttribute('aria-sort')"


def values(tab: Page) -> list[float]:
    return [float(value) for value in tab.run(COLUMN)]


def test_tables_sort_by_click_and_by_keyboard(tab, page):
    tab.open(page)
    before = values(tab)
    assert before not in (sorted(before), sorted(before, reverse=True)) and tab.run(ORDER) == "none"
    tab.click(f"{HEADING} button")
    assert values(tab) == sorted(before, reverse=True) and tab.run(ORDER) == "descending"
    for key, order in (("Enter", "ascending"), ("Space", "descending")):
        tab.focus(f"{HEADING} button")
        tab.press(key)
        assert tab.run(ORDER) == order
        assert values(tab) == sorted(before, reverse=order == "descending")
    tab.press("Tab")
    assert tab.run("getComputedStyle(document.activeElement).outlineStyle") != "none"
    tab.click("#evaluation-1 .figures thead th button")  # by name
    names = tab.run(
        "Array.from(document.querySelectorAll('#evaluation-1 .figures tbody th'))"
        ".map(e => e.textContent)"
    )
    assert names == sorted(names, key=str.lower) and tab.run(ORDER) == "none"
    assert not tab.errors and not tab.requests


def test_models_that_were_not_asked_come_last(tab, page):
    tab.open(page)
    last = "document.querySelector('#overview tbody tr:last-child td.value').textContent"
    for _ in range(2):
        tab.click("#overview thead th.value button")
        assert "not asked" in tab.run(last)


def test_items_open_and_are_filtered(tab, page, tmp_path):
    tab.open(page)
    items = "#items-2 details.item"
    opened = "document.querySelectorAll('details.item[open]').length"
    shown = f"Array.from(document.querySelectorAll('{items}')).filter(e => e.offsetHeight)"
    tab.click(f"{items} summary")
    assert tab.run(opened) == 1
    assert tab.run("document.querySelector('.item[open] .models').offsetHeight") > 50
    assert tab.run("document.querySelector('.item[open] .over').naturalWidth") == 2
    tab.press("Escape")
    assert tab.run(opened) == 0
    tab.press("Enter")  # the keyboard is still there
    assert tab.run(opened) == 1
    count = tab.run(f"document.querySelectorAll('{items}').length")
    for show in ("wrong", "right", "differ", ""):
        tab.click(f"#items-2 button[data-show='{show}']")
        kinds = [kind.split() for kind in tab.run(f"{shown}.map(e => e.dataset.shows)")]
        assert kinds and all(not show or show in kind for kind in kinds)
        assert (len(kinds) == count) is (show == "")
        told = tab.run("document.querySelector('#items-2 [role=status]').textContent")
        assert told == f"{len(kinds)} of {count} items shown"
        pressed = f"document.querySelector(\"#items-2 button[data-show='{show}']\").ariaPressed"
        assert tab.run(pressed) == "true"
    assert not tab.errors and not tab.requests and tab.run("window.hacked") is None
    assert tab.screenshot(tmp_path / "wide.png").stat().st_size > 10_000


def test_a_phone_has_nothing_beside_the_page(tab, page, tmp_path):
    tab.open(page, width=360, height=780)
    tab.run("document.querySelectorAll('details').forEach(e => { e.open = true; })")
    assert tab.overflow() <= 0
    assert tab.screenshot(tmp_path / "narrow.png").stat().st_size > 10_000
    assert not tab.errors and not tab.requests


def test_all_can_be_read_without_scripts(tab, page):
    tab.scripting(False)
    try:
        tab.open(page)
        assert tab.run("document.querySelectorAll('.filters:not([hidden])').length") == 0
        assert tab.run("document.querySelectorAll('th button').length") == 0
        tab.click("#items-2 details.item summary")
        assert tab.run("document.querySelectorAll('details.item[open]').length") == 1
    finally:
        tab.scripting(True)


CONTRAST = """(() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (rgb) => {
    const [r, g, b] = rgb.slice(0, 3).map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const texts = Array.from(document.querySelectorAll("body *")).filter((e) =>
    Array.from(e.childNodes).some((n) => n.nodeType === 3 && n.textContent.trim())
    && e.getClientRects().length && !e.closest(".hidden"));
  return Math.min(...texts.map((e) => {
    let under = e, ground = null;
    while (under && !ground) {
      const found = channels(getComputedStyle(under).backgroundColor);
      if (found.length < 4 || found[3] > 0) ground = found;
      under = under.parentElement;
    }
    const [a, b] = [light(channels(getComputedStyle(e).color)), light(ground)];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  }));
})()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_told_from_its_ground(tab, page, scheme):
    tab.call(
        "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
    )
    tab.open(page)
    tab.run("document.querySelectorAll('details').forEach(e => { e.open = true; })")
    assert tab.run(CONTRAST) >= 4.5
    tab.call("Emulation.setEmulatedMedia", features=[])


def test_headings_are_in_order(page):
    levels = [int(level) for level in re.findall(r"<h([1-6])", page.read_text())]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
