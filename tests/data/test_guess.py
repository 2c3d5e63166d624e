"""From a path to a layout: every kind of folder and file, and sentences for the rest."""

from __future__ import annotations

import gzip
import json
import os
import signal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lift.config import Part
from lift.data.guess import Guess, guess
from lift.data.source import open_source
from lift.errors import ConfigError, DataError

ROOM = "data/formats"


def part(name, **options):
    return Part(
        ROOM, name, {key: str(value) if key == "path" else value for key, value in options.items()}
    )


@pytest.fixture
def tree(tmp_path, picture, write_tar):
    """Return a maker of files: bytes, text, JSON, a picture for None, a tar for a dict."""

    def make(**files):
        for name, content in files.items():
            put(tmp_path / name, content)
        return tmp_path

    def put(path, content):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".tar":
            write_tar(path, [(n, picture() if c is None else c) for n, c in content.items()])
        elif content is None:
            path.write_bytes(picture())
        elif isinstance(content, pa.Table):
            pq.write_table(content, path)
        elif isinstance(content, str):
            path.write_text(content)
        else:
            path.write_text(json.dumps(content))

    return make


def record(**values):
    return json.dumps(values).encode()


def test_tars(tree):
    path = tree(**{"a/x-0.tar": {"1.jpg": None, "1.txt": b"a"}, "a/x-1.tar": {}})
    assert guess(str(path / "a")).part == part("webdataset", path=path / "a" / "*.tar")
    assert guess(str(path)).part == part("webdataset", path=path / "*/*.tar")
    assert guess(f"{path}/a/x-{{0..1}}.tar").part.options == {"path": f"{path}/a/x-{{0..1}}.tar"}
    tree(**{"b/1.tar": {"1.jpg": None, "1.json": record(title="a red dog", w=3)}})
    assert guess(str(path / "b")).part.options["caption_field"] == "title"
    assert "jpg, json" in guess(str(path / "b")).why


def test_kinds_of_tars(tree):
    web = {"1.jpg": None, "1.txt": b"a dog"}
    path = tree(
        **{
            "i/00000.tar": {**web, "1.json": record(url="http://x", status="success")},
            "i/00000_stats.json": {},
            "d/0.tar": {**web, "1.json": record(uid="ab12", url="http://x", status="success")},
            "m/0.tar": {**web, "1.syn.json": record(syn_text=["a"])},
            "r/0.tar": {**web, "1.json": record(url="http://x", status="success")},
        }
    )
    assert guess(str(path / "i")).part == part("img2dataset", path=path / "i")
    assert guess(str(path / "i/00000.tar")).part == part("img2dataset", path=path / "i")
    assert guess(str(path / "d")).part == part("datacomp", path=path / "d" / "0.tar")
    assert guess(str(path / "m")).part == part("mobileclip", path=path / "m" / "0.tar")
    assert guess(str(path / "r")).part == part("img2dataset", path=path / "r" / "0.tar")
    assert [p.name for p in guess(str(path / "d")).others] == ["webdataset", "img2dataset"]


def test_splits_are_not_mixed(tree):
    tar = {"1.jpg": None, "1.txt": b"a dog"}
    table = pa.table({"image": ["1.jpg"], "caption": ["a dog"]})
    path = tree(
        **{
            "a/test.parquet": table,
            "a/train-0.parquet": table,
            "a/train-1.parquet": table,
            "b/val-0.tar": tar,
            "b/train-0.tar": tar,
            "b/trains-0.txt": "x",
            "c/test-0.tar": tar,
            "c/0.tar": tar,
            "d/train/0.tar": tar,
            "d/val/0.tar": tar,
            "e/x/0.tar": tar,
            "e/y/1.tar": tar,
        }
    )
    found = guess(str(path / "a"))
    assert found.part.options["path"] == str(path / "a/train*.parquet")
    assert found.others[-1].options["path"] == str(path / "a/test.parquet")
    assert "other splits are left aside" in found.why
    found = guess(str(path / "b"))
    assert found.part == part("webdataset", path=path / "b/train-0.tar")
    assert found.others == (part("webdataset", path=path / "b/val-0.tar"),)
    assert guess(str(path / "c")).part == part("webdataset", path=path / "c/*.tar")
    assert guess(str(path / "d")).part == part("webdataset", path=path / "d/train/0.tar")
    assert guess(str(path / "d")).others == (part("webdataset", path=path / "d/val/0.tar"),)
    assert guess(str(path / "e")).part == part("webdataset", path=path / "e/*/*.tar")


