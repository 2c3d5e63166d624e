"""Rows that exist on disk: every layout, joins by text and by key, and files that lie."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import stored_vectors
from lift.config import Part
from lift.data.source import parse_part
from lift.errors import ConfigError, DataError, MissingRows, NotFinite, SpaceMismatch
from lift.text.encoder import build_encoder, caption_key, space_of

ROOM = "text/encoders"
TEXTS = [f"{n} birds on a wire over house {n * 7}" for n in range(250)]
OF = {"of": {"room": ROOM, "name": "hashing", "options": {"dimensions": 32}}}


def hashed(texts: Sequence[str]) -> np.ndarray:
    return stored_vectors.encoder().encode(texts).rows


def vectors(path: Path, **options):
    declared = {} if "of" in options else {"model": "somebody's"}
    return build_encoder(Part(ROOM, "vectors", {"path": str(path), **declared, **options}))


def lists(rows: np.ndarray, fixed: bool = False) -> pa.Array:
    array = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
    return array if fixed else array.cast(pa.list_(pa.from_numpy_dtype(rows.dtype)))


def npy_with_lines(folder: Path) -> Path:
    np.save(folder / "rows.npy", hashed(TEXTS))
    (folder / "rows.txt").write_text("\r\n".join(TEXTS) + "\r\n", encoding="utf-8")
    return folder / "rows.npy"


def npy_many_with_one_csv(folder: Path) -> Path:
    # Eleven files: part-10 comes after part-9, not after part-1.
    for number, some in enumerate(np.array_split(np.arange(250), 11)):
        np.save(folder / f"part-{number}.npy", hashed([TEXTS[i] for i in some]))
    lines = [f'{i},"{text}"' for i, text in enumerate(TEXTS)]
    (folder / "texts.csv").write_text("\n".join(["n,caption", *lines]) + "\n")
    return folder


def npy_with_npy(folder: Path) -> Path:
    np.save(folder / "rows.npy", np.asfortranarray(hashed(TEXTS).astype(">f8")))
    np.save(folder / "rows_texts.npy", np.array(TEXTS))
    return folder


def parquet_fixed(folder: Path) -> Path:
    table = pa.table({"n": range(250), "text": TEXTS, "v": lists(hashed(TEXTS), fixed=True)})
    pq.write_table(table, folder / "all.parquet", row_group_size=70)
    return folder / "all.parquet"


def parquet_glob(folder: Path) -> Path:
    for number, some in enumerate(np.array_split(np.arange(250), 11)):
        mine = [TEXTS[i] for i in some]
        table = pa.table({"caption": mine, "embedding": lists(hashed(mine).astype("f8"))})
        pq.write_table(table, folder / f"{number}.parquet")
    return folder / "*.parquet"


def clip_retrieval(folder: Path) -> Path:
    for name in ("text_emb", "metadata", "img_emb"):
        (folder / name).mkdir()
    for number, some in enumerate(np.array_split(np.arange(250), 11)):
        mine = [TEXTS[i] for i in some]
        np.save(folder / f"text_emb/text_emb_{number:02d}.npy", hashed(mine))
        np.save(folder / f"img_emb/img_emb_{number:02d}.npy", np.ones((len(mine), 7)))
        table = pa.table({"image_path": [f"{i}.jpg" for i in some], "caption": mine})
        pq.write_table(table, folder / f"metadata/metadata_{number:02d}.parquet")
    return folder


def reference(folder: Path) -> Path:
    """Write shards of 130 and 120 keys that repeat from shard to shard, 50 rows a file."""
    for shard, texts in enumerate((TEXTS[:130], TEXTS[130:])):
        inside = folder / f"train-{shard:05d}-of-00002"
        inside.mkdir()
        for number, start in enumerate(range(0, len(texts), 50)):
            mine = texts[start : start + 50]
            keys = [f"{start + i:07d}.JPG" for i in range(len(mine))]
            table = pa.table({"key": keys, "embedding": lists(hashed(mine))})
            pq.write_table(table, inside / f"{number}.parquet")
    return folder


def reference_pairs() -> list[tuple[str, str]]:
    first = [(f"train-00000-of-00002/{i:07d}", text) for i, text in enumerate(TEXTS[:130])]
    return first + [(f"train-00001-of-00002/{i:07d}", t) for i, t in enumerate(TEXTS[130:])]


BY_TEXT = [
    npy_with_lines,
    npy_many_with_one_csv,
    npy_with_npy,
    parquet_fixed,
    parquet_glob,
    clip_retrieval,
]


@pytest.mark.parametrize("write", BY_TEXT)
def test_every_layout_gives_the_rows_that_were_written(tmp_path: Path, write: Callable):
    encoder = vectors(write(tmp_path))
    assert not encoder.joins_keys
    shuffled = [TEXTS[i] for i in np.random.default_rng(0).integers(0, 250, 400)]
    for texts in (TEXTS, shuffled, [f"  {TEXTS[3]}\n"]):
        np.testing.assert_array_equal(
            encoder.encode(texts).rows, hashed([t.strip() for t in texts])
        )
    assert encoder.space.dimensions == 32
    assert encoder.space == space_of(encoder.part)
    assert encoder.probes == tuple(sorted(TEXTS, key=caption_key)[:32])
    assert not any(encoder.counters.values())


def test_the_reference_s_folders_are_joined_by_folder_and_key(tmp_path: Path):
    encoder = vectors(reference(tmp_path))
    assert encoder.joins_keys
    with pytest.raises(ConfigError, match="call join"):
        encoder.encode(TEXTS[:1])
    encoder.join(iter([*reference_pairs(), ("train-00009-of-00002/0000001", "seen by nobody")]))
    np.testing.assert_array_equal(encoder.encode(TEXTS[::-1]).rows, hashed(TEXTS[::-1]))
    assert encoder.counters["captions whose image has no vector"] == 1
    assert encoder.probes == tuple(sorted(TEXTS, key=caption_key)[:32])
    with pytest.raises(MissingRows, match=r"1 of 2 texts .* first 'seen by nobody'"):
        encoder.encode([TEXTS[0], "seen by nobody"])


def test_one_shard_s_keys_need_no_folder(tmp_path: Path):
    folder = reference(tmp_path) / "train-00000-of-00002"
    encoder = vectors(folder)
    encoder.join((f"{i:07d}.jpg", text) for i, text in enumerate(TEXTS[:130]))
    np.testing.assert_array_equal(encoder.encode(TEXTS[:130]).rows, hashed(TEXTS[:130]))


def test_names_that_only_folders_tell_apart_are_refused(tmp_path: Path):
    encoder = vectors(reference(tmp_path))
    with pytest.raises(DataError, match=r"120 keys of the vectors .* in their folder alone"):
        encoder.join([("0000000", "a")])
    with pytest.raises(DataError, match="in their folder alone"):
        vectors(tmp_path, folders=False).join(reference_pairs())


def test_keys_of_another_folder_are_no_match(tmp_path: Path):
    with pytest.raises(DataError, match=r"'elsewhere/0000000'.*'train-00000-of-00002/0000000.JPG'"):
        vectors(reference(tmp_path)).join([("elsewhere/0000000", "a")])


@pytest.mark.parametrize("apart", [1, 5_000])
def test_two_captions_of_one_image_are_refused_unless_they_agree(tmp_path: Path, apart: int):
    encoder = vectors(reference(tmp_path))
    pairs = reference_pairs()
    filler = [("nowhere/1", "x")] * apart
    encoder.join([*pairs, *filler, ("train-00000-of-00002/0000003", f" {TEXTS[3]} ")])
    np.testing.assert_array_equal(encoder.encode([TEXTS[3]]).rows, hashed([TEXTS[3]]))
    with pytest.raises(DataError, match=r"'train-00000-of-00002/0000003'.*role filter"):
        encoder.join([*pairs, *filler, ("train-00000-of-00002/0000003", "another one")])


def test_one_caption_of_two_images_takes_the_first_that_has_a_vector(tmp_path: Path):
    encoder = vectors(reference(tmp_path))
    shard = "train-00000-of-00002/"
    encoder.join([("a/b", "same"), (f"{shard}0000007", "same"), (f"{shard}0000009", "same")])
    np.testing.assert_array_equal(encoder.encode(["same"]).rows, hashed([TEXTS[7]]))


def test_ids_beside_npy_join_by_key(tmp_path: Path):
    np.save(tmp_path / "rows.npy", hashed(TEXTS))
    np.save(tmp_path / "numbers.npy", np.arange(250))
    encoder = vectors(tmp_path / "rows.npy", texts=str(tmp_path / "numbers.npy"), join="key")
    encoder.join((str(i), text) for i, text in enumerate(TEXTS))
    np.testing.assert_array_equal(encoder.encode(TEXTS).rows, hashed(TEXTS))


def test_a_text_file_splits_at_line_feeds_alone(tmp_path: Path):
    texts = ["a\u2028b", "\u0085x", "c\rd", ""]
    np.save(tmp_path / "rows.npy", hashed(texts))
    (tmp_path / "rows.txt").write_bytes("\n".join(texts).encode() + b"\n\n")
    with pytest.raises(DataError, match="5 texts or keys for the 4 rows"):
        vectors(tmp_path)
    (tmp_path / "rows.txt").write_bytes("\n".join(texts).encode() + b"\n")
    np.testing.assert_array_equal(vectors(tmp_path).encode(texts).rows, hashed(texts))


def test_missing_and_repeated_texts_are_counted_and_the_first_row_is_kept(tmp_path: Path):
    texts: list[str | None] = ["a", None, "b", " a", "a", None]
    rows = hashed(["a", "x", "b", "c", "a", "y"])
    rows[4] += 1e-4  # what rounding may do
    rows[4] /= np.linalg.norm(rows[4])
    table = pa.table({"caption": texts, "embedding": lists(rows)})
    pq.write_table(table, tmp_path / "some.parquet", row_group_size=2)
    encoder = vectors(tmp_path)
    assert list(encoder.counters.values()) == [2, 2, 1]
    np.testing.assert_array_equal(encoder.encode(["a", "b"]).rows, rows[[0, 2]])
    assert sorted(encoder.probes) == ["a", "b"]


def test_of_a_live_encoder_makes_it_that_encoder_s_space(tmp_path: Path):
    live = stored_vectors.encoder()
    encoder = vectors(npy_with_lines(tmp_path), **OF)
    assert (encoder.space, encoder.part, encoder.saw) == (live.space, live.part, live.saw)
    with pytest.raises(ConfigError, match="leave out model, pooling"):
        vectors(tmp_path, **OF, model="x", pooling="mean")


def test_rows_of_another_encoder_are_told_by_their_cosines(tmp_path: Path):
    path = npy_with_lines(tmp_path)
    other = {"of": {**OF["of"], "options": {"dimensions": 32, "seed": 1}}}
    with pytest.raises(SpaceMismatch, match=r"hashing: 8 of 8 .* below 0.99 .*smallest -?0\.\d+"):
        vectors(path, **other)
    (tmp_path / "rows.txt").write_text("\n".join(TEXTS[1:] + TEXTS[:1]))  # off by one
    with pytest.raises(SpaceMismatch, match="order of the texts"):
        vectors(path, **OF)
    with pytest.raises(ConfigError, match="rows of 32 values, but hashing makes rows of 64"):
        vectors(path, of={"room": ROOM, "name": "hashing"})


def test_another_encoder_is_told_after_a_join_too(tmp_path: Path):
    other = {"of": {**OF["of"], "options": {"dimensions": 32, "ngrams": 1}}}
    encoder = vectors(reference(tmp_path), **other)
    with pytest.raises(SpaceMismatch, match="not those of hashing"):
        encoder.join(reference_pairs())


def test_the_declaration_is_the_space(tmp_path: Path):
    path = npy_with_lines(tmp_path)
    base = {"model": "m", "revision": "r", "prompt": "p", "pooling": "q", "max_tokens": 9}
    encoder = vectors(path, **base, saw=["coco"])
    assert encoder.saw == ("coco",)
    found = {name: getattr(encoder.space, name) for name in base}
    assert (found, encoder.space.encoder) == (base, "vectors")
    prints = {encoder.space.fingerprint}
    for name in base:
        moved = {**base, name: 8 if name == "max_tokens" else "z"}
        part = Part(ROOM, "vectors", {"path": str(path), **moved})
        prints.add(space_of(part).fingerprint)
    assert len(prints) == 1 + len(base)
    with pytest.raises(ConfigError, match=r"of=ENCODER .* model=NAME"):
        vectors(path, model="")


@pytest.mark.parametrize("kind", ["float16", "float32"])
def test_rows_that_are_not_unit_are_refused_or_scaled(tmp_path: Path, kind: str):
    path = stored_vectors.write_npy(tmp_path, TEXTS, kind=kind)
    vectors(path)  # rounding of the stored type is no fault
    rows = np.load(path)
    rows[249] = rows[249] * 1.5
    np.save(path, rows)
    with pytest.raises(ConfigError, match=r"1 of 250 rows .* 1\.5 to 1\.5.*normalise=true"):
        vectors(path)
    scaled = vectors(path, normalise=True)
    assert scaled.space == vectors(path, normalise=True).space
    np.testing.assert_allclose(scaled.encode(TEXTS).rows, hashed(TEXTS), atol=1e-3)
    raw = vectors(path, normalised=False).encode(TEXTS[249:]).rows
    np.testing.assert_allclose(np.linalg.norm(raw), 1.5, rtol=1e-3)
    rows[249] = 0
    np.save(path, rows)
    with pytest.raises(DataError, match=r"'249 birds .*' is all zeros"):
        vectors(path, normalise=True).encode(TEXTS)


def test_a_row_of_another_length_is_found_where_the_first_look_missed_it(tmp_path: Path):
    texts = [f"caption {n}" for n in range(5_000)]
    path = stored_vectors.write_npy(tmp_path, texts)
    rows = np.load(path)
    rows[300] *= 2
    np.save(path, rows)
    encoder = vectors(path)
    encoder.encode(texts[:300])
    with pytest.raises(ConfigError, match="1 of 1 rows"):
        encoder.encode(texts[300:301])


def test_nan_goes_through_to_whoever_stores_it(tmp_path: Path):
    from lift.cache.writer import embed

    path = npy_with_lines(tmp_path)
    rows = np.load(path).astype(np.float64)
    rows[7], rows[8] = np.nan, 1e300
    np.save(path, rows)
    for options in ({}, {"normalise": True}):
        with pytest.raises(NotFinite, match=r"for 2 caption.*'7 birds"):
            embed(TEXTS, vectors(path, **options), tmp_path / "cache", progress=False)


def test_a_cache_of_stored_rows_is_a_cache_of_the_encoder(tmp_path: Path):
    from lift.cache.reader import EmbeddingCache
    from lift.cache.writer import embed

    encoder = vectors(npy_with_lines(tmp_path), **OF)
    embed(TEXTS, encoder, tmp_path / "cache", codec="float32", progress=False)
    embed([*TEXTS, "new"], stored_vectors.encoder(), tmp_path / "cache", progress=False)
    cache = EmbeddingCache.open(tmp_path / "cache")
    assert cache.part == stored_vectors.encoder().part
    found = cache.require([*TEXTS, "new"])
    np.testing.assert_array_equal(cache.take(found), hashed([*TEXTS, "new"]))


def test_words_name_a_part_inside_a_part():
    found = parse_part(ROOM, "vectors:rows.npy,of=hashing")
    assert found.options == {"path": "rows.npy", "of": Part(ROOM, "hashing", {})}
    found = parse_part(ROOM, 'vectors:path=r.npy,of="hashing:dimensions=32,seed=1",folders=false')
    assert found.options["of"] == Part(ROOM, "hashing", {"dimensions": 32, "seed": 1})
    assert found.options["folders"] is False
    assert parse_part(ROOM, "vectors:r.npy,of=none,model=m").options["of"] is None
    for words, told in (
        ("vectors:r.npy,of=hashin", "Did you mean 'hashing'"),
        ("vectors:r.npy,of=hashing:seeds=1", "Did you mean 'seed'"),
        ("vectors:r.npy,model=m,off=hashing", "Did you mean 'of'"),
        ("vectors:r.npy,of=7", "must be"),
        ('vectors:r.npy,of="vectors:r.npy,model=m"', "not a live text encoder"),
        ("vectors:r.npy", "of=ENCODER"),
        ("vectors:r.npy,model=m,normalise=true,normalised=false", "leave out"),
    ):
        with pytest.raises(ConfigError, match=told):
            parse_part(ROOM, words)


def test_trust_is_said_outside_of_the_inner_part(tmp_path: Path):
    options = {"path": str(npy_with_lines(tmp_path)), "of": dict(OF["of"])}
    options["of"] = {"room": ROOM, "name": "sentence_transformer", "options": {"model": "x"}}
    options["of"]["options"]["trust_remote_code"] = True
    with pytest.raises(ConfigError, match="not inside of="):
        build_encoder(Part(ROOM, "vectors", options), trusted=True)
    stored = Part(ROOM, "vectors", {**options, "trust_remote_code": True})
    with pytest.raises(ConfigError, match="not inside of="):  # a cache's word is not believed
        build_encoder(stored)


@pytest.mark.parametrize("kind", ["npy", "lists", "fixed"])
def test_rows_of_no_values(tmp_path: Path, kind: str):
    path = tmp_path / ("rows.npy" if kind == "npy" else "rows.parquet")
    if kind == "npy":
        np.save(path, np.zeros((2, 0), np.float32))
        path.with_suffix(".txt").write_text("a\nb\n")
    else:
        listed = pa.list_(pa.float32()) if kind == "lists" else pa.list_(pa.float32(), 0)
        pq.write_table(
            pa.table({"text": ["a", "b"], "v": pa.array([[], []], listed)}), path, store_schema=True
        )
    for normalised in (True, False):
        with pytest.raises(ConfigError, match="rows of no values"):
            vectors(path, normalised=normalised)
    options = {"path": str(path), "model": "m"}
    with pytest.raises(ConfigError, match="rows of no values"):
        space_of(Part(ROOM, "vectors", options))


class Loud:
    def __reduce__(self):
        return (Path.touch, (Path("unpickled"),))


def test_objects_are_never_unpickled(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = npy_with_lines(tmp_path)
    objects = np.array([Loud() for _ in TEXTS], dtype=object)
    np.save(tmp_path / "objects.npy", objects, allow_pickle=True)
    (tmp_path / "bare.npy").write_bytes(pickle.dumps(Loud()))
    with pytest.raises(DataError, match="Python objects, which only pickle"):
        vectors(path, texts="objects.npy")
    with pytest.raises(DataError, match="Python objects, which only pickle"):
        vectors(tmp_path / "objects.npy", texts="rows.txt")
    with pytest.raises(DataError, match=r"not a whole .npy"):
        vectors(tmp_path / "bare.npy", texts="rows.txt")
    assert not (tmp_path / "unpickled").exists()


def header(text: str, body: bytes = b"\0" * 64, version: bytes = b"\x02\x00") -> bytes:
    return b"\x93NUMPY" + version + len(text).to_bytes(4, "little") + text.encode() + body


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': (99999, 4), }"), "not a whole"),
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4), }"), "not a whole"),
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': (10**9, 4), }"), "not a whole"),
        (header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': (9{'9' * 300}, 4)}}"), "not"),
        (header("-" * 9_000 + "1"), "not a whole"),
        (header("(" * 9_000), "not a whole"),
        (header("{" + " " * 20_000 + "}"), "not a whole"),
        (header("x", version=b"\x09\x00"), "not a whole|version"),
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }"), r"shape \(4,\)"),
        (header("{'descr': '<i8', 'fortran_order': False, 'shape': (2, 4), }"), "int64"),
        (header("{'descr': '|V2', 'fortran_order': False, 'shape': (2, 4), }"), "V2"),
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 4), }"), "no rows"),
        (b"", "not a whole"),
    ],
)
def test_a_header_that_lies_is_one_sentence(tmp_path: Path, content: bytes, told: str):
    (tmp_path / "rows.npy").write_bytes(content)
    (tmp_path / "rows.txt").write_text("a\nb\n")
    with pytest.raises((DataError, ConfigError), match=told):
        vectors(tmp_path / "rows.npy")


def damaged_parquet(folder: Path) -> None:
    data = bytearray(parquet_fixed(folder).read_bytes())
    data[100:40_000] = bytes(40_000 - 100)
    (folder / "all.parquet").write_bytes(data)


def wrong_lists(folder: Path, rows: list) -> None:
    table = pa.table({"text": TEXTS[: len(rows)], "v": pa.array(rows, pa.list_(pa.float32()))})
    pq.write_table(table, folder / "a.parquet")


BAD: dict[str, tuple[Callable[[Path], object], dict, str]] = {
    "parquet that is none": (
        lambda f: (f / "a.parquet").write_bytes(b"PAR1 no PAR1"),
        {},
        "can't be read as .parquet",
    ),
    "pages overwritten": (damaged_parquet, {}, "can't be read as .parquet"),
    "no such vector column": (
        parquet_fixed,
        {"vector_column": "embedding"},
        "'embedding'.*n, text, v",
    ),
    "vectors that are numbers": (parquet_fixed, {"vector_column": "n"}, "'n' .* holds int64"),
    "no such text column": (parquet_fixed, {"text_column": "caption"}, "'caption'.*n, text, v"),
    "texts that are numbers": (parquet_fixed, {"text_column": "n"}, "holds int64, not text"),
    "no vectors at all": (
        lambda f: pq.write_table(pa.table({"text": TEXTS}), f / "a.parquet"),
        {},
        r"no column of lists .*text \(string\)",
    ),
    "widths that change": (lambda f: wrong_lists(f, [[1, 0], [1, 0, 0]]), {}, "3 values among"),
    "a null vector": (lambda f: wrong_lists(f, [[1, 0], None]), {}, "0 values among"),
    "a null value": (lambda f: wrong_lists(f, [[1, 0], [1, None]]), {}, "nulls"),
    "named texts missing": (
        lambda f: np.save(f / "rows.npy", np.eye(2)),
        {"texts": "missing.txt"},
        "No file matches",
    ),
    "nothing there": (lambda f: None, {}, "neither .npy nor .parquet"),
    "no texts": (lambda f: np.save(f / "r.npy", np.eye(2)), {}, "no file with the texts .*r.txt"),
    "no metadata": (
        lambda f: (clip_retrieval(f) / "metadata/metadata_03.parquet").unlink(),
        {},
        "metadata_03.parquet is missing",
    ),
    "fewer texts": (
        lambda f: npy_with_lines(f).with_suffix(".txt").write_text("a\nb\n"),
        {},
        "2 texts or keys for the 250 rows",
    ),
    "not UTF-8": (
        lambda f: npy_with_lines(f).with_suffix(".txt").write_bytes(b"a\n\xff\n"),
        {},
        "line 2, is not UTF-8",
    ),
    "not JSON": (
        lambda f: (
            npy_with_lines(f).with_suffix(".txt").rename(f / "x.txt"),
            (f / "rows.jsonl").write_text('"a"\n[' + "[" * 100_000 + "\n"),
        ),
        {},
        "line 2, is not JSON",
    ),
    "both columns": (parquet_fixed, {"text_column": "text", "id_column": "n"}, "join=text or"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_can_t_be_read_is_one_sentence(tmp_path: Path, case: str):
    write, options, told = BAD[case]
    write(tmp_path)
    with pytest.raises((DataError, ConfigError), match=told):
        encoder = vectors(tmp_path, **options)
        encoder.encode(TEXTS[:2])


def test_files_of_two_widths_are_told_at_once(tmp_path: Path):
    for d in (2, 3):
        np.save(tmp_path / f"{d}.npy", np.eye(d, dtype="f4"))
    (tmp_path / "texts.txt").write_text("a\nb\nc\nd\ne\n")
    with pytest.raises(ConfigError, match=r"3.npy has rows of 3 values, .*2.npy of 2"):
        vectors(tmp_path)


def test_a_file_that_changes_meanwhile_is_told(tmp_path: Path):
    path = npy_many_with_one_csv(tmp_path)
    encoder = vectors(path)
    encoder._rows._mapped.clear()  # as if many more files had been read since
    np.save(tmp_path / "part-3.npy", hashed(TEXTS[:2]))
    with pytest.raises(DataError, match=r"part-3.npy changed"):
        encoder.encode(TEXTS)


def test_large_row_groups_are_decoded_in_pieces(tmp_path: Path, monkeypatch):
    from lift.text.encoders import _vector_rows

    path = parquet_fixed(tmp_path)
    monkeypatch.setattr(_vector_rows, "_BLOCK_BYTES", 32 * 4 * 16)
    monkeypatch.setattr(_vector_rows, "_HELD_BYTES", 32 * 4 * 40)
    encoder = vectors(path)
    decoded = []
    whole = _vector_rows._matrix
    monkeypatch.setattr(_vector_rows, "_matrix", lambda *a: decoded.append(len(a[1])) or whole(*a))
    for start in range(0, 250, 10):
        some = TEXTS[start : start + 10]
        np.testing.assert_array_equal(encoder.encode(some).rows, hashed(some))
    assert sum(decoded) == 250 and max(decoded) == 16  # each piece once, in file order
    assert sum(v.nbytes for v in encoder._rows._held.values()) <= 32 * 4 * 40
    np.testing.assert_array_equal(encoder.encode(TEXTS[::-1]).rows, hashed(TEXTS[::-1]))


MEASURE = """
import sys, threading
from lift.config import Part
from lift.text.encoder import build_encoder

