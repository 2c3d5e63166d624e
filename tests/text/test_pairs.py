"""Files of pairs: every form, chosen without regard to order, hostile ones told in a sentence."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from lift.errors import DataError
from lift.text import pairs as module
from lift.text.pairs import Edit, PairSet, choose, made_pairs, read_pairs

ENTRY = {"caption": "a red cat. ", "negative_caption": "a blue cat", "filename": "000000000139.jpg"}


def write(path: Path, text: str) -> Path:
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def aro(path: Path, cell: str, title: str = "a cat on a mat") -> Path:
    head = "\ttitle\tfilepath\tneg_caption\n"
    return write(path, f"{head}0\t{title}\tval/COCO_000000000139.jpg\t{cell}\n")


def lines(path: Path, *entries: dict) -> Path:
    return write(path, "\n".join(json.dumps(entry) for entry in entries) + "\n")


def test_every_form_is_read(tmp_path: Path) -> None:
    questions = {"0": ENTRY, "1": ENTRY, "2": {**ENTRY, "negative_caption": "a red cat."}}
    write(tmp_path / "swap_att.json", json.dumps(questions))
    aro(tmp_path / "aro.tsv.gz", "['a mat on a cat', \"a mat's cat on\"]")
    lines(
        tmp_path / "photos.jsonl.gz",
        {"image_id": 139, "caption": "A RED CAT."},
        {"image_id": 139, "caption": "one cat, and it is red"},
        {"caption": "a dog", "negative_caption": "no dog", "kind": "negation"},
        {"caption": "a dog", "paraphrase": "a hound"},
    )
    found = read_pairs([tmp_path])
    assert found.edits == (
        Edit(module.WORD_ORDER, "a cat on a mat", "a mat on a cat", "139"),
        Edit(module.WORD_ORDER, "a cat on a mat", "a mat's cat on", "139"),
        Edit("negation", "a dog", "no dog"),
        Edit("swap_att", "a red cat.", "a blue cat", "139"),
    )
    assert found.left_out == {"repeated edits": 1, "edits equal to their caption": 1}
    assert found.made_of == ("coco",)
    # The caption itself, in capitals and with a full stop, is no paraphrase of it.
    assert found.paraphrase(found.edits[3]) == "one cat, and it is red"
    alike = PairSet((), {"139": ("A RED CAT.", "a red  cat", "a blue cat!")})
    assert alike.paraphrase(found.edits[3]) is None
    assert found.paraphrase(found.edits[2]) == "a hound"
    assert found.paraphrase(Edit("k", "x", "y")) is None


def test_the_same_paraphrase_whatever_the_order() -> None:
    texts = [f"caption number {i}" for i in range(9)]
    edit = Edit("k", "c", "d", "7")
    one = PairSet((edit,), {"7": tuple(texts)}).paraphrase(edit)
    assert one == PairSet((edit,), {"7": tuple(reversed(texts))}).paraphrase(edit)
    other = Edit("k", "c", one or "", "7")
    assert PairSet((other,), {"7": tuple(texts)}).paraphrase(other) not in (None, one)


def test_few_are_chosen_evenly_over_kinds() -> None:
    edits = [Edit("big", f"c{i}", "x") for i in range(90)] + [
        Edit("small", f"c{i}", "y") for i in range(5)
    ]
    chosen = choose(PairSet(tuple(edits)), 20)
    assert [e.kind for e in chosen] == ["big"] * 15 + ["small"] * 5
    assert chosen == choose(PairSet(tuple(reversed(edits))), 20)
    assert set(chosen) < set(choose(PairSet(tuple(edits)), 40))  # a larger choice holds the smaller
    assert len(choose(PairSet(tuple(edits)), 1_000)) == 95


def test_edits_are_made_by_rule() -> None:
    captions = ["a red cat sits on a blue mat", "a blue mat below a red cat"]
    found = made_pairs([], {"7": captions})
    assert {edit.caption for edit in found.edits} == set(captions)
    assert all(found.paraphrase(edit) in captions for edit in found.edits)
    assert found == made_pairs([], {"7": captions}) != made_pairs([], {"7": captions}, seed=1)
    alone = made_pairs(captions)
    assert alone.edits and not any(edit.photo for edit in alone.edits)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.json", "[" * 100_000, "not JSON"),
        ("a.json", "[]", "SugarCrepe's form"),
        ("a.json", '{"0": {"caption": "x"}}', "lacks one of"),
        ("a.json", '{"0": {"caption": 1, "negative_caption": "", "filename": ""}}', "lacks one"),
        ("a.tsv", "x\ty\n1\t2\n", "ARO's form"),
        ("a.tsv", "title\tneg_caption\nonly\n", "too few columns"),
        ("a.tsv", f"title\tneg_caption\n{'x' * 200_000}\t[]\n", "not a table"),
        ("a.jsonl", '{"image_id": 1}\n', "line 1 is not an object with a caption"),
        ("a.jsonl", '{"caption": "a"}\n', "none of image_id"),
        ("a.jsonl", '{"caption": "\\ud83d", "image_id": 1}\n', "not valid Unicode"),
        ("a.jsonl.gz", "", "nothing"),
        ("a.txt", "x", "not a file of pairs"),
    ],
)
def test_other_files_are_told_in_a_sentence(
    tmp_path: Path, name: str, text: str, says: str
) -> None:
    if says == "nothing":
        (tmp_path / name).write_bytes(b"no gzip")
        says = "can't be read"
    else:
        write(tmp_path / name, text)
    with pytest.raises(DataError, match=says):
        read_pairs([tmp_path / name])


@pytest.mark.parametrize(
    "cell",
    ["__import__('os').getcwd()", "[" * 15_000, "['a', 1]", "'a'", "['a'", "[" + "'a'," * 6_000],
)
def test_a_written_list_is_never_run(tmp_path: Path, cell: str) -> None:
    with pytest.raises(DataError, match="row 0 is not a list of texts"):
        read_pairs([aro(tmp_path / "a.tsv", cell)])


def test_a_packed_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_BYTES", 1_000)
    with pytest.raises(DataError, match="holds more than"):
        read_pairs([write(tmp_path / "a.jsonl.gz", " " * 5_000)])


def test_places_without_pairs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No file of pairs"):
        read_pairs([tmp_path])
    with pytest.raises(DataError, match="No file or folder of pairs"):
        read_pairs([tmp_path / "none.json"])


def test_published_files(shared_data: Path) -> None:
    folder = shared_data / "text"
    found = read_pairs(
        [
            folder / "sugarcrepe",
            folder / "coco_val_hard_negatives_aro.tsv.gz",
            folder / "coco_captions_val2017.jsonl.gz",
        ]
    )
    assert len(found.edits) + sum(found.left_out.values()) == 7_511 + 7_370
    assert len(found.groups) == 5_000
    crepe = [edit for edit in found.edits if edit.kind != module.WORD_ORDER]
    assert all(found.paraphrase(edit) for edit in crepe[::50])
