"""From numbers to colours, one named step at a time; NumPy only.

The steps are separate so that each can be left out: :func:`symmetric_limit` picks the number at which the
colours end, :func:`normalise` divides by it, :func:`colour` looks the result up in a :func:`palette`.
Nothing here changes a map that is stored: values stay raw and signed until they are drawn.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from kerascope.errors import BadInputError, unknown_name

Floats = npt.NDArray[np.floating[Any]]
Bytes = npt.NDArray[np.uint8]
PaletteName = Literal["relevance", "signed", "plain", "grey"]

NAN_COLOUR = (190, 190, 190)
"""Grey shown where a number is missing."""

# Colour stops from lowest to highest, evenly spaced. "relevance" and "signed" have white in the middle; their
# two ends stay apart under the common kinds of colour blindness.
_STOPS: dict[str, tuple[str, ...]] = {
    "relevance": (
        "#08306b",
        "#2166ac",
        "#5a9fcf",
        "#b3d3e8",
        "#ffffff",
        "#fbc9b0",
        "#ee8a68",
        "#c9302f",
        "#67000d",
    ),
    "signed": ("#3f1d6b", "#6a51a3", "#a79cc9", "#ffffff", "#f3c07a", "#c9812a", "#7a4300"),
    "plain": ("#ffffff", "#d5dadf", "#9aa5b1", "#5b6875", "#1d2833"),
    "grey": ("#000000", "#ffffff"),
}


def palette(name: PaletteName = "relevance", size: int = 255) -> Bytes:
    """Return a list of colours, lowest first.

    Args:
        name: ``"relevance"`` (blue, white at the middle, red), ``"signed"`` (purple, white, orange: inputs of
            both signs), ``"plain"`` (white to dark: inputs of one sign), ``"grey"`` (black to white).
        size: number of colours; odd, so that one of them is the exact middle.

    Returns:
        uint8 array (size, 3), red, green, blue.

    Raises:
        UnknownNameError: the name is not one of the above.
        BadInputError: ``size`` is even or below 3.

    >>> palette("relevance", 5)[2].tolist()
    [255, 255, 255]
    """
    if name not in _STOPS:
        raise unknown_name("palette", name, _STOPS)
    if size < 3 or size % 2 == 0:
        raise BadInputError(f"A palette needs an odd number of colours, at least 3; got {size}.")
    stops = np.array([list(bytes.fromhex(stop[1:])) for stop in _STOPS[name]], dtype=np.float64)
    at, known = np.linspace(0.0, 1.0, size), np.linspace(0.0, 1.0, len(stops))
    return np.stack([np.rint(np.interp(at, known, stops[:, c])) for c in range(3)], axis=1).astype(np.uint8)


def to_hex(colours: Bytes) -> list[str]:
    """Return ``#rrggbb`` (or ``#rrggbbaa``) strings for an array (n, 3) or (n, 4) of bytes."""
    return ["#" + bytes(row).hex() for row in np.ascontiguousarray(colours)]


def fading(colours: Bytes, strength: float = 0.75) -> Bytes:
    """Make the middle of a palette transparent and its ends strong, to lay a map over a picture.

    Args:
        colours: uint8 (n, 3), the middle one meaning zero.
        strength: opacity at both ends, 0 to 1; below 1 the picture can be made out everywhere.

    Returns:
        uint8 (n, 4); opacity grows with the square root of the distance from the middle.
    """
    distance = np.abs(np.linspace(-1.0, 1.0, len(colours)))
    opacity = np.rint(255.0 * strength * np.sqrt(distance)).astype(np.uint8)
    return np.concatenate([colours, opacity[:, None]], axis=1)


