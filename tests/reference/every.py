"""Every method of the registry, cheap enough for small networks, with the options it needs."""

from __future__ import annotations

from typing import Any

from kerascope.registry import METHODS

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
"""They need patterns fitted to the model: test_patterns."""
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


def options(name: str) -> dict[str, Any]:
    """Return the options under which a method runs in these tests."""
    return CHEAP.get(name, {}) | ({"low": LOW, "high": HIGH} if name in BOXED else {})


def unlisted() -> set[str]:
    """Return the registered methods that no test here would run."""
    return set(METHODS) - set(EVERY) - set(PATTERNS)
