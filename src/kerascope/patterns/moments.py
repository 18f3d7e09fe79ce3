"""Running moments of neurons, merged batch by batch in float64, and the patterns that follow from them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

Array = np.ndarray

_ROUNDING = 10
"""A neuron whose variance is below so many roundings of its mean square is taken for constant."""


@dataclass(frozen=True, eq=False)
class Regime:
    """Moments over the observations of a neuron on one side of its threshold (or over all).

    ``count``: how many, per neuron. ``x``: mean of what the neuron reads, in the kernel's shape. ``xy``: mean of
    ``x * (y - reference)``.
    """

    count: Array
    x: Array
    xy: Array

    @classmethod
    def of_sums(cls, count: Array, x: Array, xy: Array) -> Regime:
        """Return means from sums; zero where there are no observations."""
        many = np.maximum(count, 1)
        return cls(count, x / many, xy / many)

    def about(self, old: Array, new: Array) -> Regime:
        """Return the same with ``y`` measured from another reference."""
        return replace(self, xy=self.xy + (old - new) * self.x)

    def merged(self, other: Regime) -> Regime:
        """Return the moments of both together; both are about the same reference."""
        count = self.count + other.count
        share = other.count / np.maximum(count, 1)
        return Regime(count, self.x + share * (other.x - self.x), self.xy + share * (other.xy - self.xy))


@dataclass(frozen=True, eq=False)
class Moments:
    """What is kept of the neurons of one layer; ``positive`` is None where both sides count alike.

    ``mean`` and ``square``: of y, per neuron, over all observations; ``mean`` is the reference of every `Regime`.
    """

    everywhere: Regime
    positive: Regime | None
    mean: Array
    square: Array

    @classmethod
    def of_batch(cls, sums: dict[str, Array]) -> Moments:
        """Return the moments of a batch from its sums about ``sums["reference"]``."""
        held = {name: np.asarray(array, "float64") for name, array in sums.items()}
        count, reference = held["count"], held["reference"]
        mean, square = held["y"] / np.maximum(count, 1), held["yy"] / np.maximum(count, 1)
        everywhere = Regime.of_sums(count, held["x"], held["xy"]).about(reference, mean)
        positive = None
        if "positive_count" in held:
            sides = (held["positive_count"], held["positive_x"], held["positive_xy"])
            positive = Regime.of_sums(*sides).about(reference, mean)
        return cls(everywhere, positive, mean, square)

    def merged(self, other: Moments) -> Moments:
        """Return the moments of both sets of observations; the order does not matter beyond rounding."""
        total = self.everywhere.count + other.everywhere.count
        share = other.everywhere.count / np.maximum(total, 1)
        mean = self.mean + share * (other.mean - self.mean)
        square = self.square + share * (other.square - self.square)
        mine, others = self._about(mean), other._about(mean)
        positive = None
        if mine.positive is not None and others.positive is not None:
            positive = mine.positive.merged(others.positive)
        return Moments(mine.everywhere.merged(others.everywhere), positive, mean, square)

    def _about(self, mean: Array) -> Moments:
        positive = None if self.positive is None else self.positive.about(self.mean, mean)
        return replace(self, everywhere=self.everywhere.about(self.mean, mean), positive=positive)

    @property
    def negative(self) -> Regime | None:
        """The moments where the neuron is at or below its threshold."""
        if self.positive is None:
            return None
        every, positive = self.everywhere, self.positive
        count = every.count - positive.count
        many = np.maximum(count, 1)
        x = (every.count * every.x - positive.count * positive.x) / many
        xy = (every.count * every.xy - positive.count * positive.xy) / many
        some = count > 0
        return Regime(count, np.where(some, x, 0.0), np.where(some, xy, 0.0))

    def pattern(self, regime: Regime, kernel: Array, reads: tuple[int, ...], precision: float) -> tuple[Array, Array]:
        """Return the pattern ``a = c / (w c)`` with ``c = E[x y] - E[x] E[y]``, and which neurons have none.

        Args:
            regime: over which observations the first two means run; E[y] runs over all.
            kernel: the weights w.
            reads: the kernel's axes that one neuron reads.
            precision: the machine epsilon of the moments.

        Returns:
            The pattern in the kernel's shape, and a bool array that broadcasts against it.
        """
        along = np.sum(kernel * regime.xy, axis=reads, keepdims=True)
        none = (regime.count <= 0) | (np.abs(along) <= _ROUNDING * precision * self.square)
        return np.where(none, 0.0, regime.xy / np.where(none, 1.0, along)), none
