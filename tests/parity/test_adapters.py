"""clip_benchmark, mteb and open_clip's own metrics run a model of ours, to the figures of ours."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import contender_folders
import lift
from lift import plugins
from lift.config import part
from lift.terms import Caption, Foil, Sample

pytestmark = [
    pytest.mark.parity,
    # theirs: an array of one number as a number, unclosed files, ...
    pytest.mark.filterwarnings("ignore"),
]

COUNT, WORDS = 60, ("red", "green", "blue", "grey", "dark", "bright", "plain", "striped")
CLASSES = ["red thing", "green thing", "blue thing", "grey thing", "dark thing", "bright thing"]
TEMPLATES = ["a photo of a {}.", "the {}"]


def picture(number: int) -> Image.Image:
    rng = np.random.default_rng(number)
    low = rng.integers(0, 256, (3, 3, 3), np.uint8)
    return Image.fromarray(low).resize((40 + number % 7, 36), Image.Resampling.BICUBIC)


def content(number: int) -> bytes:
    file = io.BytesIO()
    picture(number).save(file, "PNG")
    return file.getvalue()


def captions(number: int) -> tuple[str, ...]:
    rng = np.random.default_rng(1000 + number)
    return tuple(f"{' '.join(rng.choice(WORDS, 4))} number {number} {k}" for k in range(3))


class Pairs:
    """The images with captions, a class and a foil each, as a Source."""

    name, groups = "pairs", (COUNT,)

    def __len__(self) -> int:
        return COUNT

    def read(self, index: int) -> Sample:
        own = captions(index)
        return Sample(
            f"{index}",
            content(index),
            tuple(Caption(text) for text in own),
            {"class_name": CLASSES[index % len(CLASSES)]},
            foils=(Foil("swap", own[0], foil(index)),),
        )

    def texts(self):
        return ((f"{i}", self.read(i).captions) for i in range(COUNT))


def foil(index: int) -> str:
    return captions((index + 7) % COUNT)[1]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Return a model whose head is fitted to half of the pairs, and its folder."""
    folder = contender_folders.bundle(tmp_path_factory.mktemp("adapted") / "model", resize="squash")
    made = lift.load(folder, device="cpu")
    half = range(0, COUNT, 2)
    h = torch.from_numpy(made.features([content(i) for i in half])).double()
    rows = torch.from_numpy(made.encode_texts([captions(i)[0] for i in half])).double()
    matrix = made.side.head.layers[0]
    ones = torch.cat([h, torch.ones(len(h), 1)], 1)
    found = torch.linalg.lstsq(ones, rows, driver="gelsd").solution.float()
    with torch.no_grad():
        matrix.weight.copy_(found[:-1].T)
        matrix.bias.copy_(found[-1])
    made.save(folder)
    return lift.load(folder, device="cpu"), folder


def ours(name: str, model, **options) -> dict[str, float]:
    result = plugins.build(part("evals", name, **options)).run(model, Pairs())
    return {name: metric.value for name, metric in result.metrics.items()}


@pytest.fixture(scope="module")
def theirs(model):
    """Return clip_benchmark's view of the model, with its loader registered as ours."""
    pytest.importorskip("clip_benchmark", reason="needs the parity environment")
    from clip_benchmark.models import load_clip

    from lift.adapters import clip_benchmark

    clip_benchmark.register()
    return load_clip("lift", str(model[1]), "", None, device="cpu")


def batches(transform, second, size=16):
    for start in range(0, COUNT, size):
        numbers = range(start, min(start + size, COUNT))
        yield torch.stack([transform(picture(i)) for i in numbers]), [second(i) for i in numbers]


