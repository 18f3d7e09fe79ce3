"""Real architectures with drawn weights: every method finite, its completeness gap small, nothing retraced.

    KERAS_BACKEND=tensorflow python benchmarks/applications.py --models VGG16 ResNet50

The gap is given relative to the largest sum of absolute relevance over any operation (amplifying rules
cancel: relative to the logit alone it would measure the cancellation), beside both numbers.
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any
from unittest import mock

import numpy as np
from nets import build, images

import kerascope as ks
from kerascope import backend
from kerascope.model import trace

METHODS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("gradient", {}),
    ("guided_backprop", {}),
    ("lrp.epsilon", {}),
    ("lrp.epsilon_plus_flat", {}),
    ("lrp.epsilon_alpha2_beta1_flat", {}),
    ("lrp.epsilon_gamma_box", {"low": -8.0, "high": 8.0}),
    ("deep_taylor", {}),
)


def run(model: Any, x: np.ndarray, name: str, options: dict[str, Any]) -> str:
    """Explain twice, the second time another class, and return one line of figures."""
    started = time.perf_counter()
    explainer = ks.Explainer(model, name, batch_size=len(x), **options)
    try:
        first = explainer(x)
    except ks.IncompatibleMethodError as error:
        return f"refused: {error}"
    first_time = time.perf_counter() - started
    with (
        mock.patch.object(trace, "record", side_effect=AssertionError("traced again")),
        mock.patch.object(backend, "compile", side_effect=AssertionError("compiled again")),
    ):
        started = time.perf_counter()
        explainer(x, target=7)
        second_time = time.perf_counter() - started
    finite = bool(np.all(np.isfinite(first.values)))
    line = f"first {first_time:6.1f} s, again {second_time:6.2f} s, finite {finite}"
    if first.attrs["largest_sum"] is None:
        return line
    gap, largest = np.abs(first.completeness_gap), np.array(first.attrs["largest_sum"])
    relative = float(np.max(gap / np.maximum(largest, 1e-30)))
    verdict = "ok" if relative <= 1e-4 else "TOO LARGE"
    return f"{line}, gap {gap.max():.2e} of largest sum {largest.max():.3g}: {relative:.1e} {verdict}"


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="*", default=["VGG16", "ResNet50", "DenseNet121", "MobileNetV2"])
    parser.add_argument("--batch", type=int, default=4)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ks.KerascopeWarning)
    for name in arguments.models:
        model = build(name)
        x = images(arguments.batch, model.input_shape[1], seed=5)
        logits_like = ks.explain(model, x, "input").explained
        print(f"{name} on {backend.name}, batch {len(x)}; top logits {np.round(logits_like, 2)}", flush=True)
        for method, options in METHODS:
            print(f"  {method:32s}{run(model, x, method, options)}", flush=True)


if __name__ == "__main__":
    main()
