"""Files appear whole or not at all, also on a full disk and beside a second writer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lift.errors import StorageError
from lift.files import (
    is_ours_or_empty,
    remove_partial,
    restore_old,
    sole_writer,
    whole_file,
    whole_folder,
)


def test_a_file_appears_only_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"
    with whole_file(path) as aside:
        aside.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert os.listdir(path.parent) == ["a.txt"]


def test_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), whole_file(path) as aside:
        aside.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_folder_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "model"
    for text in ("one", "two"):
        with whole_folder(path) as aside:
            (aside / "a.txt").write_text(text)
    assert (path / "a.txt").read_text() == "two"
    assert os.listdir(tmp_path) == ["model"]


def test_killed_between_two_renames_the_old_folder_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "model"
    (tmp_path / ".replaced-model").mkdir()
    (tmp_path / ".replaced-model" / "a.txt").write_text("old")
    (tmp_path / ".partial-model").mkdir()
    restore_old(path)
    assert (path / "a.txt").read_text() == "old"
    os.replace(path, tmp_path / ".replaced-model")
    remove_partial(tmp_path)
    assert (path / "a.txt").read_text() == "old"
    assert os.listdir(tmp_path) == ["model"]


def test_a_refused_write_is_told_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_text("old")
    program = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from lift.errors import StorageError; from lift.files import whole_file\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    with whole_file(Path(sys.argv[1])) as aside, open(aside, 'wb') as file:\n"
        "        file.write(b'x' * 5000)\n"
        "except StorageError as error:\n"
        "    print(error)\n"
    )
    command = [sys.executable, "-c", program, path]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Can't write" in done.stdout and "run the same command again" in done.stdout
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with sole_writer(tmp_path):
        with pytest.raises(StorageError, match="Another process is writing"), sole_writer(tmp_path):
            pass
    with sole_writer(tmp_path):
        pass


def test_a_folder_made_for_a_lock_goes_with_it(tmp_path: Path) -> None:
    with sole_writer(tmp_path / "new"):
        assert (tmp_path / "new").is_dir()
    assert os.listdir(tmp_path) == []
    with sole_writer(tmp_path / "new"):
        (tmp_path / "new" / "row").write_text("1")
    assert (tmp_path / "new" / "row").exists()


def test_leftovers_are_ours_other_files_are_not(tmp_path: Path) -> None:
    (tmp_path / ".partial-model").mkdir()
    assert is_ours_or_empty(tmp_path, "run.json")
    remove_partial(tmp_path)
    assert os.listdir(tmp_path) == []
    (tmp_path / "thesis.doc").write_text("precious")
    assert not is_ours_or_empty(tmp_path, "run.json")