def test_what_the_benchmark_sees_is_the_model(model, theirs):
    adapted, transform, tokenizer = theirs
    pixels = torch.stack([transform(picture(i)) for i in range(4)])
    z = adapted.eval().encode_image(pixels).numpy()
    assert np.array_equal(z, model[0].encode_images([content(i) for i in range(4)]))
    texts = list(captions(0))
    z = adapted.encode_text(tokenizer(texts).to("cpu")).numpy()
    assert np.array_equal(z, model[0].encode_texts(texts))
    with torch.autocast("cpu", torch.bfloat16):  # as the benchmark runs it
        again = adapted.encode_image(pixels)
    assert again.dtype == torch.float32
    assert np.array_equal(again.numpy(), adapted.encode_image(pixels).numpy())


@pytest.mark.parametrize("protocol", ["all-captions", "first-caption"])
def test_retrieval(model, theirs, protocol):
    from clip_benchmark.metrics import zeroshot_retrieval

    adapted, transform, tokenizer = theirs
    taken = 3 if protocol == "all-captions" else 1
    pairs = list(batches(transform, lambda i: list(captions(i)[:taken])))
    expected = zeroshot_retrieval.evaluate(
        adapted, pairs, tokenizer, "cpu", amp=False, recall_k_list=[1, 5, 10]
    )
    found = ours("retrieval", model[0], protocol=protocol)
    for k in (1, 5, 10):
        assert 0 < expected[f"image_retrieval_recall@{k}"] < 1
        to_image, to_text = found[f"text_to_image/R@{k}"], found[f"image_to_text/R@{k}"]
        assert to_image == pytest.approx(expected[f"image_retrieval_recall@{k}"], abs=1e-6)
        assert to_text == pytest.approx(expected[f"text_retrieval_recall@{k}"], abs=1e-6)


def test_retrieval_equals_open_clips_own(model):
    metrics = pytest.importorskip("open_clip_train.train")
    images = torch.from_numpy(model[0].encode_images([content(i) for i in range(COUNT)]))
    texts = torch.from_numpy(model[0].encode_texts([captions(i)[0] for i in range(COUNT)]))
    expected = metrics.get_clip_metrics(images, texts, 100.0)
    found = ours("retrieval", model[0], protocol="first-caption")
    for direction in ("image_to_text", "text_to_image"):
        for k in (1, 5, 10):
            wanted = float(expected[f"{direction}_R@{k}"])
            assert found[f"{direction}/R@{k}"] == pytest.approx(wanted, abs=1e-6)


def test_zero_shot(model, theirs):
    from clip_benchmark.metrics import zeroshot_classification

    adapted, transform, tokenizer = theirs
    pixels = torch.cat([images for images, _ in batches(transform, int)])
    labelled = torch.utils.data.TensorDataset(pixels, torch.arange(COUNT) % len(CLASSES))
    labelled.classes = CLASSES
    loader = torch.utils.data.DataLoader(labelled, batch_size=16)
    expected = zeroshot_classification.evaluate(
        adapted, loader, tokenizer, CLASSES, [t.replace("{}", "{c}") for t in TEMPLATES], "cpu",
        amp=False, verbose=False,
    )  # fmt: skip
    found = ours("zeroshot", model[0], templates=tuple(TEMPLATES), classes=tuple(CLASSES))
    assert 0 < expected["acc1"] < expected["acc5"] < 1
    assert found["top-1"] == pytest.approx(expected["acc1"], abs=1e-6)
    assert found["top-5"] == pytest.approx(expected["acc5"], abs=1e-6)
    assert found["mean per class"] == pytest.approx(expected["mean_per_class_recall"], abs=1e-6)


def test_zero_shot_equals_open_clips_own(model, theirs):
    library = pytest.importorskip("open_clip")
    adapted, transform, tokenizer = theirs

    class Named:
        """Their classifier asks for rows of unit length by an argument."""

        def encode_text(self, tokens, normalize=False):
            return adapted.encode_text(tokens)

    weights = library.build_zero_shot_classifier(Named(), tokenizer, CLASSES, TEMPLATES_OF, 4)
    logits = torch.cat([adapted.encode_image(x) for x, _ in batches(transform, int)]) @ weights
    truth = torch.arange(COUNT) % len(CLASSES)
    expected = float((logits.argmax(1) == truth).float().mean())
    found = ours("zeroshot", model[0], templates=tuple(TEMPLATES), classes=tuple(CLASSES))
    assert found["top-1"] == pytest.approx(expected, abs=1e-6)


