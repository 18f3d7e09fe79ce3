"""What kerascope is asked for each row of a peer, and why some rows differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import kerascope as ks
from kerascope.lrp import rules

Spec = dict[str, Any]
GROUPS = np.arange(10) // 2
BOX = {"low": -3.0, "high": 3.0}
INNVESTIGATE: dict[str, dict[str, Any]] = {"integrated_gradients": {"steps": 16}, "deep_taylor.bounded": BOX}
BOXED = ("lrp.z_box", "lrp.epsilon_gamma_box", "deep_taylor.bounded")
IS_DOUBLE = {"innvestigate": False, "captum": True, "zennit": True, "autolrp": True, "shap": True, "shap-keras": False}
PEERS = {
    "innvestigate": "iNNvestigate 2.1.2",
    "captum": "Captum 0.9.0",
    "zennit": "Zennit 1.0.0",
    "autolrp": "autoLRP 0.2.0",
    "shap": "SHAP 0.54.1",
    "shap-keras": "SHAP 0.54.1, Keras 3.15.1 on TensorFlow",
}


def _pools(kind: str) -> Callable[[Spec], bool]:
    return lambda spec: any(part["kind"] == kind for part in spec["layers"])


def _everywhere(spec: Spec) -> bool:
    return True


_EVEN = (
    "networks with average pooling: autoLRP hands relevance out evenly there (the gradient), the others in proportion",
    _pools("average"),
)
CAUSES: dict[tuple[str, str], tuple[str, Callable[[Spec], bool]]] = {
    ("captum", "deeplift"): (
        "networks with max pooling: Captum's values miss f(x) - f(x0) there (by up to 0.15 of values around 1), "
        "kerascope's do not, and SHAP's DeepExplainer agrees with kerascope",
        _pools("max"),
    ),
    ("autolrp", "lrp.epsilon, with biases"): (
        "another rule: autoLRP gives a bias abs(b) / (abs(z) + abs(b)) of what arrives; Bach et al. 2015, "
        "Zennit, Captum and kerascope give it b / (z + b)",
        _everywhere,
    ),
    **{
        ("autolrp", f"lrp.{name}, no biases"): _EVEN
        for name in ("epsilon", "gamma", "alpha1_beta0", "alpha2_beta1", "epsilon_plus")
    },
}
"""Known differences: why, and in which networks they may be."""

EXACT_FOR_DRAWN = {
    "sampled shapley": "shapley_exact of groups",
    "kernel_shap": "shapley_exact of groups",
    "permutations": "shapley_exact",
    "expected_gradients": "integrated_gradients",
}
"""What a row of a peer that draws (``drawn: NAME, DRAWS``) comes closer to."""


def has_biases(name: str) -> bool:
    """Return whether a row is about the network with its biases."""
    return not name.endswith("no biases")


def ours(peer: str, name: str, model: Any, x: np.ndarray, x0: np.ndarray, target: int) -> np.ndarray:
    """Return kerascope's map for a row."""
    if peer == "innvestigate":
        options = INNVESTIGATE.get(name, {})
        analyzer = ks.create_analyzer(name, model, "innvestigate", neuron_selection_mode="index", **options)
        return np.asarray(analyzer.analyze(x, target))
    is_drawn = name.startswith("drawn: ")
    asked = EXACT_FOR_DRAWN[name.removeprefix("drawn: ").split(",")[0]] if is_drawn else name
    base = asked.split(",")[0].removesuffix(" of groups")
    options = _options(asked, base, x0, is_drawn=is_drawn)
    if peer == "autolrp":
        options["start"] = "one"
    found = ks.explain(model, x, _method(base), target=target, **options)
    if base == "grad_cam":
        return np.asarray(found.layer_map)
    # Captum and SHAP give each cell of a group its group's value; kerascope its even part.
    return np.asarray(found.values) * (2 if asked.endswith("of groups") else 1)


def _method(base: str) -> Any:
    if not base.endswith(" between"):
        return base
    between = rules.Gamma(0.25) if "gamma" in base else rules.AlphaBeta(1.0, 0.0)
    ends = rules.Epsilon(1e-6)
    return ks.LRP(composite=ks.Composite([(ks.first_layer, ends), ("last*", ends), ("*", between)]))


def _options(asked: str, base: str, x0: np.ndarray, *, is_drawn: bool) -> dict[str, Any]:
    if base in ("shapley_exact", "kernel_shap"):
        return {"baseline": x0, **({"groups": GROUPS} if asked.endswith("of groups") else {"groups": "cells"})}
    if base == "integrated_gradients":
        return {"baseline": x0, "steps": 512 if is_drawn else 20}
    if base == "deeplift":
        return {"baseline": x0}
    if base == "occlusion":
        return {"fill": x0}
    return BOX if base in BOXED else {}
