"""`Evidence`: the rows, columns and stretches that speak for an output, with drops, p- and q-values."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kerascope.errors import BadInputError
from kerascope.explanation import Explanation

if TYPE_CHECKING:
    import os
    from pathlib import Path

    import pandas as pd

TABLES = ("rows", "columns", "segments")


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Evidence:
    """What `kerascope.evidence` found for N samples.

    Attributes:
        rows: one table line per row of every sample: ``sample, target, index, name, sum, abs_sum, share`` as in
            `Explanation.rows`, then ``drop, drop_low, drop_high`` (what the explained number loses when the row
            is replaced by background samples' values, with a 95 % interval over fills; nan where not
            measured), ``p`` (family-wise over the rows of a matrix, against references), ``q`` (false
            discovery rate over samples) and ``called``. Best first within each sample: by p, then by drop.
        columns: likewise for columns; empty where a sample has one axis.
        segments: the called stretches: ``sample, target, dim, line, name, sign, start, stop, length, score,
            share``, ``whole`` (the stretch is the whole line), then as in `rows`; p and q are those of the
            stretch's line.
        explanation: the maps that all this was read from.
        classes: int array (N,): the class each sample was explained for; -1 where the target is no class.
        warnings: what to know before believing it.
        attrs: level, sign, number of references by class, correlations of sums and drops; plain data.
    """

    rows: pd.DataFrame
    columns: pd.DataFrame
    segments: pd.DataFrame
    explanation: Explanation
    classes: NDArray[np.int64]
    warnings: list[str] = field(default_factory=list)
    attrs: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of samples N."""
        return len(self.explanation)

    def __repr__(self) -> str:
        """Return a summary in a line."""
        called = [int(table["called"].sum()) for table in (self.rows, self.columns)]
        counts = f"{called[0]} rows, {called[1]} columns, {len(self.segments)} stretches"
        return f"<Evidence: {len(self)} samples; called at level {self.attrs['level']:g}: {counts}>"

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Save maps and tables as a Zarr store that `kerascope.open` reads; it appears whole or not at all.

        Args:
            path: the folder to make.
            overwrite: replace a store that is there.

        Raises:
            OutputExistsError: something is there already.
        """
        from kerascope.evidence import storing

        return storing.save(self, path, overwrite=overwrite)

    def report(
        self,
        path: str | os.PathLike[str],
        *,
        title: str | None = None,
        overwrite: bool = False,
        truth: NDArray[Any] | None = None,
        samples: Sequence[int] | None = None,
    ) -> Path:
        """Write a self-contained HTML report: for each sample the map, its called stretches, drops, p and q.

        Args:
            path: file to write.
            title: heading; None names the model.
            overwrite: replace a file of that name.
            truth: bool array (N, rows, columns), outlined on the maps.
            samples: indices of the samples to show; None takes the first 50 and says how many it leaves out.

        Returns:
            The path written.

        Raises:
            OutputExistsError: the file exists and ``overwrite`` is False. Nothing is written.
        """
        from kerascope.evidence.pages import write_report

        return write_report(self, path, title=title, overwrite=overwrite, truth=truth, samples=samples)

    def of(self, sample: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """Return the called rows, columns and stretches of one sample; negative numbers count from the end.

        Raises:
            BadInputError: there is no such sample.
        """
        count, at = len(self), operator.index(sample)
        if not -count <= at < count:
            raise BadInputError(f"sample={at} is out of range: there are {count} samples, 0 to {count - 1}.")
        at %= count
        rows, columns = (t[(t["sample"] == at) & t["called"]] for t in (self.rows, self.columns))
        return rows, columns, self.segments[self.segments["sample"] == at]