TEMPLATES_OF = [lambda name, t=t: t.replace("{}", name) for t in TEMPLATES]


def test_captions_against_foils(model, theirs):
    from clip_benchmark.metrics import image_caption_selection

    adapted, transform, tokenizer = theirs
    pairs = list(batches(transform, lambda i: [captions(i)[0], foil(i)]))
    expected = image_caption_selection.evaluate(adapted, pairs, tokenizer, "cpu", amp=False)
    found = plugins.build(part("evals", "compositional", blind=False, oracle=False))
    result = found.run(model[0], Pairs())
    assert 0 < expected["text_acc"] < 1
    assert result.metrics[result.primary].value == pytest.approx(expected["text_acc"], abs=1e-6)


def write_shards(root: Path) -> None:
    """Write the images in clip_benchmark's form of tar shards, with classes and with captions."""
    for kind in ("classes", "captions"):
        folder = root / kind / "test"
        folder.mkdir(parents=True)
        (folder / "nshards.txt").write_text("1")
        with tarfile.open(folder / "0.tar", "w") as tar:
            for i in range(COUNT):
                label = f"{i % len(CLASSES)}" if kind == "classes" else "\n".join(captions(i))
                ending = "cls" if kind == "classes" else "txt"
                for name, data in (("png", content(i)), (ending, label.encode())):
                    entry = tarfile.TarInfo(f"{i:04}.{name}")
                    entry.size = len(data)
                    tar.addfile(entry, io.BytesIO(data))
        (root / kind / "dataset_type.txt").write_text(
            "classification" if kind == "classes" else "retrieval"
        )
    (root / "classes" / "classnames.txt").write_text("\n".join(CLASSES))
    templates = "\n".join(template.replace("{}", "{c}") for template in TEMPLATES)
    (root / "classes" / "zeroshot_classification_templates.txt").write_text(templates)


def test_its_own_console_runs_a_folder_of_ours(model, tmp_path):
    pytest.importorskip("clip_benchmark")
    from lift.adapters import clip_benchmark

    write_shards(tmp_path)
    words = ["eval", "--model", "lift", "--pretrained", str(model[1]), "--no_amp", "--quiet"]
    words += ["--num_workers", "0", "--batch_size", "16"]
    for kind, task in (("classes", "zeroshot_classification"), ("captions", "zeroshot_retrieval")):
        of = ["--dataset", f"wds/{kind}", "--dataset_root", str(tmp_path / kind), "--task", task]
        clip_benchmark.main([*words, *of, "--output", str(tmp_path / f"{kind}.json")])
    classes = json.loads((tmp_path / "classes.json").read_text())
    assert classes["model"] == "lift" and classes["pretrained"] == str(model[1])
    zeroshot = ours("zeroshot", model[0], templates=tuple(TEMPLATES), classes=tuple(CLASSES))
    assert classes["metrics"]["acc1"] == pytest.approx(zeroshot["top-1"], abs=1e-6)
    told = json.loads((tmp_path / "captions.json").read_text())["metrics"]
    retrieval = ours("retrieval", model[0])
    assert told["image_retrieval_recall@5"] == pytest.approx(
        retrieval["text_to_image/R@5"], abs=1e-6
    )


