"""Every method of the registry, cheap enough for small networks, with the options it needs; two models under all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kerascope.registry import METHODS
from tests.reference.nets import samples
from tests.reference.run import TIGHT, Bench, same

LOW, HIGH = -1.5, 1.5
"""Bounds of all inputs in these tests."""

CHEAP: dict[str, dict[str, Any]] = {
    "integrated_gradients": {"steps": 6},
    "expected_gradients": {"draws": 6},
    "smoothgrad": {"draws": 3},
    "occlusion": {"fills": 2},
    "squaregrad": {"draws": 3},
    "vargrad": {"draws": 3},
    "noisegrad": {"draws": 2},
    "lime": {"groups": "rows", "draws": 30, "fills": 2},
    "kernel_shap": {"groups": "rows", "draws": 20, "fills": 2},
    "shapley_sampling": {"groups": "rows", "draws": 4, "fills": 2},
    "shapley_exact": {"groups": "rows", "fills": 2},
}
BOXED = ("lrp.z_box", "lrp.epsilon_gamma_box", "deep_taylor.bounded")

CONTROLS = ("random", "input", "edges")
LOCAL = ("cam", "grad_cam", "hires_cam")
MORE_LOCAL = ("grad_cam_plus_plus", "xgrad_cam", "layer_cam", "score_cam", "ablation_cam", "eigen_cam")
NOISY = ("squaregrad", "vargrad", "noisegrad")
PLAYERS = ("lime", "kernel_shap", "shapley_sampling", "shapley_exact")
PATTERNS = ("patternnet", "pattern_attribution")
"""They need patterns, fitted to ``Bench(train=)``."""
GRADIENTS = (
    "gradient",
    "saliency",
    "smoothgrad",
    "input_x_gradient",
    "integrated_gradients",
    "expected_gradients",
)
DEEPLIFT = ("deeplift", "deeplift.reveal_cancel", "deeplift_shap")
SIGNALS = ("guided_backprop", "deconvnet")
RULES = (
    "lrp.zero",
    "lrp.epsilon",
    "lrp.gamma",
    "lrp.alpha1_beta0",
    "lrp.alpha2_beta1",
    "lrp.z_plus",
    "lrp.w_square",
    "lrp.z_box",
    "lrp.excitation_backprop",
    "deep_taylor",
    "deep_taylor.bounded",
)
"""One rule for every kernel above the first, whatever its layer is; flat is left out: it counts inputs."""
COMPOSITES = (
    "lrp",
    "lrp.flat",
    "lrp.epsilon_plus",
    "lrp.epsilon_plus_flat",
    "lrp.epsilon_alpha2_beta1",
    "lrp.epsilon_alpha2_beta1_flat",
    "lrp.epsilon_gamma_box",
)
CELLS = (*GRADIENTS, *DEEPLIFT, *SIGNALS, "occlusion", *RULES, *COMPOSITES)
"""All that explain a model cell by cell."""
EVERY = (*CELLS, *LOCAL, *MORE_LOCAL, *NOISY, *PLAYERS, *CONTROLS)
"""All that need nothing but a model and a background."""
ALL = (*EVERY, *PATTERNS)


def options(name: str) -> dict[str, Any]:
    """Return the options under which a method runs in these tests."""
    return CHEAP.get(name, {}) | ({"low": LOW, "high": HIGH} if name in BOXED else {})


def unlisted() -> set[str]:
    """Return the registered methods that no test here would run."""
    return set(METHODS) - set(ALL)


def without(names: tuple[str, ...], *left_out: str) -> tuple[str, ...]:
    """Return names but for some, each of which must be among them."""
    assert set(left_out) <= set(names), set(left_out) - set(names)
    return tuple(name for name in names if name not in left_out)


def both(one: Any, other: Any, *, shape: tuple[int, ...] = (5,), move: Callable[[Any], Any] = np.array) -> list[Bench]:
    """Return two models on the same samples, background and training data, which ``move`` takes to the other's."""
    drawn = [samples(shape, count, seed=seed) for count, seed in ((3, 1), (3, 9), (39, 8))]
    return [
        Bench(model, x, background=background, train=train)
        for model, (x, background, train) in ((one, drawn), (other, map(move, drawn)))
    ]


def alike(
    one: Bench,
    other: Bench,
    names: tuple[str, ...],
    tolerance: float = TIGHT,
    *,
    back: Callable[[np.ndarray], np.ndarray] = np.array,
    factor: float = 1.0,
) -> None:
    """Compare maps for the classes on top, from which Deep Taylor starts too: maps of zeros would tell nothing.

    Args:
        one: the first model.
        other: the second.
        names: of methods.
        tolerance: as in `same`.
        back: brings the other's maps to the shape of the first.
        factor: what the first's maps are multiplied by.
    """
    top = one.logits().argmax(axis=1)
    for name in names:
        expected = factor * one.values(name, target=top, **options(name))
        assert np.any(expected), f"{name}: nothing to compare"
        same(back(other.values(name, target=top, **options(name))), expected, tolerance, what=name)
