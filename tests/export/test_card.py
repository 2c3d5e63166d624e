"""The model card: what it says, of whom, and that a stranger's words can't break it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from embedder_models import model
from lift.bundle import load
from lift.config import Part, part
from lift.export import _card
from lift.export._card import Licences, found_results, front_matter, plain, write_card
from lift.export._protocol import Difference, Written
from lift.results import write_results
from lift.terms import EvalResult, Metric

WRITTEN = Written(
    usage='```python\nload("{folder}")\n```', notes=("It is in {folder}.",), library="timm"
)
SOURCES = [
    {"name": "one|two.csv", "samples": 1200, "licence": "CC BY 4.0"},
    {"name": "three <b>", "samples": 34, "licence": ""},
]


def bundle(**origin):
    found = model(part("text/encoders", "hashing", dimensions=24))
    found.record = dataclasses.replace(found.record, origin=origin)
    found.saw = ("coco",)
    return found


def card(made, folder: Path, *, licences=None, evals=None, differences=(), unchecked="") -> str:
    write_card(made, folder, "Dogs", WRITTEN, differences, unchecked, "2 pictures", licences, evals)
    return (folder / "README.md").read_text()


def result(**changes) -> EvalResult:
    figures = {
        "text_to_image/R@1": Metric(0.125, 0.1, 0.15, 400),
        "median rank": Metric(7, 5, 9, 400),
    }
    return EvalResult(
        **{
            "evaluation": "retrieval",
            "version": 3,
            "protocol": "all-captions",
            "data": "flickr8k",
            "primary": "text_to_image/R@1",
            "metrics": figures,
            "counts": {"images": 400},
            "chance": 0.0025,
            "notes": ("text encoder saw these captions",),
            **changes,
        }
    )


def test_it_says_what_is_known(tmp_path):
    evals = tmp_path / "evals"
    write_results([result()], evals)
    trained = {"samples": 1234, "captions": 5678, "sources": SOURCES}
    made = bundle(recipe="flickr8k_tiny", samples=99_000, trained_on=trained)
    seen = Difference(what="image vectors", count=8, largest=2e-7, tolerance=1e-5, cosine=0.9999)
    told = Difference(what="from pictures", count=8, largest=3e-3)
    text = card(made, tmp_path, evals=evals, differences=[seen, told])
    assert made.space.fingerprint in text and "| tokens at most |" in text
    assert "# Dogs\n" in text and 'load("Dogs")' in text and "- It is in Dogs." in text
    assert "1,234 images and 5,678 texts" in text
    assert "| one\\|two.csv | 1,200 | CC BY 4.0 |" in text
    assert "| three \\<b\\> | 34 | not stated |" in text
    assert "Recipe: flickr8k\\_tiny." in text and "99,000" in text
    assert "Protocol, version 3: all-captions. 400 images." in text
    assert "| text\\_to\\_image/R@1 (first to look at) | 12.5% | 10.0% to 15.0% | 400 |" in text
    assert "| median rank | 7 | 5 to 9 | 400 |" in text
    assert "Guessing scores 0.2% on the first" in text
    assert "- text encoder saw these captions" in text
    assert "| image vectors | 8 | 2.0e-07 | 0.999900 | 1e-05 |" in text
    assert "| from pictures | 8 | 3.0e-03 |  | told only |" in text
    assert "captions of coco" in text
    assert (
        "Not judged by: compositional, long captions, multilingual, robustness, zeroshot." in text
    )


def test_what_is_not_known_is_said_to_be_unknown(tmp_path):
    text = card(bundle(), tmp_path, unchecked="timm is not installed.")
    assert "Nobody kept what it was trained on." in text
    assert "None were found beside the model: nothing is claimed." in text
    assert text.count(_card._UNKNOWN) == 3
    assert "Not compared: timm is not installed." in text
    assert "license:" not in text and "base_model" not in text


def test_licences_are_the_users_or_those_of_all_sources(tmp_path):
    sources = [{**one, "licence": "CC0"} for one in SOURCES]
    made = bundle(trained_on={"samples": 1, "captions": 1, "sources": sources})
    text = card(made, tmp_path, licences=Licences(model="apache-2.0"))
    assert 'license: "apache-2.0"' in text.split("---")[1]
    assert "- These weights: apache-2.0." in text and "- Data: CC0." in text
    text = card(made, tmp_path, licences=Licences(data="ask Ann"))
    assert "- Data: ask Ann." in text and "license:" not in text


def test_the_front_matter_is_yaml_that_says_the_library(tmp_path):
    yaml = pytest.importorskip("yaml")
    made = bundle()
    named = "sentence-transformers/all-MiniLM-L6-v2"
    made.record = dataclasses.replace(
        made.record, space=dataclasses.replace(made.record.space, model=named)
    )
    text = card(made, tmp_path, licences=Licences(model="mit\n---\nevil: yes"))
    front = yaml.safe_load(text.split("\n---\n")[0].removeprefix("---"))
    assert front["library_name"] == "timm" and "lift" in front["tags"]
    assert "base_model" not in front, "an image tower is not made from a text encoder"
    # The hub refuses a name of a licence that it does not know, except as license_name.
    assert front["license"] == "other" and front["license_name"] == "mit\n---\nevil: yes"
    with_texts = dataclasses.replace(WRITTEN, texts=True)
    told = front_matter(made, with_texts, Licences(model="cc-by-nc-4.0"))
    front = yaml.safe_load(told.removeprefix("---").removesuffix("---"))
    assert front["base_model"] == [named] and front["license"] == "cc-by-nc-4.0"
    assert "license_name" not in front


def test_of_texts_trained_with_the_images_nothing_is_untouched(tmp_path):
    made = load(Path(__file__).parents[1] / "fixtures" / "bundle-v2")
    text = card(made, tmp_path)
    assert "untouched" not in text and "was not changed" not in text
    assert "Texts were trained with them" in text and "| the model's own text side |" in text
    assert "- Text side: trained with the images, under the licence of these weights." in text


def test_of_somebody_elses_tower_the_licence_is_told(tmp_path):
    made = bundle()
    folder = tmp_path / "dino"
    folder.mkdir()
    (folder / "README.md").write_text("---\nlicense: dinov3-license\n---\n")
    for name, words in (
        (str(folder), "a local folder): dinov3-license, as its own card says."),
        ("owner/nowhere", "owner/nowhere): not known"),
    ):
        tower = Part("towers", "huggingface", {"model": name})
        image = dataclasses.replace(made.record.image, tower=tower)
        made.record = dataclasses.replace(made.record, image=image)
        text = card(made, tmp_path)
        assert f"- Image tower that it began from ({words}" in text
        assert ('base_model: ["owner/nowhere"]' in text) is (name == "owner/nowhere")


def test_results_of_another_name_are_told_as_such(tmp_path):
    made, evals = bundle(), tmp_path / "evals"
    write_results([result(encoder=made.name), result(encoder="other", data="coco")], evals)
    text = card(made, tmp_path, evals=evals)
    assert "### retrieval on flickr8k\n" in text
    assert "### retrieval on coco, judged under the name other\n" in text


def test_damaged_and_hostile_results_don_t_break_it(tmp_path):
    evals = tmp_path / "evals"
    write_results([result(data="x | y\n# Buy `this` <script>", notes=("a\n\n# b",))], evals)
    (evals / "damaged.json").write_text("[" * 100_000)
    (evals / "foreign.json").write_text(json.dumps({"format": 99, "result": {}}))
    results, notes = found_results(evals)
    assert len(results) == 1 and len(notes) == 2 and all(n.startswith("Left out: ") for n in notes)
    text = card(bundle(trained_on=["no", "mapping"], data=3, recipe={}), tmp_path, evals=evals)
    assert "on x \\| y \\# Buy \\`this\\` \\<script\\>" in text
    assert "\n# b" not in text and "\n# Buy" not in text
    assert found_results(tmp_path / "none") == ([], []) == found_results(None)
    assert plain("a" * 1000) == "a" * 300


def test_lone_surrogates_are_written(tmp_path):
    assert "caf\\udcff" in card(bundle(data="caf\udcff"), tmp_path)
