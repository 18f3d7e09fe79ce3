"""Relevance inside the network: what arrived at every operation, and the table that shows that it adds up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kerascope.errors import counted, unknown_name

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray


@dataclass(frozen=True)
class Step:
    """One operation of a walk, as the tables name it."""

    node: str
    layer: str
    kind: str
    rule: str


@dataclass(frozen=True, eq=False, repr=False)
class Relevances(Mapping[str, Array]):
    """The relevance at every operation of a walk, from the output back to the input.

    ``relevances["conv_2"]`` is what arrived at the output of that operation: array (N, *shape) as the operation returns
    it, or (N, T, *shape) for several targets; of several tensors that it returns, ``relevances["split[0]"]`` is the
    first. Under DeepLIFT these are contributions to the difference from the reference.
    Iterating gives the operations in the order of the walk.

    Attributes:
        arrays: what arrived, by operation.
        inputs: the relevance of the network's inputs, one array (N, *S) or (N, T, *S) each.
        steps: the operations.
        arriving, departing, absorbed: sums per sample, by operation: (N,) or (N, T).
        explained: the explained numbers (N,) or (N, T).
    """

    arrays: dict[str, Array]
    inputs: tuple[Array, ...]
    steps: tuple[Step, ...]
    arriving: dict[str, Array]
    departing: dict[str, Array]
    absorbed: dict[str, Array]
    explained: Array

    def __getitem__(self, node: str) -> Array:
        """Return what arrived at an operation's output."""
        if node not in self.arrays:
            raise unknown_name("operation", node, self.arrays)
        return self.arrays[node]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the operations, from the output back."""
        return iter(self.arrays)

    def __len__(self) -> int:
        """Return how many operations relevance passed."""
        return len(self.arrays)

    def __repr__(self) -> str:
        """Return the number of operations and samples."""
        return f"<Relevances of {counted(len(self.explained), 'sample')} at {counted(len(self), 'operation')}>"

    def conservation(self) -> pd.DataFrame:
        """Return, operation by operation, whether relevance was conserved; the mean over samples (and targets).

        Returns:
            Columns ``operation, layer, kind, rule``, ``arriving`` (sum of what arrived), ``departing`` (what was handed
            to its inputs), ``absorbed`` (what biases, stabilisers and vanished denominators kept), ``lost_in_padding``
            (what reached constant cells), and ``gap``: the largest absolute value of arriving - departing - absorbed -
            lost_in_padding over the samples. Absorbed and padding are counted on their own: the gap is a check.
        """
        import pandas as pd

        rows = []
        for step in self.steps:
            kept = self.absorbed[step.node]
            gap = self.arriving[step.node] - self.departing[step.node] - kept
            padding = step.kind == "route"
            rows.append(
                {
                    **{"operation": step.node, "layer": step.layer, "kind": step.kind, "rule": step.rule},
                    "arriving": float(self.arriving[step.node].mean()),
                    "departing": float(self.departing[step.node].mean()),
                    "absorbed": 0.0 if padding else float(kept.mean()),
                    "lost_in_padding": float(kept.mean()) if padding else 0.0,
                    "gap": float(np.max(np.abs(gap))),
                }
            )
        return pd.DataFrame(rows)
