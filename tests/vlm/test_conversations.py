"""Conversations in LLaVA's form: read line by line, checked, made tokens; answers are learned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lift.errors import DataError
from lift.vlm.assembly import open_llava
from lift.vlm.conversations import IGNORED, Conversation, Lines, Listed, encode, padded
from lift.vlm.recipes import PLAIN, VICUNA, Stage, Template
from lift.vlm.training import train

HUMAN = {"from": "human", "value": "<image>\nis there a red ring?"}
GPT = {"from": "gpt", "value": "yes"}
GOOD: dict[str, Any] = {"id": "7", "image": "a/one.png", "conversations": [HUMAN, GPT]}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "images" / "a").mkdir(parents=True)
    Image.new("RGB", (40, 40), (200, 0, 0)).save(tmp_path / "images" / "a" / "one.png")
    return tmp_path / "images"


def written(folder: Path, *lines: Any) -> Path:
    path = folder / "lines.jsonl"
    told = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_text("\n".join(told) + "\n")
    return path


def test_lines_are_read_where_they_lie(images: Path, tmp_path: Path) -> None:
    second = {
        "id": 8,
        "conversations": [HUMAN | {"value": "why?"}, GPT, HUMAN | {"value": "so?"}, GPT],
    }
    last = GOOD | {"conversations": [HUMAN | {"value": "is it red?\n<image>"}, GPT]}
    found = Lines(written(tmp_path, GOOD, "", second, last), images)
    assert len(found) == 3
    path = images.resolve() / "a" / "one.png"
    assert found[0] == Conversation("7", path, (("is there a red ring?", "yes"),))
    assert found[1] == Conversation("8", None, (("why?", "yes"), ("so?", "yes")))
    assert found[2].turns == (("is it red?", "yes"),)
    assert found[1:] == [found[1], found[2]]
    assert found.digest == Lines(written(tmp_path, GOOD, "", second, last), images).digest
    assert found.digest != Lines(written(tmp_path, GOOD), images).digest


def test_a_stage_learns_from_lines(llavas: dict[str, Path], images: Path, tmp_path: Path) -> None:
    lines = Lines(written(tmp_path, *[GOOD | {"id": str(i)} for i in range(4)]), images)
    stage = Stage(language=False, template=Template(), lr=1e-2, batch_size=4, epochs=2)
    made = train(llavas["clip"], lines, tmp_path / "out", stage, device="cpu")
    assert (made.steps, made.counters) == (2, {})


CHANGES: dict[str, tuple[Any, str]] = {
    "no JSON": ("{", "is no JSON"),
    "deep": ("[" * 100_000, "JSON"),
    "a list of lists": ("[1]", "is one JSON list; make it lines with: jq"),
    "a number": ("3", 'needs "conversations"'),
    "no conversations": ({"id": 1}, 'needs "conversations"'),
    "an odd one": (GOOD | {"conversations": [HUMAN]}, 'needs "conversations"'),
    "too many": (GOOD | {"conversations": [HUMAN, GPT] * 200}, "128 at most"),
    "wrong order": (GOOD | {"conversations": [GPT, HUMAN]}, "part 1 must be from 'human'"),
    "no value": (GOOD | {"conversations": [HUMAN, {"from": "gpt"}]}, "part 2 has no text"),
    "no answer": (GOOD | {"conversations": [HUMAN, GPT | {"value": " "}]}, "an empty answer"),
    "two images": (GOOD | {"conversations": [HUMAN, GPT, HUMAN, GPT]}, "shows <image> 2 times"),
    "an answer's image": (
        GOOD | {"conversations": [HUMAN, GPT | {"value": "<image>"}]},
        "shows <image> 2 times",
    ),
    "no image": ({"conversations": [HUMAN, GPT]}, "shows <image> 1 times"),
    "images": (GOOD | {"image": ["a", "b"]}, "must be the name of one file"),
    "up": (GOOD | {"image": "../secret.png"}, "leads out of the folder of images"),
    "absolute": (GOOD | {"image": "/etc/passwd"}, "leads out of the folder of images"),
    "zero": (GOOD | {"image": "a\0b"}, "can't be the name of a file"),
    "half a letter": (
        GOOD | {"conversations": [HUMAN, GPT | {"value": "\ud83d"}]},
        "half a letter",
    ),
    "long": (GOOD | {"id": "x" * (1 << 20)}, "is longer than 1,048,576 bytes"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_wrong_line_is_told_with_its_number(name: str, images: Path, tmp_path: Path) -> None:
    line, sentence = CHANGES[name]
    first = [] if name in ("a list of lists", "deep") else [GOOD]
    with pytest.raises(DataError) as caught:
        Lines(written(tmp_path, *first, line), images)
    told = str(caught.value)
    assert sentence in told
    assert not first or f"Line 2 of {tmp_path}" in told
    assert len(told) < 600 and told.count("\n") == 0


def test_what_is_not_there_is_told(images: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no file"):
        Lines(tmp_path / "none.jsonl", images)
    with pytest.raises(DataError, match="There is no folder"):
        Lines(written(tmp_path, GOOD), tmp_path / "none")
    with pytest.raises(DataError, match="holds no conversation"):
        Lines(written(tmp_path, ""), images)


def test_a_link_out_of_the_folder_is_refused(images: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    (images / "link.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(DataError, match="leads out of the folder"):
        Lines(written(tmp_path, GOOD | {"image": "link.png"}), images)


def test_answers_alone_have_labels(llavas: dict[str, Path]) -> None:
    seeing = open_llava(llavas["clip"])
    tokenizer, turns = seeing.tokenizer, (("is it red?", "yes"), ("a ring?", "no no"))

    def learned(template: Template, image: bytes | None, most: int = 999) -> tuple[str, int, int]:
        one = encode(Conversation("1", image, turns), template, tokenizer, seeing.patches, most)
        shown = int((one.ids == tokenizer.convert_tokens_to_ids("<image>")).sum())
        assert set(one.labels[one.labels != one.ids]) <= {IGNORED}
        return (
            " ".join(tokenizer.convert_ids_to_tokens(one.labels[one.labels != IGNORED])),
            shown,
            one.cut,
        )

    assert learned(VICUNA, b"") == ("yes </s> no no </s>", seeing.patches, 0)
    assert learned(Template(), None) == ("yes </s> no no </s>", 0, 0)
    assert learned(PLAIN, b"") == ("yes no no", seeing.patches, 0)  # \n is no word of this one
    whole = encode(Conversation("1", None, turns), Template(), tokenizer, 0, 999).ids
    assert learned(Template(), None, len(whole) - 2) == ("yes </s> no", 0, 2)


def test_rows_are_filled_up_behind(llavas: dict[str, Path]) -> None:
    seeing = open_llava(llavas["clip"])
    rows = [
        encode(Conversation("1", None, ((text, "yes"),)), Template(), seeing.tokenizer, 0, 99)
        for text in ("is it red?", "red?")
    ]
    ids, labels, mask = padded(rows, 3)
    short = len(rows[1].ids)
    assert ids.shape == labels.shape == mask.shape == (2, len(rows[0].ids))
    assert ids[1, short:].eq(3).all() and labels[1, short:].eq(IGNORED).all()
    assert mask.sum(1).tolist() == [len(row.ids) for row in rows]


def test_listed_conversations_know_what_they_are() -> None:
    one = Conversation("1", b"x", (("a", "b"),))
    assert Listed([one]).digest == Listed([one]).digest
    for other in (Conversation("1", b"y", one.turns), Conversation("1", None, one.turns),
                  Conversation("1", b"x", (("a", "c"),))):  # fmt: skip
        assert Listed([one]).digest != Listed([other]).digest
