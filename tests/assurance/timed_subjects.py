"""Subjects of real arithmetic for the drills of the instruments; importable by their processes."""

from dataclasses import dataclass

import torch

from passt_bench.measure.target import Subject


@dataclass(frozen=True)
class Products:
    """A step of ``count`` products of small matrices, a tenth of a millisecond each or less."""

    count: int

    def __call__(self) -> Subject:
        random = torch.Generator().manual_seed(0)
        a = torch.rand(96, 96, generator=random)
        b = torch.rand(96, 96, generator=random)
        out = torch.empty(96, 96)

        def forward() -> None:
            for _ in range(self.count):
                torch.mm(a, b, out=out)

        return Subject(step={"forward": forward})