# --- mteb ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tasks():
    """Return local tasks of mteb over the same pairs; its own data live on hubs."""
    pytest.importorskip("mteb", reason="needs the parity environment")
    from datasets import Dataset, DatasetDict
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.abstasks.zeroshot_classification import AbsTaskZeroShotClassification

    said = {
        "description": "Generated pictures.",
        "reference": "https://example.org",
        "dataset": {"path": "NA", "revision": "NA"},
        "eval_splits": ["test"],
        "eval_langs": ["eng-Latn"],
        "date": ("2022-12-22", "2022-12-22"),
        "dialect": [],
        "domains": [],
        "task_subtypes": [],
        "license": "cc-by-4.0",
        "annotations_creators": "derived",
        "modalities": ["image", "text"],
        "sample_creation": "found",
        "bibtex_citation": "",
    }
    images = [picture(i) for i in range(COUNT)]

    class Classes(AbsTaskZeroShotClassification):
        metadata = TaskMetadata(
            type="ZeroShotClassification", name="LiftClasses", main_score="accuracy",
            category="i2t", **said,
        )  # fmt: skip

        def load_data(self, num_proc=None, **kwargs) -> None:
            rows = {"image": images, "label": [i % len(CLASSES) for i in range(COUNT)]}
            self.dataset = DatasetDict({"test": Dataset.from_dict(rows)})
            self.data_loaded = True

        def get_candidate_labels(self) -> list[str]:
            return [TEMPLATES[0].replace("{}", name) for name in CLASSES]

    class Search(AbsTaskRetrieval):
        metadata = TaskMetadata(
            type="Any2AnyRetrieval", name="LiftSearch", main_score="recall_at_5",
            category="t2i", **said,
        )  # fmt: skip

        def load_data(self, num_proc=None, **kwargs) -> None:
            queries = {
                "id": [f"q{i}" for i in range(COUNT)],
                "text": [captions(i)[0] for i in range(COUNT)],
            }
            corpus = {"id": [f"d{i}" for i in range(COUNT)], "image": images}
            data = RetrievalSplitData(
                queries=Dataset.from_dict(queries),
                corpus=Dataset.from_dict(corpus),
                relevant_docs={f"q{i}": {f"d{i}": 1} for i in range(COUNT)},
                top_ranked=None,
            )
            self.dataset = {"default": {"test": data}}
            self.data_loaded = True

    return Classes(), Search()


def test_mteb_runs_it(model, tasks, tmp_path):
    import mteb
    from mteb.models.models_protocols import EncoderProtocol

    from lift.adapters.mteb import model as adapted

    judged = adapted(str(model[1]), device="cpu")
    assert isinstance(judged, EncoderProtocol)
    found = mteb.evaluate(judged, list(tasks), cache=None, show_progress_bar=False)
    assert found.model_name == f"lift/{model[0].name}"
    classes, search = (result.scores["test"][0] for result in found.task_results)
    zeroshot = ours("zeroshot", model[0], templates=tuple(TEMPLATES[:1]), classes=tuple(CLASSES))
    assert 0 < classes["accuracy"] < 1
    assert classes["accuracy"] == pytest.approx(zeroshot["top-1"], abs=1e-6)
    retrieval = ours("retrieval", model[0], protocol="first-caption")
    for k in (1, 5, 10):  # mteb rounds to five digits
        wanted = retrieval[f"text_to_image/R@{k}"]
        assert search[f"recall_at_{k}"] == pytest.approx(wanted, abs=5.1e-6)


def test_mteb_gets_one_vector_an_item(model):
    from lift.adapters.mteb import MtebModel

    judged, images = MtebModel(model[0]), [picture(0), picture(1)]
    texts = list(captions(0)[:2])
    both = judged.encode([{"image": images, "text": texts}])
    apart = judged.encode([{"image": images}]) + judged.encode([{"text": texts}])
    np.testing.assert_allclose(
        both, apart / np.linalg.norm(apart, axis=1, keepdims=True), atol=1e-6
    )
    cosines = judged.similarity(both, both)
    assert torch.allclose(cosines.diagonal(), torch.ones(2))
    assert torch.allclose(judged.similarity_pairwise(both, both[::-1].copy()), cosines[0, 1])
