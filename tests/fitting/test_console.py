"""`lift fit` and `lift migrate` as they are typed."""

from __future__ import annotations

import lift
from lift.cli import main


def test_fit_then_migrate(world, tmp_path, capsys):
    model, moved = str(tmp_path / "m"), str(tmp_path / "moved")
    words = ["fit", "--data", world.data, "--features", str(world.features)]
    words += ["--cache", str(world.old), "--out", model, "--method", "ridge"]
    assert main([*words, "--set", "penalty=kfold", "--quiet"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("before: CKA") and f"model: {model}" in told
    assert "ridge; penalty" in told and told.count("\n") < 20
    assert main([*words, "--set", "penalt=3", "--quiet"]) == 2
    assert "Did you mean 'penalty'" in capsys.readouterr().err

    words = ["migrate", str(world.old), str(world.new), "--model", model, "--quiet"]
    assert main(words) == 0 and not (tmp_path / "moved").exists()
    assert "the move is" in capsys.readouterr().out
    assert main([*words, "--out", moved]) == 0
    assert f"model: {moved}" in capsys.readouterr().out
    assert lift.load(moved).space.dimensions == 24


def test_bridge(world, tmp_path, capsys):
    words = ["fit", "--bridge", "--own", str(world.wide), "--cache", str(world.new)]
    words += ["--features", str(world.features), "--out", str(tmp_path / "m"), "--quiet"]
    assert main(words) == 0
    assert "on captions alone" in capsys.readouterr().out
    assert lift.load(tmp_path / "m").record.origin["recipe"] == "bridge"
