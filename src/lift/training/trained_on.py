"""What a run was trained on: hashes of every image that it showed, kept while it runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64

from lift.data import provenance
from lift.data.provenance import Provenance
from lift.data.source import each
from lift.errors import CheckpointError
from lift.files import reserve, told_plainly, whole_file
from lift.ranks import ALONE, Ranks
from lift.terms import Batch, Source
from lift.training.config import RunConfig

NAME = "prints.npy"


class TrainedOn:
    """Two hashes of each sample (file, look), 0 for those not shown yet; mapped from a file.

    A hash is a fact about the data and not about the run's state, so a checkpoint has none of
    them. A look may come from another reduction of the image each time, and workers that are ahead
    hash a sample again: what stands is that of its first showing, killed or not (of several ranks
    that show it before they collect, the lowest one's).

    Attributes:
        prints: int64 [samples 2]; workers see what is there and hash the rest.
    """

    def __init__(self, folder: Path, samples: int, ranks: Ranks = ALONE) -> None:
        """Open the record in a run's folder; the first rank writes for all.

        Raises:
            CheckpointError: a record of another number of samples.
        """
        self._folder, self._ranks, path = folder, ranks, folder / NAME
        self._pending: list[np.ndarray] = []
        try:
            self.prints: Int64[np.ndarray, "samples 2"] = np.load(
                path, mmap_mode="r+" if ranks.first else "r", allow_pickle=False
            )
        except ValueError as error:
            raise CheckpointError(f"{path} is damaged ({error}); remove it to go on.") from error
        if self.prints.shape != (samples, 2) or self.prints.dtype != np.int64:
            raise CheckpointError(
                f"{path} is of {self.prints.shape[0]:,} samples and the data has {samples:,}: give "
                "the data that the run was started with."
            )

    @staticmethod
    def begin(folder: Path, samples: int) -> None:
        """Write a record of zeros if there is none, with room for all samples.

        A full disk under a map would kill the run.

        Raises:
            StorageError: the disk is full.
        """
        path = folder / NAME
        if path.exists():
            return
        with told_plainly(path), whole_file(path) as aside, open(aside, "wb") as file:
            header = {"descr": "<i8", "fortran_order": False, "shape": (samples, 2)}
            np.lib.format.write_array_header_1_0(file, header)
            if samples:
                reserve(file, samples * 16)

    def add(self, batch: Batch) -> None:
        """Take in the hashes that came with a batch; `collect` writes them down."""
        prints = batch.prints.numpy()
        new = prints[:, 0] != 0
        if new.any():
            self._pending.append(np.column_stack([batch.index.numpy()[new], prints[new]]))

    def collect(self) -> None:
        """Write down what all ranks took in; each calls this after the same step."""
        held = np.concatenate([np.empty((0, 3), np.int64), *self._pending])
        self._pending.clear()
        found = self._ranks.gather(torch.from_numpy(held)).numpy()
        if not self._ranks.first:
            return
        # Backwards, so that of a sample that stands twice the first stays.
        found = found[self.prints[found[:, 0], 0] == 0][::-1]
        self.prints[found[:, 0]] = found[:, 1:]

    def flush(self) -> None:
        """Write what was collected to the disk."""
        if self._ranks.first:
            assert isinstance(self.prints, np.memmap), "opened as a map"
            self.prints.flush()

    def save(self, source: Source, config: RunConfig) -> Provenance:
        """Write what was shown beside the record, with what there is to know of each sample.

        Raises:
            DataError: the source has another number of samples now.
            StorageError: the disk is full.
        """
        path = self._folder / provenance.NAME
        words, licences = each(config.data), config.licences
        roles = config.loader.taking_part
        return provenance.write(
            path, source, self.prints, words=words, licences=licences, roles=roles
        )