def symmetric_limit(values: Floats, *, quantile: float | None = None) -> float:
    """Return the number L at which the colours end on both sides: they run from -L through 0 to L.

    Args:
        values: array of any shape; NaN and Inf are left out.
        quantile: ``None`` takes the largest absolute value, so that nothing is cut; 0.99 takes the value that
            99 % of the cells stay below, for maps with a few outliers.

    Returns:
        A positive number; 1 where every value is zero or missing.
    """
    size = np.abs(np.asarray(values, dtype=np.float64))
    size = size[np.isfinite(size)]
    if size.size == 0:
        return 1.0
    limit = float(size.max() if quantile is None else np.quantile(size, quantile))
    if limit <= 0.0:
        limit = float(size.max())
    return limit if limit > 0.0 else 1.0


def normalise(values: Floats, limit: float) -> Floats:
    """Divide by the limit and cut at -1 and 1; zero stays zero, NaN stays NaN. Shape as ``values``."""
    if not limit > 0.0:
        raise BadInputError(f"The colour limit must be a positive number; got {limit}.")
    return np.clip(np.asarray(values, dtype=np.float64) / limit, -1.0, 1.0)


def colour(values: Floats, limit: float | None = None, name: PaletteName = "relevance", size: int = 255) -> Bytes:
    """Colour a signed array: white at zero, the palette's ends at -limit and limit.

    Args:
        values: array (*S).
        limit: number at which the colours end; ``None`` takes :func:`symmetric_limit`.
        name: palette.
        size: number of colours.

    Returns:
        uint8 array (*S, 3); cells without a number are grey.

    >>> colour(np.array([-2.0, 0.0, 2.0]))[1].tolist()
    [255, 255, 255]
    """
    unit = normalise(values, symmetric_limit(values) if limit is None else limit)
    missing = ~np.isfinite(unit)
    index = np.rint((np.where(missing, 0.0, unit) + 1.0) * 0.5 * (size - 1)).astype(np.intp)
    colours = palette(name, size)[index]
    colours[missing] = NAN_COLOUR
    return colours


def lay_over(picture: Bytes, values: Floats, limit: float, *, strength: float = 0.75) -> Bytes:
    """Draw a map over a pale grey copy of a picture; where the map is zero, the picture shows.

    Args:
        picture: uint8 (H, W, 3).
        values: (H, W), signed.
        limit: number at which the colours end.
        strength: opacity of the map's ends.

    Returns:
        uint8 (H, W, 3).
    """
    under = pale(picture).astype(np.float64)
    opacity = strength * np.sqrt(np.abs(np.nan_to_num(normalise(values, limit))))[..., None]
    return np.rint(opacity * colour(values, limit) + (1.0 - opacity) * under).astype(np.uint8)


def pale(picture: Bytes) -> Bytes:
    """Return a light grey copy (H, W, 3) of a picture (H, W, 3), on which coloured marks stand out."""
    grey = picture.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    return np.repeat(np.rint(100.0 + grey * (155.0 / 255.0)).astype(np.uint8)[..., None], 3, axis=-1)


def outline(mask: npt.NDArray[np.bool_]) -> list[tuple[float, float, float, float]]:
    """Return the border of a region as straight lines, as few as can be.

    Args:
        mask: bool (H, W), True inside.

    Returns:
        List of (row 0, column 0, row 1, column 1) on the grid of cell edges: cell (i, j) covers i to i + 1
        and j to j + 1.
    """
    inside = np.pad(np.asarray(mask, dtype=bool), 1)
    level = inside[1:, 1:-1] != inside[:-1, 1:-1]  # (H + 1, W): an edge above row i
    upright = inside[1:-1, 1:] != inside[1:-1, :-1]  # (H, W + 1): an edge left of column j
    lines = [(float(i), float(a), float(i), float(b)) for i, row in enumerate(level) for a, b in _runs(row)]
    lines += [(float(a), float(j), float(b), float(j)) for j, row in enumerate(upright.T) for a, b in _runs(row)]
    return lines


def _runs(flags: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return (start, stop) of each run of True."""
    steps = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(steps[::2], steps[1::2], strict=True)]