def test_tables(tree, picture):
    rows = {"id": [1, 2], "img": ["x/a.png", "x/b.png"], "rewrite_caption": ["a dog", "a cat"]}
    bytes_in = {
        "picture": [{"bytes": picture(), "path": None}] * 2,
        "n": [1, 1],
        "t": ["a b", "c d"],
    }
    path = tree(
        **{
            "a.csv": "id,img,rewrite_caption,url\n1,x/a.png,a dog,http://x\n2,x/b.png,a cat,http://y\n",
            "b/a.parquet": pa.table(bytes_in),
            "b/b.parquet": pa.table(bytes_in),
            "c.jsonl": "\n".join(json.dumps({n: rows[n][k] for n in rows}) for k in range(2)),
        }
    )
    wanted = {"image": "img", "caption": "rewrite_caption", "key": "id"}
    assert guess(str(path / "a.csv")).part == part("table", path=path / "a.csv", **wanted)
    assert guess(str(path / "c.jsonl")).part == part("table", path=path / "c.jsonl", **wanted)
    found = guess(str(path / "b"))
    assert found.part == part("table", path=path / "b" / "*.parquet", image="picture", caption="t")
    assert "images in 'picture' and captions in 't'" in found.why
    assert len(open_source(found.part)) == 4


def test_tables_without_images(tree):
    path = tree(**{"a.csv": "url,caption\nhttp://x/a.jpg,a dog\n", "b.tsv": "k\ttext\n1\ta dog\n"})
    assert guess(str(path / "a.csv")).part == part("texts", path=path / "a.csv", column="caption")
    assert (
        "'url' holds addresses: fetch the images with img2dataset" in guess(str(path / "a.csv")).why
    )
    assert guess(str(path / "b.tsv")).part.name == "texts"


def test_recap(tree):
    table = pa.table({"url": ["http://x"], "re_caption": ["a dog"], "org_caption": ["dog"]})
    path = tree(**{"r/0.parquet": table, "r/images/1.jpg": None})
    wanted = part("recap_datacomp", path=path / "r/0.parquet", images=str(path / "r/images"))
    assert guess(str(path / "r")).part == wanted
    assert guess(str(path / "r/0.parquet")).part == wanted


def test_named_data_sets(tree):
    crepe = {"0": {"filename": "a.png", "caption": "a", "negative_caption": "b"}}
    path = tree(
        **{
            "hub/dataset_info.json": {},
            "hub2/train/state.json": {},
            "coco/annotations/captions_val2017.json": {},
            "coco/annotations/captions_train2017.json": {},
            "coco/annotations/instances_val2017.json": {},
            "f30/results.csv": "image_name| comment_number| comment\n1.jpg| 0| a dog\n",
            "f30/images/1.jpg": None,
            "f8/Flickr8k.token.txt": "a.jpg#0\tx\n",
            "crepe/add_att.json": crepe,
            "crepe/images/a.png": None,
        }
    )
    assert guess(str(path / "hub")).part == part("huggingface", path=path / "hub")
    assert guess(str(path / "hub2")).part == part("huggingface", path=path / "hub2/train")
    found = guess(str(path / "coco"))
    base = path / "coco" / "annotations"
    assert found.part == part("coco", path=base / "captions_train2017.json")
    assert found.others == (part("coco", path=base / "captions_val2017.json"),)
    assert guess(str(path / "f30")).part == part("flickr30k", path=path / "f30/results.csv")
    assert guess(str(path / "f30/results.csv")).part.name == "flickr30k"
    assert guess(str(path / "f8")).part == part("flickr30k", path=path / "f8/Flickr8k.token.txt")
    assert guess(str(path / "crepe")).part == part("sugarcrepe", path=path / "crepe")
    assert guess(str(path / "crepe/add_att.json")).part == part("sugarcrepe", path=path / "crepe")