def anonymous():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon")) / 1024

path, count = sys.argv[1], int(sys.argv[2])
text = lambda n: f"caption {n} of some image"
peak, done = [anonymous()], threading.Event()

def watch():
    while not done.wait(0.01):
        peak[0] = max(peak[0], anonymous())

threading.Thread(target=watch, daemon=True).start()
for options in ({}, {"texts": path + "/ids.txt", "join": "key"}):
    part = Part("text/encoders", "vectors", {"path": path, "model": "m", **options})
    encoder = build_encoder(part)
    if encoder.joins_keys:
        encoder.join((str(n), text(n)) for n in range(count))
    assert not any(encoder.counters.values()), encoder.counters
    for start in range(0, count, 4096):
        encoder.encode([text(n) for n in range(start, min(count, start + 4096))])
done.set()
print(peak[0])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="RssAnon is told by Linux")
def test_memory_does_not_grow_with_the_rows(tmp_path: Path):
    peaks = {}
    for count in (20_000, 200_000):
        folder = tmp_path / str(count)
        folder.mkdir()
        rows = np.random.default_rng(0).standard_normal((count, 16), np.float32)
        np.save(folder / "rows.npy", rows / np.linalg.norm(rows, axis=1, keepdims=True))
        (folder / "ids.txt").write_text("".join(f"{n}\n" for n in range(count)))
        lines = (f"caption {n} of some image\n" for n in range(count))
        (folder / "rows.txt").write_text("".join(lines))
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, str(folder), str(count)],
            capture_output=True,
            text=True,
            check=True,
        )
        peaks[count] = float(done.stdout)
    # Keys alone would be 3 MB, keys with row numbers 4, texts in a list 15, rows 12.
    assert peaks[200_000] - peaks[20_000] < 2, peaks
