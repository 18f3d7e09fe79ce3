"""Running moments of neurons, merged batch by batch in float64, and the patterns that follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

Array = np.ndarray

_ROUNDING = 10
"""What varies by less than so many roundings of its size is taken for constant."""


@dataclass(frozen=True, eq=False)
class Regime:
    """Moments over the observations of a neuron on one side of its threshold (or over all).

    What a neuron reads is measured from a shift, ``x + shift * seen``: ``seen`` is 1, and 0 for padding. ``y`` is
    measured from a reference; both stay the same for all batches.

    ``count``: how many, per neuron. ``x`` and ``seen``: means, in the kernel's shape (``seen`` per neuron where
    nothing is padded). ``y``: mean, per neuron. ``xy`` and ``seen_y``: covariances with y, about these means.
    """

    count: Array
    x: Array
    seen: Array
    y: Array
    xy: Array
    seen_y: Array

    @classmethod
    def of_sums(cls, sums: Mapping[str, Array]) -> Regime:
        """Return the moments of a batch; zero where there are no observations. Without padding all is seen."""
        held = {name: np.asarray(array, "float64") for name, array in sums.items()}
        count, many = held["count"], np.maximum(held["count"], 1)
        x, y, seen = held["x"] / many, held["y"] / many, held.get("seen", count) / many
        xy = held["xy"] / many - x * y
        return cls(count, x, seen, y, xy, held.get("seen_y", held["y"]) / many - seen * y)

    def merged(self, other: Regime) -> Regime:
        """Return the moments of both together (Chan et al.): no large numbers are subtracted from each other."""
        count = self.count + other.count
        share = other.count / np.maximum(count, 1)
        dx, dseen, dy = other.x - self.x, other.seen - self.seen, (1 - share) * (other.y - self.y)
        return Regime(
            count=count,
            x=self.x + share * dx,
            seen=self.seen + share * dseen,
            y=self.y + share * (other.y - self.y),
            xy=self.xy + share * (other.xy - self.xy + dx * dy),
            seen_y=self.seen_y + share * (other.seen_y - self.seen_y + dseen * dy),
        )


@dataclass(frozen=True, eq=False)
class Moments:
    """What is kept of the neurons of one layer.

    ``sides``: the observations above the threshold and those at or below it, or all of them together. ``shift``:
    from which x is measured, broadcasts against the kernel.
    """

    sides: tuple[Regime, ...]
    shift: Array

    def merged(self, other: Moments) -> Moments:
        """Return the moments of both sets of observations; the order does not matter beyond rounding."""
        return replace(self, sides=tuple(a.merged(b) for a, b in zip(self.sides, other.sides, strict=True)))

    @cached_property
    def everywhere(self) -> Regime:
        """The moments over all observations."""
        first, *others = self.sides
        return first.merged(others[0]) if others else first

    def pattern(self, side: Regime, kernel: Array, reads: tuple[int, ...], precision: float) -> tuple[Array, Array]:
        """Return the pattern ``a = c / (w c)`` with ``c = E[x y] - E[x] E[y]``, and which neurons have none.

        Args:
            side: over which observations the first two means run; E[y] runs over all.
            kernel: the weights w.
            reads: the kernel's axes that one neuron reads.
            precision: the machine epsilon of what was summed.

        Returns:
            The pattern in the kernel's shape, and a bool array that broadcasts against it.
        """

        def over_reads(cells: Array) -> Array:
            return np.asarray(np.sum(cells, axis=reads, keepdims=True))

        every = self.everywhere
        variance = over_reads(kernel * (every.xy + self.shift * every.seen_y))
        size = over_reads(np.abs(kernel * (every.x + self.shift * every.seen)))
        mean = side.x + self.shift * side.seen
        # E[x y] - E[x] E[y] = covariance on this side + mean of x there times how far y lies from its mean there.
        c = side.xy + self.shift * side.seen_y + mean * (side.y - every.y)
        shares = kernel * c
        along, least = over_reads(shares), _ROUNDING * precision
        constant = (variance <= (least * size) ** 2) | (np.abs(along) <= least * over_reads(np.abs(shares)))
        none = (side.count <= 0) | constant
        return np.where(none, 0.0, c / np.where(none, 1.0, along)), none