def test_sets_of_questions(tree, picture):
    asked = {"filename": "a.png", "caption": "a", "negative_caption": "b"}
    pair = {"id": 0, "image_0": "a", "image_1": "b", "caption_0": "a b", "caption_1": "b a"}
    example = {"sentence": "a", "identifier": "1-0", "directory": "0", "label": "true"}
    images = {f"{name}/images/a.png": None for name in ("pp", "pp2", "aro", "wino", "nlvr")}
    boxes = [{"image_path": "a.png", "true_caption": "a", "false_caption": "b"}]
    path = tree(
        **{
            "pp/swap_obj.json": [{**asked, "caption2": "also a"}],
            "pp2/data/swap_obj.json": [{**asked, "caption2": "also a"}],
            "aro/visual_genome_relation.json": boxes,
            "wino/examples.jsonl": json.dumps(pair) + "\n",
            "nlvr/dev.json": json.dumps(example) + "\n" + json.dumps(example),
            "tables/nlvr.jsonl": json.dumps({"image": "a.png", "sentence": "It is", "label": True}),
            "tables/own.jsonl": json.dumps(
                {"image": "a.png", "caption": "a dog", "foil": ["a cat"], "kind": "animal"}
            ),
            "tables/labels.jsonl": json.dumps(
                {"image": "a.png", "sentence": "a shoe", "label": "shoe"}
            ),
            **images,
        }
    )
    for name in ("pp", "pp2"):
        assert guess(str(path / name)).part == part("sugarcrepe_pp", path=path / name)
    assert guess(str(path / "pp/swap_obj.json")).part == part("sugarcrepe_pp", path=path / "pp")
    assert guess(str(path / "aro")).part == part("aro", path=path / "aro")
    boxes_file = path / "aro/visual_genome_relation.json"
    assert guess(str(boxes_file)).part == part("aro", path=boxes_file)
    examples = path / "wino/examples.jsonl"
    assert guess(str(path / "wino")).part == part("winoground", path=examples)
    assert guess(str(examples)).part == part("winoground", path=examples)
    assert guess(str(path / "nlvr")).part == part("nlvr", path=path / "nlvr/dev.json")
    assert guess(str(path / "nlvr/dev.json")).part == guess(str(path / "nlvr")).part
    table = path / "tables/nlvr.jsonl"
    found = guess(str(table))
    assert found.part == part("nlvr", path=table, image="image")
    assert found.others == (part("table", path=table, image="image", caption="sentence"),)
    own = path / "tables/own.jsonl"
    options = {"caption": "caption", "foil": "foil", "kind": "kind"}
    assert guess(str(own)).part == part("triplets", path=own, image="image", **options)
    assert guess(str(path / "tables/labels.jsonl")).part.name == "table"


def test_folders_of_images(tree):
    path = tree(
        **{
            "side/1.jpg": None,
            "side/1.txt": "a dog",
            "json/sub/1.jpg": None,
            "json/sub/1.json": {"id": 3, "text": "a dog on grass"},
            "one/pics/1.png": None,
            "one/captions.txt": "image,caption\n1.png,a dog\n",
            "hf/1.png": None,
            "hf/metadata.jsonl": '{"file_name": "1.png", "text": "a dog"}\n',
            "bare/red_dog.jpg": None,
            "kinds/cat/1.jpg": None,
            "kinds/dog/1.jpg": None,
            "split/train/cat/1.jpg": None,
            "split/val/cat/1.jpg": None,
            "net/LOC_synset_mapping.txt": "n01440764 tench, x\n",
            "net/train/n01440764/1.jpg": None,
        }
    )

    def opened(name):
        found = guess(str(path / name))
        assert len(open_source(found.part)) >= 1 and found.why.endswith(".")
        return found.part

    assert opened("side") == part("folder", path=path / "side")
    assert opened("json") == part("folder", path=path / "json", caption_field="text")
    assert opened("one") == part("folder", path=path / "one")
    assert opened("hf") == part("folder", path=path / "hf")
    assert opened("bare") == part("folder", path=path / "bare", names=True)
    assert opened("kinds") == part("classes", path=path / "kinds")
    assert opened("split") == part("classes", path=path / "split/train")
    assert guess(str(path / "split")).others[0] == part("classes", path=path / "split/val")
    names = str(path / "net/LOC_synset_mapping.txt")
    assert opened("net/train") == part("classes", path=path / "net/train", names=names)


def test_captions_files(tree):
    path = tree(
        **{
            "a/captions.csv": "image,caption\n1.png,a dog\n1.png,a cat\n",
            "a/1.png": None,
            "b/list.txt": "1.png\ta dog\n",
            "b/1.png": None,
            "c/plain.txt": "a dog\na cat\n",
        }
    )
    assert guess(str(path / "a/captions.csv")).part == part(
        "folder", path=path / "a", captions="captions.csv"
    )
    assert guess(str(path / "b/list.txt")).part.name == "folder"
    assert guess(str(path / "c/plain.txt")).part == part("texts", path=path / "c/plain.txt")


