"""Networks with leaky ReLUs are homogeneous too: what holds of ReLU networks holds with a slope on the other side.

B9, B10, C1, C3 and C4; on ReLU networks in test_conservation.py, test_equivalences.py and test_deeplift.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from keras import layers

from tests.reference.nets import samples, stack
from tests.reference.run import Bench, same, total


def dense(biases: float = 0.3) -> Any:
    """Return dense layers with two slopes."""
    bent = [
        layers.Dense(7),
        layers.LeakyReLU(negative_slope=0.25),
        layers.Dense(6),
        layers.LeakyReLU(negative_slope=0.5),
    ]
    return stack((5,), *bent, layers.Dense(3), biases=biases)


def pooled_before(biases: float = 0.3) -> Any:
    """Return convolutions with a pooling before the bend."""
    first = [layers.Conv2D(4, 3, padding="same"), layers.MaxPooling2D(2), layers.LeakyReLU(negative_slope=0.25)]
    return stack(
        (6, 6, 2), *first, layers.Conv2D(3, 2), layers.ReLU(), layers.Flatten(), layers.Dense(3), biases=biases
    )


@pytest.mark.parametrize("make", [dense, pooled_before])
def test_leaky_networks_are_homogeneous(make: Callable[..., Any], float64: None) -> None:
    """LRP-0 is x df/dx, biases or not; without, both sum to f, and so do paths and differences from zero."""
    x = samples(make().input_shape[1:])
    bench, free = Bench(make(), x), Bench(make(biases=0.0), x)
    for target in range(3):
        same(bench.values("lrp.zero", target=target), bench.values("input_x_gradient", target=target))
    product = free("input_x_gradient")
    same(total(product.values), free.logits()[:, 0])
    same(product.completeness_gap, 0 * product.completeness_gap)
    same(free.values("lrp.zero"), product.values)
    for steps in (1, 5):
        same(free.values("integrated_gradients", baseline="zeros", steps=steps), product.values)
    if make is dense:  # the cross-max rule shares a pooled difference otherwise, unless a ReLU stands before it
        same(free.values("deeplift", baseline="zeros"), product.values)
