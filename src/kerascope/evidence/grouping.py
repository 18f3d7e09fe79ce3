"""Lines that are tested together: as the user names them, or as they vary together in the background."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kerascope.errors import BadInputError, unknown_name

if TYPE_CHECKING:
    from kerascope.evidence.record import Evidence

Floats = NDArray[np.float64]
Members = tuple[tuple[int, ...], ...]
"""The lines of each group; groups in the order of their first line."""

CORRELATED = "correlated"
THRESHOLD = 0.5
"""What "correlated" means: a mean |r| of at least this between the lines of two clusters joins them."""
_FEW = 3
"""Fewer background samples than this do not tell what varies together."""


def resolve(
    groups: Any, dims: Sequence[str], sizes: Sequence[int], ordered: Sequence[str], samples: Callable[[], Floats]
) -> dict[str, Members]:
    """Turn what the user gave as ``groups`` into the lines of each group, by dim.

    Args:
        groups: None; a label per line, whole numbers or names; "correlated"; a correlation; or a dict of these by
            dim. Without a dict they are for the one dim that is not ordered, or for the first. The lines of a dim
            with None stay alone.
        dims: the matrix dims.
        sizes: their sizes.
        ordered: the dims along which stretches run.
        samples: returns the background as matrices (M, H, W, C), for correlations; C: all other axes.

    Raises:
        BadInputError: if labels do not fit the dim, the correlation lies outside 0..1, or the samples are too few.
        UnknownNameError: for another dim or word.
    """
    if groups is None:
        return {}
    if not isinstance(groups, Mapping):
        loose = [dim for dim in dims if dim not in ordered]
        groups = {loose[0] if len(loose) == 1 else dims[0]: groups}
    found = {}
    for dim, value in groups.items():
        if dim not in dims:
            raise unknown_name("dim of groups", str(dim), dims)
        if value is None:
            continue
        axis = list(dims).index(dim)
        if isinstance(value, str) and value != CORRELATED:
            raise unknown_name("kind of groups", value, (CORRELATED, "a correlation", "a label for each line"))
        labels = _array(value, dim, sizes[axis])
        if labels.ndim == 0:
            threshold = _threshold(value)
            found[dim] = correlated(_enough(samples(), value), axis, threshold)
        else:
            found[dim] = _members(_labels(labels, dim, sizes[axis]))
    return found


def together(evidence: Evidence, dim: str, line: int) -> tuple[int, ...]:
    """Return the lines that were tested together with one, itself among them.

    Args:
        evidence: what was found.
        dim: the dim along which the line runs.
        line: its index along the other dim; -1 where a sample has one axis.
    """
    across = next((other for other in evidence.explanation.matrix_dims() if other != dim), dim)
    groups = evidence.attrs.get("groups", {}).get(across, ())
    return next((tuple(group) for group in groups if line in group), (line,))


def _enough(samples: Floats, asked: Any) -> Floats:
    if len(samples) < _FEW:
        raise BadInputError(
            f"groups={asked!r} asks which lines vary together in the background, which takes at least {_FEW} samples; "
            f"got {len(samples)}. Give more background samples, or a label for each line."
        )
    return samples


def correlated(samples: Floats, axis: int, threshold: float) -> Members:
    """Cluster the lines of one axis by how they vary together over samples.

    r: correlation of two lines over all samples and cells, each cell less its mean over samples. Average linkage on
    1 - |r|, cut where the mean |r| between two clusters falls below the threshold.

    Args:
        samples: array (M, H, W, C).
        axis: 0 for H, 1 for W.
        threshold: 0 to 1.

    Returns:
        The lines of each group.
    """
    from scipy.cluster import hierarchy
    from scipy.spatial.distance import squareform

    count = samples.shape[1 + axis]
    if count < 2:
        return _members(np.zeros(count, dtype=np.int64))
    distance = 1 - np.abs(_correlations(samples, axis))
    np.fill_diagonal(distance, 0)
    tree = hierarchy.linkage(squareform(np.clip(distance, 0, None), checks=False), "average")
    return _members(hierarchy.fcluster(tree, 1 - threshold + 1e-12, "distance"))


def _correlations(samples: Floats, axis: int) -> Floats:
    """Return r between the lines of an axis (L, L); 0 where a line does not vary."""
    mean = samples.mean(axis=0, dtype=np.float64)
    products = np.zeros((samples.shape[1 + axis],) * 2)
    for one in samples:  # one at a time: no copy of the background
        lines = np.moveaxis(one - mean, axis, 0).reshape(len(products), -1)
        products += lines @ lines.T
    scale = np.sqrt(np.diag(products))
    size = np.outer(scale, scale)
    return np.asarray(np.divide(products, size, out=np.zeros_like(products), where=size > 0))


def _threshold(value: Any) -> float:
    if isinstance(value, str):
        return THRESHOLD
    if isinstance(value, (bool, np.bool_)) or not np.isreal(value) or not 0 < value < 1:
        raise BadInputError(
            f"groups={value!r}: a number is the correlation at which lines are tested together, between 0 and 1."
        )
    return float(value)


def _array(value: Any, dim: str, count: int) -> NDArray[Any]:
    try:
        return np.asarray(value)
    except ValueError:  # lists of different lengths
        raise _no_labels(dim, count, repr(value)) from None


def _labels(labels: NDArray[Any], dim: str, count: int) -> NDArray[Any]:
    if labels.dtype.kind == "O" and all(isinstance(label, str) for label in labels.flat):
        labels = labels.astype(np.str_)
    if labels.shape != (count,) or labels.dtype.kind not in "iuU":
        raise _no_labels(dim, count, f"shape {labels.shape}, dtype {labels.dtype}")
    return labels


def _no_labels(dim: str, count: int, came: str) -> BadInputError:
    return BadInputError(
        f"groups= must hold {count} labels, whole numbers or names, one for each index along {dim!r}; got {came}. "
        "Lines with the same label are tested together: [0, 0, 1] joins the first two of three. A dict names the dim: "
        f"groups={{{dim!r}: labels}}."
    )


def _members(labels: NDArray[Any]) -> Members:
    first = np.unique(labels, return_index=True)[1]
    return tuple(tuple(np.flatnonzero(labels == labels[at]).tolist()) for at in np.sort(first))