@pytest.mark.parametrize(
    "words, name",
    [("train-*.tar", "webdataset"), ("s3://b/{0..9}.tar", "webdataset"), ("x.jsonl.gz", "texts")],
)
def test_what_cannot_be_looked_into_goes_by_its_suffix(words, name):
    assert guess(words) == Guess(part(name, path=words), guess(words).why)


def test_splits_in_files_are_not_mixed(tree):
    photo = {"filename": "1.jpg", "sentences": [{"raw": "a dog"}], "cocoid": 1}
    photos = [{**photo, "split": "test"}, {**photo, "split": "train", "filename": "2.jpg"}]
    path = tree(
        **{
            "c/dataset_coco.json": {"images": photos},
            "f/dataset_flickr8k.json": {"images": photos},
            "g/flickr_annotations_30k.csv": 'raw,split,filename\n"[""a dog""]",train,1.jpg\n',
            **{f"{name}/images/{photo}.jpg": None for name in "cfg" for photo in (1, 2)},
        }
    )
    for name, split in (("c", ["train", "restval"]), ("f", "train"), ("g", "train")):
        found = guess(str(path / name))
        assert found.part.options["split"] == split and "left aside" in found.why
        assert [other.options.get("split") for other in found.others] == ["val", "test", None]
        assert len(open_source(found.part)) == 1


def test_folders_of_several_data_sets_tell_nothing(tree):
    tar = {"1.jpg": None, "1.txt": b"a dog"}
    path = tree(
        **{
            "a/emoji/x-0.tar": tar,
            "a/flickr/train-0.tar": tar,
            "a/flickr/val-0.tar": tar,
            "b/x/train-0.tar": tar,
            "b/x/val-0.tar": tar,
            "b/y/train-1.tar": tar,
        }
    )
    with pytest.raises(ConfigError, match="does not tell its layout"):
        guess(str(path / "a"))
    found = guess(str(path / "b"))
    assert found.part == part("webdataset", path=path / "b/*/train*.tar")
    assert found.others == (part("webdataset", path=path / "b/*/val*.tar"),)
    assert len(open_source(found.part)) == 2


def test_images_whose_names_say_nothing(tree):
    path = tree(
        **{
            **{f"numbers/00{n}.jpg": None for n in range(4)},
            **{f"camera/IMG_00{n}.jpg": None for n in range(4)},
            **{f"hashes/3153067758_53f003b1d{n}.jpg": None for n in range(4)},
            "told/a_red-dog.jpg": None,
            "told/\u732b.jpg": None,
            "told/IMG_0001.jpg": None,
        }
    )
    for name in ("numbers", "camera", "hashes"):
        with pytest.raises(ConfigError, match=r"without captions, and their names .* say nothing"):
            guess(str(path / name))
    assert guess(str(path / "told")).part == part("folder", path=path / "told", names=True)


def test_tables_whose_images_lie_elsewhere(tree):
    path = tree(
        **{
            "a/list.csv": "image,caption\n1.png,a dog\n2.png,a cat\n",
            "a/photos/1.png": None,
            "b/x/list.csv": "image,caption\nimgs/1.png,a dog\nimgs/2.png,a cat\n",
            "b/imgs/1.png": None,
            "c/list.csv": "image,caption\n1.png,a dog\n2.png,a cat\n",
            "c/1.png": None,
        }
    )
    for name, root in (("a", "a/photos"), ("b/x", "b"), ("c", None)):
        found = guess(str(path / name / "list.csv")).part
        assert found.options.get("root") == (root and str(path / root))
        assert open_source(found).read(0).image


def test_keys_that_may_repeat_are_not_taken(tree):
    rows = [f"{n}.png,a dog,item-{n}" for n in range(1_500)]
    path = tree(**{"a.csv": "\n".join(["image,caption,sku", *rows, "1500.png,a cat,item-0\n"])})
    assert len(open_source(guess(str(path / "a.csv")).part)) == 1_501


