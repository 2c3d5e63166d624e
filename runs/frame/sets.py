"""The pairs that studies train and judge on: drawn scenes, shop products, emoji.

Each set has pairs to train on, pairs to choose settings on (never reported) and pairs that are
reported, and the same test images with captions worded in words that no training caption has.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from frame.spaces import encoder
from frame.study import taken
from frame.words import PRODUCTS, REPLACED, SCENES, only_word, require_unseen, reworded
from lift import recipes
from lift.cache import writer
from lift.cache.reader import EmbeddingCache
from lift.data.augment import Augment
from lift.data.source import Captions, open_source
from lift.files import whole_file, write_text
from lift.text.encoder import build_encoder, clean
from lift.training.config import RunConfig

SCENES_TRAINED, SCENES_CHOSEN, SCENES_TESTED, SCENES_ASKED = 12_800, 400, 1_000, 600
CHOICE, TEST = 1_000_000, 2_000_000
"""Numbers of the first scene to choose on and to report on: training may take all below."""
SCENE = "seed=1,resolution=48,short=1,long=0"


@dataclasses.dataclass(frozen=True)
class Set:
    """One set of pairs.

    Attributes:
        name: of the set.
        train: the pairs to train on, as `--data` takes them.
        choose: pairs for choosing rates and nothing else.
        test: pairs that are reported.
        evaluations: what is reported, in the words of `lift eval --on`, by a short name.
        base: the recipe before an arm changes it.
        saw: what has to stand beside every number, "" for nothing.
    """

    name: str
    train: str
    choose: str
    test: str
    evaluations: dict[str, str]
    base: RunConfig
    saw: str = ""

    def texts(self, *, judged: bool) -> Sequence[str] | Captions:
        """Return the captions to train on, or all texts that judging asks for."""
        if not judged:
            return Captions([open_source(self.train)])
        found: dict[str, None] = {}
        for spec in (self.choose, *map(_data_of, self.evaluations.values())):
            source = open_source(spec)
            for _, captions in source.texts():
                found.update((caption.text, None) for caption in captions)
            if spec in map(_data_of, self.evaluations.values()):
                for number in range(len(source)):
                    for foil in source.read(number).foils:
                        found[foil.caption] = found[foil.foil] = None
        return list(found)


def get(name: str, data: Path, out: Path) -> Set:
    """Return a set; what it needs of files is made in `out`, once.

    Args:
        name: scenes, products or emoji.
        data: the folder with `fashion-products` and `emoji`.
        out: scratch.
    """
    with taken(out / "locks" / f"{name}.lock", wait=True):
        return SETS[name](data, out / "data" / name)


def rows(of: Set, name: str, out: Path, *, judged: bool) -> EmbeddingCache:
    """Return the rows of a set's captions (or of what judging asks), embedded where they are not
    there yet.

    Args:
        of: the set.
        name: of the text space.
        out: scratch.
        judged: see `Set.texts`.
    """
    folder = out / "rows" / f"{of.name}-{name}-{'judged' if judged else 'train'}"
    with taken(out / "locks" / "rows" / f"{folder.name}.lock", wait=True):
        if not (folder / "manifest.json").exists():
            built = build_encoder(encoder(name, of, out), "cpu")
            texts = of.texts(judged=judged)
            writer.embed(texts, built, folder, codec="float32", progress=False)
    return EmbeddingCache.open(folder)


def _data_of(words: str) -> str:
    """Return the data of an evaluation in words."""
    return words.partition("data=[")[2].rpartition("]")[0]


# --- scenes -------------------------------------------------------------------------------------


def scenes(
    _: Path, out: Path, *, trained: int = SCENES_TRAINED, captions: str = "short=1,long=0"
) -> Set:
    """Return drawn scenes with one short caption each, all that a run sees different scenes."""
    options = SCENE.replace("short=1,long=0", captions)
    spec = functools.partial(_scene_spec, options)
    test, asked = spec(SCENES_TESTED, TEST), spec(SCENES_ASKED, TEST)
    other = out / "reworded.parquet"
    if not other.exists():
        write_table(other, _reworded_scenes(spec(SCENES_TESTED, TEST)))
    base = recipes.get("quickstart", ["evaluations=[]"])
    return Set(
        "scenes",
        spec(trained, 0),
        spec(SCENES_CHOSEN, CHOICE),
        test,
        {
            "retrieval": f"retrieval:data=[{test}]",
            "composition": f"compositional:blind=false,oracle=false,data=[{asked}]",
            "new wordings": f"retrieval:data=[{_table(other)}]",
        },
        base,
    )


def _scene_spec(options: str, count: int, start: int) -> str:
    return f"scenes:count={count},start={start},{options}"


def _reworded_scenes(spec: str) -> Iterator[dict[str, object]]:
    source = open_source(spec)
    for number in range(len(source)):
        sample = source.read(number)
        short = next(c.text for c in sample.captions if c.role == "short")
        yield {"id": sample.key, "image": sample.image, "caption": reworded(short, SCENES)}


# --- products -----------------------------------------------------------------------------------

_HELD_BACK = 1000


def products(data: Path, out: Path) -> Set:
    """Return shop products with their titles; those whose title has a new wording are left out."""
    others, held = out / "others.parquet", out / "held-back.parquet"
    folder = data / "fashion-products"
    if not others.exists() or not held.exists():
        _split_products(folder / "train.parquet", others, held)
    other, foils = out / "reworded.parquet", out / "foils"
    if not other.exists():
        write_table(other, _reworded_products(folder / "test.parquet"))
    if not (foils / "done").exists():
        _product_foils(folder / "test.parquet", foils)
    train, choose = (_table(path, "title") for path in (others, held))
    test = _table(folder / "test.parquet", "title")
    base = recipes.get("products_tiny", ["evaluations=[]", "tower.patch=16", "tower.depth=4"])
    return Set(
        "products",
        train,
        choose,
        test,
        {
            "retrieval": f"retrieval:data=[{test}]",
            "composition": "compositional:blind=false,oracle=false,"
            f"data=[sugarcrepe:path={foils},images={foils / 'images'}]",
            "new wordings": f"retrieval:data=[{_table(other)}]",
        },
        base,
    )


def _split_products(whole: Path, others: Path, held: Path) -> None:
    """Split by hashes of the ids, and leave out titles with new wordings."""
    table = pq.read_table(whole)
    hashes = [hashlib.sha256(f"study{key}".encode()).digest() for key in table["id"].to_pylist()]
    order = sorted(range(len(table)), key=hashes.__getitem__)
    new = {word for text in PRODUCTS.values() for word in text.split()}
    new -= {word for text in PRODUCTS for word in text.split()}
    titles = [title.lower().split() for title in table["title"].to_pylist()]
    kept = [row for row in order[_HELD_BACK:] if not new & {*titles[row]}]
    require_unseen(PRODUCTS, (" ".join(titles[row]) for row in kept))
    for path, chosen in ((others, kept), (held, order[:_HELD_BACK])):
        with whole_file(path) as aside:
            pq.write_table(table.take(sorted(chosen)), aside, row_group_size=1000)


def _reworded_products(test: Path) -> Iterator[dict[str, object]]:
    for row in pq.read_table(test, columns=["id", "image", "title"]).to_pylist():
        other = reworded(row["title"], PRODUCTS)
        if other != row["title"]:
            yield {"id": str(row["id"]), "image": row["image"], "caption": other}


def _product_foils(test: Path, out: Path) -> None:
    """Write questions in SugarCrepe's form: one word of a title exchanged for one of its list.

    The other word is drawn as often as titles have it, and questions about common words are left
    out so often that a pair of words is asked as often one way as the other: who takes the commoner
    word without a look is right in half of the cases.
    """
    (out / "images").mkdir(parents=True, exist_ok=True)
    products = pq.read_table(test, columns=["id", "image", "title"]).to_pylist()
    for kind, words in REPLACED.items():
        has = [(row, only_word(clean(row["title"]), words)) for row in products]
        shares = Counter(word for _, word in has if word is not None)
        rarest = max(1 - count / shares.total() for count in shares.values())
        asked: list[dict[str, str]] = []
        for row, word in has:
            file = f"{row['id']}.jpg"
            digest = hashlib.sha256(f"{kind}{file}".encode()).digest()
            taken, drawn = (int.from_bytes(digest[n : n + 4], "big") / 2**32 for n in (0, 4))
            if word is None or taken * rarest > 1 - shares[word] / shares.total():
                continue
            others = [other for other in words if not _within(word, other)]
            title = clean(row["title"])
            foil = reworded(title, {word: _at(others, [shares[o] for o in others], drawn)})
            if foil != title:
                asked.append({"filename": file, "caption": title, "negative_caption": foil})
                (out / "images" / file).write_bytes(row["image"])
        numbered = {str(number): entry for number, entry in enumerate(asked)}
        write_text(out / f"{kind}.json", json.dumps(numbered, indent=1))
    write_text(out / "done", "")


def _within(one: str, other: str) -> bool:
    """Return whether one of two words is the other, or stands in it (shirt, t-shirt)."""
    return any(re.search(rf"\b{re.escape(a)}\b", b) for a, b in ((one, other), (other, one)))


def _at(words: Sequence[str], weights: Sequence[int], drawn: float) -> str:
    """Return the word that a number in [0, 1) falls on."""
    ends = np.cumsum(weights)
    return words[int(np.searchsorted(ends, drawn * ends[-1], side="right"))]


# --- emoji --------------------------------------------------------------------------------------

_CHOSEN = 300


def emoji(data: Path, out: Path) -> Set:
    """Return Noto's drawings to train on and Twemoji's to judge on, of the same emoji."""
    tables = {name: out / f"{name}.parquet" for name in ("train", "choose", "test", "reworded")}
    if not all(path.exists() for path in tables.values()):
        _emoji_tables(data / "emoji", tables)
    spec = {name: _table(path) for name, path in tables.items()}
    crops = Augment(scale=(0.7, 1.0), flip=0.0)
    base = recipes.get("quickstart", ["evaluations=[]"])
    base = dataclasses.replace(
        base, transform=dataclasses.replace(base.transform, augment=crops, canvas=None)
    )
    return Set(
        "emoji",
        spec["train"],
        spec["choose"],
        spec["test"],
        {
            "retrieval": f"retrieval:data=[{spec['test']}]",
            "new wordings": f"retrieval:data=[{spec['reworded']}]",
        },
        base,
    )


def _emoji_tables(folder: Path, tables: dict[str, Path]) -> None:
    noto, twemoji = (_style(folder / f"{style}-0000.tar") for style in ("noto", "twemoji"))
    both = sorted(noto.keys() & twemoji.keys(), key=lambda k: hashlib.sha256(k.encode()).digest())
    for name, drawn, keys in (
        ("train", noto, sorted(noto)),
        ("choose", twemoji, both[:_CHOSEN]),
        ("test", twemoji, both[_CHOSEN:]),
    ):
        write_table(tables[name], (_emoji_row(drawn[key], drawn[key][1]["label"]) for key in keys))
    found = ((twemoji[key], _keywords(twemoji[key][1])) for key in both[_CHOSEN:])
    write_table(tables["reworded"], (_emoji_row(of, words) for of, words in found if words))


def _style(path: Path) -> dict[str, tuple[bytes, dict]]:
    """Return a style's pictures and facts by code points."""
    files: dict[str, bytes] = {}
    with tarfile.open(path) as tar:
        for member in tar:
            file = tar.extractfile(member)
            if file is not None:
                files[member.name] = file.read()
    facts = {name: json.loads(text) for name, text in files.items() if name.endswith(".json")}
    return {of["hexcode"]: (files[name[:-4] + "png"], of) for name, of in facts.items()}


def _keywords(facts: dict) -> str:
    """Return up to four keywords that share no word with the name, "" where there is none."""
    own = {*facts["label"].lower().split()}
    return ", ".join([tag for tag in facts["tags"] if not own & {*tag.lower().split()}][:4])


def _emoji_row(of: tuple[bytes, dict], caption: str) -> dict[str, object]:
    return {"id": of[1]["hexcode"], "image": of[0], "caption": caption}


# --- tables -------------------------------------------------------------------------------------


def _table(path: Path, caption: str = "caption") -> str:
    return f"table:path={path},image=image,caption={caption},key=id"


def write_table(path: Path, made: Iterator[dict[str, object]]) -> None:
    """Write rows as a parquet file, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as aside:
        pq.write_table(pa.Table.from_pylist(list(made)), aside, row_group_size=500)


SETS: dict[str, Callable[[Path, Path], Set]] = {
    "scenes": scenes,
    "products": products,
    "emoji": emoji,
}
