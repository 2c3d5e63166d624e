"""Commands about finished models: load, report, import."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from lift.bundle import Bundle
    from lift.text.encoder import TextEncoder


def load(
    path: str | Path,
    *,
    device: str = "auto",
    precision: Literal["float32", "bfloat16"] = "float32",
    text_encoder: TextEncoder | None = None,
) -> Bundle:
    """Load a trained model: `encode_images`, `encode_texts`, `similarity`, `classify`.

    Args:
        path: folder of a finished run or of a bundle.
        device: auto, cpu, cuda or mps.
        precision: what the tower computes in.
        text_encoder: in place of the one that the model names, for example one that needs a
            server or its own code: `build_encoder(part, trusted=True)` of `lift.text.encoder`.

    Raises:
        CheckpointError: no model there, a newer format, or damaged weights.
    """
    from lift import bundle

    return bundle.load(path, device=device, precision=precision, text_encoder=text_encoder)


def report(run: str | Path, *, out: str | Path | None = None) -> Path:
    """Write a run's page: curves, metrics with intervals, a gallery of queries. One file.

    Args:
        run: the run's folder, or that of a comparison (`lift compare`).
        out: where to write; None is `report.html` in the run, `comparison.html` in a comparison.
    """
    from lift.pages.page import write_report
    from lift.training.compared import is_comparison
    from lift.training.folder import read_config

    if is_comparison(Path(run)):
        from lift.pages.comparison import write_comparison

        return write_comparison(run, out=out)
    config = read_config(Path(run))
    return write_report(
        Path(run),
        out=Path(out) if out is not None else None,
        thumbnails=_images(config.validation),
    )


def import_reference(checkpoint: str | Path, *, cache: str | Path, out: str | Path) -> Bundle:
    """Turn a checkpoint of the paper's own code into a model of ours.

    Args:
        checkpoint: the file (`epoch_N.pt`); tensors are read, nothing in it is run.
        cache: any cache in the checkpoint's text space: the file itself does not say which.
        out: folder of the model.

    Raises:
        CheckpointError: not such a checkpoint, or something else is in `out`.
        SpaceMismatch: the cache's rows are not as wide as the checkpoint's vectors.
    """
    from lift.convert.checkpoint import import_reference as convert

    return convert(checkpoint, cache=cache, out=out)


def _images(spec: str):
    """Return, by the name of the data, a function from key to image bytes (None: not there).

    Data that has moved since costs the page its pictures, which it says, and nothing else.
    """
    from lift.data.source import open_source
    from lift.errors import ConfigError, DataError

    if not spec:
        return None
    try:
        source = open_source(spec)
    except (ConfigError, DataError):
        return {}
    numbers = {key: number for number, (key, _) in enumerate(source.texts())}

    def image(key: str) -> bytes | None:
        return source.read(numbers[key]).image if key in numbers else None

    return {source.name: image}
