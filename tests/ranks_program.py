"""A program for `torchrun`: every word that ranks exchange; exits with 0 where all is right."""

from __future__ import annotations

import sys

import torch

from lift.errors import DataError, Echo, LiftError
from lift.ranks import joined
from lift.world import worker

CPU = torch.device("cpu")
SIZES = [2, 0, 3]


def check(own: int, size: int) -> None:
    with joined(CPU) as ranks:
        assert (ranks.worker.rank, ranks.size, ranks.first) == (own, size, own == 0)
        sizes = SIZES[:size]
        first = sum(sizes[:own])
        for kind in (torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool):
            whole = (torch.arange(sum(sizes) * 4) % 5).reshape(-1, 2, 2).to(kind)
            rows = ranks.gather(whole[first : first + sizes[own]])
            assert rows.dtype == kind and torch.equal(rows, whole)
        assert torch.equal(ranks.sum(torch.tensor([own, 1.0])), torch.tensor([3.0, 3.0]))
        assert torch.equal(ranks.max(torch.tensor([own, -own])), torch.tensor([2, 0]))
        assert ranks.agree({"rank": own}) == {"rank": 0}
        assert ranks.hear(["ä", own]) == [["ä", n] for n in range(size)]
        assert ranks.any(own == 1) and not ranks.any(False)

        x = torch.full((sizes[own], 2), 1.0 + own, requires_grad=True)
        gathered = ranks.gather_with_gradient(x)
        (gathered * (own + 1)).sum().backward()  # each rank weighs all rows by its own number
        assert x.grad is not None and torch.equal(x.grad, torch.full_like(x, 6.0))

        with ranks.together():
            pass
        for speaker in (0, 2):
            try:
                with ranks.together():
                    if own >= speaker:
                        raise DataError(f"said by {own}")
            except Echo as error:
                assert own != speaker and str(error) == f"said by {speaker}"
            except LiftError as error:
                assert own == speaker and str(error) == f"said by {own}"
            else:
                raise AssertionError("an error of one is that of all")
    with joined(CPU) as ranks:  # a second group of the same processes
        assert ranks.any(own == 2)


if __name__ == "__main__":
    me = worker()
    check(me.rank, me.size)
    sys.stdout.write(f"rank {me.rank} is right\n")
