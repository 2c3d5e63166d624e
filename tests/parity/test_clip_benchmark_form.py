"""Our files in clip_benchmark's form: its `build` makes a table of them, with its own figures."""

from __future__ import annotations

import csv
from argparse import Namespace

import numpy as np
import pytest
import torch

from lift import plugins
from lift.clip_benchmark_form import write_clip_benchmark
from lift.config import part
from lift.terms import Caption, Foil, Sample, unit

pytestmark = pytest.mark.parity

IMAGES, WIDTH = 40, 12
CLASSES = [f"kind {c}" for c in range(6)]


class Texts:
    """Vectors by number and by text: an Encoder for us, a model and tokenizer for them."""

    name, saw = "planted", ()

    def __init__(self) -> None:
        rng = np.random.default_rng(3)
        self.images = rng.standard_normal((IMAGES, WIDTH)).astype(np.float32)
        self.place: dict[str, int] = {}
        self.rows: list[np.ndarray] = []
        for i in range(IMAGES):
            # Two captions; those of the last two images are equal.
            for text in (f"first of {min(i, IMAGES - 2)}", f"second of {i}", f"foil of {i}"):
                if text not in self.place:
                    lean = 0.6 * self.images[i] + rng.standard_normal(WIDTH)
                    self._add(text, lean)
        for name in CLASSES:
            self._add(f"a {name}", rng.standard_normal(WIDTH))

    def _add(self, text: str, row: np.ndarray) -> None:
        self.place[text] = len(self.rows)
        self.rows.append(row.astype(np.float32))

    def encode_images(self, images):
        return unit(torch.from_numpy(self.images[[int(one) for one in images]])).numpy()

    def encode_texts(self, texts):
        return unit(torch.from_numpy(np.stack([self.rows[self.place[t]] for t in texts]))).numpy()

    def encode_image(self, images):
        return torch.from_numpy(self.images)[images.reshape(len(images), -1)[:, 0].long()]

    def encode_text(self, tokens):
        return torch.from_numpy(np.stack(self.rows))[tokens]

    def tokenize(self, texts):
        return torch.tensor([self.place[text] for text in texts])


class Photos:
    name, groups, whereabouts = "photos", (IMAGES,), "photos"

    def __len__(self) -> int:
        return IMAGES

    def read(self, index: int) -> Sample:
        pair = (f"first of {min(index, IMAGES - 2)}", f"second of {index}")
        fields = {"label": CLASSES[index % 6], "pair": str(index // 2), "collapsed_tag": "x"}
        foils = (Foil("swap_obj", pair[1], f"foil of {index}"),)
        captions = tuple(Caption(text) for text in pair)
        return Sample(f"{index}", str(index).encode(), captions, fields, foils)

    def texts(self):
        return ((self.read(i).key, self.read(i).captions) for i in range(IMAGES))


def run(name: str, encoder: Texts, **options):
    return plugins.build(part("evals", name, **options)).run(encoder, Photos())


def numbers(of) -> torch.Tensor:
    """Return numbers of images in the shape of pixels, which their code asks for."""
    return torch.tensor(of).float()[..., None, None, None]


def theirs(encoder: Texts) -> dict[str, dict[str, float]]:
    """Return what their functions say of the same vectors, by data set."""
    retrieval = pytest.importorskip("clip_benchmark.metrics.zeroshot_retrieval")
    selection = pytest.importorskip("clip_benchmark.metrics.image_caption_selection")
    photos = [Photos().read(i) for i in range(IMAGES)]
    texts = [[caption.text for caption in photo.captions] for photo in photos]
    foils = [[photo.foils[0].caption, photo.foils[0].foil] for photo in photos]
    pairs = [[i, i + 1] for i in range(0, IMAGES, 2)]
    both = [[texts[i][0], texts[j][0]] for i, j in pairs]
    told = {
        "photos": retrieval.evaluate(
            encoder, [(numbers(range(IMAGES)), texts)], encoder.tokenize, "cpu", amp=False,
            recall_k_list=[1, 5, 10],
        ),
        "sugar_crepe/swap_obj": selection.evaluate(
            encoder, [(numbers(range(IMAGES)), foils)], encoder.tokenize, "cpu", amp=False
        ),
        "winoground": selection.evaluate(
            encoder, [(numbers(pairs), both)], encoder.tokenize, "cpu", amp=False
        ),
    }  # fmt: skip
    return told


# Their `build` leaves every file that it reads open.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_their_table_holds_their_figures(tmp_path):
    cli = pytest.importorskip("clip_benchmark.cli")
    encoder = Texts()
    folder = tmp_path / "theirs"
    results = [
        (run("retrieval", encoder), "photos"),
        (run("compositional", encoder, blind=False, oracle=False), "sugar_crepe"),
        (run("winoground", encoder), "winoground"),
        (run("zeroshot", encoder, label="label", templates=("a {}",)), "classes"),
        (run("retrieval", encoder, protocol="first-caption"), "left out"),
    ]
    for result, name in results:
        write_clip_benchmark([result], folder, model="tiny", names={"photos": name})
    cli.main_build(Namespace(files=[str(folder)], output=str(tmp_path / "table.csv")))
    with (tmp_path / "table.csv").open() as file:
        rows = {row["dataset"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"photos", "sugar_crepe/swap_obj", "winoground", "classes"}
    assert all(row["model_fullname"] == "tiny lift" for row in rows.values())
    for data, figures in theirs(encoder).items():
        for name, value in figures.items():
            # The last pair of "winoground" has one caption twice: a tie, which theirs gives the
            # first of the two.
            room = 1.5 / (IMAGES // 2) if data == "winoground" else 1e-6
            assert float(rows[data][name]) == pytest.approx(value, abs=room), (data, name)
    assert 0 < float(rows["classes"]["acc1"]) < float(rows["classes"]["acc5"]) < 1