def test_json_is_looked_into(tree):
    path = tree(
        **{
            "a/karpathy.json": [{"image": "1.png", "caption": "a dog"}] * 2,
            "b/map.json": {"1.png": "a dog"},
            "c/list.json": [{"file_name": "1.png", "captions": ["a dog"]}],
            "d/whole.json": {
                "info": {},
                "images": [{"id": 1, "file_name": "1.png"}],
                "annotations": [{"image_id": 1, "caption": "a dog"}],
            },
            "e/names.json": ["cat", "dog"],
            **{f"{name}/1.png": None for name in "abcd"},
            "f/results.csv": "model,score\nvit,3\n",
            "f/1.jpg": None,
            "f/1.txt": "a dog",
            "g/texts.jsonl.gz": "",
        }
    )
    for name, layout in (("karpathy", "folder"), ("map", "folder")):
        file = next(path.glob(f"*/{name}.json"))
        assert guess(str(file)).part == part(layout, path=file.parent, captions=file.name)
    for file in (*path.glob("[cd]/*.json"), path / "a/karpathy.json", path / "b/map.json"):
        assert len(open_source(str(file))) == 1
    assert guess(str(path / "c/list.json")).part.name == "coco"
    with pytest.raises(ConfigError, match="it is JSON with neither images nor captions"):
        guess(str(path / "e/names.json"))
    assert guess(str(path / "f")).part == part("folder", path=path / "f")
    with gzip.open(path / "g/texts.jsonl.gz", "wt") as file:
        file.write(json.dumps({"n": 1, "IIW": "a long text"}) + "\n")
    found = guess(str(path / "g/texts.jsonl.gz")).part
    assert found == part("texts", path=path / "g/texts.jsonl.gz", column="IIW")
    assert len(open_source(found)) == 1


def test_sentences_for_what_tells_nothing(tree):
    path = tree(**{"docs/a.pdf": "x", "docs/b.pdf": "x", "bad/x.parquet": "no"})
    with pytest.raises(ConfigError, match=r"docs does not tell its layout: it holds 2 \.pdf; give"):
        guess(str(path / "docs"))
    with pytest.raises(ConfigError, match="does not tell its layout and nothing is there"):
        guess(str(path / "nowhere"))
    with pytest.raises(DataError, match=r"x\.parquet can't be read as \.parquet"):
        guess(str(path / "bad"))
    (path / "loop").mkdir()
    (path / "loop" / "train").symlink_to(path / "loop")
    with pytest.raises(ConfigError, match="it holds 1 folders"):
        guess(str(path / "loop"))


def test_the_real_folders(shared_data):
    for name, layout in {
        "coco-sugarcrepe-mini": "coco",
        "coco-sugarcrepe-mini/sugarcrepe": "sugarcrepe",
        "nlvr": "nlvr",
        "flickr8k": "webdataset",
        "fashion-products": None,
    }.items():
        found = guess(str(shared_data / name))
        assert layout is None or found.part.name == layout, (name, found)
        assert len(open_source(found.part)) > 0


def test_a_link_to_itself_is_looked_past(tree):
    folder = tree(**{"a.png": None, "a.txt": "a dog"})
    (folder / "circle").symlink_to("circle")
    assert guess(str(folder)).part == part("folder", path=folder)


def test_times_beyond_those_of_python_do_not_stop_a_look(tree, picture):
    when = pa.array([9_999_999_999_999], pa.timestamp("s"))
    rows = {"image": [picture()], "caption": ["a dog runs"], "when": when}
    folder = tree(**{"a.parquet": pa.table(rows)})
    assert guess(str(folder / "a.parquet")).part.name == "table"


def test_a_pipe_is_looked_past(tree):
    folder = tree(**{"a.png": None, "a.txt": "a dog"})
    for name in ("a.json", "b.tar", "c.csv", "metadata.jsonl", "captions_val2017.json"):
        os.mkfifo(folder / name)
    signal.alarm(10)  # opened, it would be waited for
    assert guess(str(folder)).part == part("folder", path=folder)
    signal.alarm(0)


def test_packed_shards_are_read_with_their_roles(tmp_path):
    """Their manifest says them; the key in each .json is no caption."""
    import lift

    lift.pack("scenes:count=6,resolution=32", out=tmp_path / "packed", progress=False)
    found = guess(str(tmp_path / "packed"))
    assert "lift data pack" in found.why
    source = open_source(str(tmp_path / "packed"))
    told = {key: set(found) for key, found in open_source("scenes:count=6,resolution=32").texts()}
    assert {key: set(found) for key, found in source.texts()} == told
    assert {caption.role for found in told.values() for caption in found} == {"short", "long"}
    (tmp_path / "packed" / "manifest.json").write_text("{")
    assert guess(str(tmp_path / "packed")).part.name == "webdataset"


def test_a_folder_may_be_called_like_a_layout(tmp_path, monkeypatch, picture):
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco" / "a.png").write_bytes(picture())
    (tmp_path / "coco" / "a.txt").write_text("a dog")
    monkeypatch.chdir(tmp_path)
    assert open_source("coco").read(0).captions[0].text == "a dog"
