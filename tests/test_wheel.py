"""The built wheel works outside the tree, and holds what it should."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_wheel_works_outside_the_tree(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path, ROOT]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("lift_align-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    pages = [f"pages/{name}" for name in ("template.html", "card.html", "inspect.html")]
    pages += [f"serving/page/{name}" for name in ("index.html", "app.js", "style.css", "icon.svg")]
    for name in (*pages, "pages/style.css", "py.typed"):
        assert f"lift/{name}" in names, name
    assert not [n for n in names if not n.startswith(("lift/", "lift_align-"))]
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", site, wheel]
    subprocess.run(install, capture_output=True, check=True)
    program = (
        "import lift, sys; from lift.cli import main\n"
        f"assert lift.__file__.startswith({str(site)!r}), lift.__file__\n"
        "data = ['scenes:count=40,resolution=32']\n"
        "lift.embed(data, out='cache', encoder='hashing:dimensions=16', progress=False)\n"
        "words = 'data=scenes:count=40,resolution=32 encoder=hashing encoder.dimensions=16 '\n"
        "words += 'samples=64 loader.batch_size=16 validation= evaluations=[] '\n"
        "words += 'optim.warmup_steps=1 tower.depth=1'\n"
        "train = ['train', 'quickstart', '--cache', 'cache', '--out', 'run', '--quiet', '--set']\n"
        "assert main([*train, *words.split()]) == 0\n"
        "assert main(['report', 'run']) == 0\n"
    )
    outside = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=outside,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "report.html").exists()
