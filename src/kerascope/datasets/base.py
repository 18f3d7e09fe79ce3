"""What every data set is: matrices, labels, names, and the cells that carry the label."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False, kw_only=True)
class Dataset:
    """Matrices with one label each and, where it is known, the cells that carry the label.

    Attributes:
        x: array (N, H, W), float32: one matrix per sample.
        y: int array (N,): the class of each sample, an index into `class_names`.
        truth: bool array (N, H, W), True where the label's evidence was put; None where nobody knows.
        class_names: one name per class.
        dims: the names of the two matrix axes, (H, W).
        coords: labels or numbers along the axes, by axis name.
    """

    x: Floats
    y: Ints
    truth: Bools | None = None
    class_names: tuple[str, ...]
    dims: tuple[str, str] = ("row", "column")
    coords: dict[str, npt.NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return N, the number of samples."""
        return len(self.y)

    @property
    def names(self) -> dict[str, Any]:
        """The keywords that label an explanation: ``ks.explain(model, data.x, **data.names)``."""
        return {"dims": self.dims, "coords": self.coords, "class_names": self.class_names}
