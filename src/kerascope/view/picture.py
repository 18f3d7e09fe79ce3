"""Does a sample look like a picture, and if so how do its numbers become red, green and blue? NumPy only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from kerascope.explanation import Explanation

Floats = npt.NDArray[np.floating[Any]]

PICTURE_DIMS = (("row", "column"), ("height", "width"), ("y", "x"), ("h", "w"))
"""Names of the two spatial axes under which a sample may be a picture; other names mean a matrix."""

KINDS = ("0..255", "0..1", "-1..1", "means", "standard")
"""Ways to prepare pictures that can be turned back exactly; see :func:`as_picture`."""

PREPARED = "preprocess"
"""The attribute of an explanation that says how its pictures were prepared: ``{"name": …, "kind": …}``."""

SIZES = "sizes"
"""Entry of `PREPARED`: the sizes of the photographs before they were resized, ``{sample's name: [height, width]}``."""

_SMALLEST = 16
_BLUE_GREEN_RED_MEANS = np.array([103.939, 116.779, 123.68])
_MEANS, _DEVIATIONS = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def known_kind(attrs: Mapping[str, Any]) -> str | None:
    """Return how an explanation's pictures were prepared, where it says so in a way known here."""
    said = attrs.get(PREPARED)
    kind = said.get("kind") if isinstance(said, Mapping) else None
    return kind if kind in KINDS else None


def pixels(height: int, width: int) -> str:
    """Return a size as people read it: ``451 pixels wide, 300 high``."""
    return f"{width} pixels wide, {height} high"


def original_size(e: Explanation, sample: int) -> tuple[int, int] | None:
    """Return the height and width of a sample's photograph before it was resized to the model, where they are known."""
    said, names = e.attrs.get(PREPARED), e.coords.get("sample")
    sizes = said.get(SIZES) if isinstance(said, Mapping) and names is not None else None
    size = sizes.get(str(names[sample])) if isinstance(sizes, Mapping) and names is not None else None
    return None if size is None else (int(size[0]), int(size[1]))


def picture_kind(samples: Floats) -> str | None:
    """Return how to turn samples into pictures, or None where they do not look like pictures.

    Args:
        samples: (N, H, W, C), the channel axis last.

    Returns:
        One of ``"0..1"``, ``"0..255"``, ``"-1..1"``, ``"means"`` (blue, green, red with the ImageNet means
        taken off), ``"stretch"`` (smooth, in a range of its own), or None.
    """
    if samples.ndim != 4 or samples.shape[3] not in (1, 3) or min(samples.shape[1:3]) < _SMALLEST:
        return None
    if samples.size == 0 or not np.isfinite(samples).all() or _neighbours(samples) < 0.5:
        return None
    low, high = float(samples.min()), float(samples.max())
    if low >= 0.0 and high <= 255.0:
        return "0..1" if high <= 1.0 else "0..255"
    if low >= -1.0 and high <= 1.0:
        return "-1..1"
    if samples.shape[3] == 3 and low >= -124.0 and high - low > 100.0 and high <= 152.0:
        return "means"
    return "stretch"


def as_picture(sample: Floats, kind: str) -> npt.NDArray[np.uint8]:
    """Return a picture, uint8 (H, W, 3).

    Args:
        sample: (H, W, C) with C 1 or 3; three for ``"means"`` and ``"standard"``.
        kind: what :func:`picture_kind` said, or one of `KINDS`: ``"standard"`` is red, green and blue in 0..1 less
            their ImageNet means, over their standard deviations.
    """
    x = np.asarray(sample, dtype=np.float64)
    if kind == "0..1":
        x = x * 255.0
    elif kind == "-1..1":
        x = (x + 1.0) * 127.5
    elif kind == "means":
        x = (x + _BLUE_GREEN_RED_MEANS)[..., ::-1]
    elif kind == "standard":
        x = (x * _DEVIATIONS + _MEANS) * 255.0
    elif kind == "stretch":
        low, high = x.min(), x.max()
        x = (x - low) * (255.0 / (high - low or 1.0))
    x = np.clip(np.rint(x), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(x, (*x.shape[:2], 3)))


def _neighbours(samples: Floats) -> float:
    """Return the lower of the two correlations of cells with the next one down and across."""
    x = samples[:8].astype(np.float64)
    x = x - x.mean(axis=(1, 2), keepdims=True)
    pairs = ((x[:, 1:], x[:, :-1]), (x[:, :, 1:], x[:, :, :-1]))
    scale = [np.sqrt((a**2).sum() * (b**2).sum()) for a, b in pairs]
    return min(float((a * b).sum() / s) if s > 0.0 else 0.0 for (a, b), s in zip(pairs, scale, strict=True))
