"""Class activation maps of activations of both signs (G3, G4), and of what is left when both ends are cropped."""

from __future__ import annotations

import numpy as np
import pytest
from keras import layers

from tests.reference.nets import cnn, samples, stack
from tests.reference.run import Bench, same
from tests.reference.test_cams import parts_at
from tests.reference.test_cams_weighed import by_loops

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize("name", ["grad_cam_plus_plus", "xgrad_cam", "layer_cam"])
def test_g3_g4_activations_of_both_signs(name: str) -> None:
    """The papers' formulas, and XGrad-CAM's sum, where A is negative in places: not behind a ReLU only."""
    bench = Bench(cnn(activation="tanh"), samples((6, 6, 2)))
    for layer in (0, 2):
        a, g = parts_at(bench.model, layer, bench.x)
        assert np.min(a) < 0 < np.max(a)
        chosen = bench.model.layers[layer].name
        found = bench(name, layer=chosen, target="all").layer_map
        expected = [[by_loops(name, a[n], g[n, t]) for t in range(3)] for n in range(len(a))]
        assert np.any(expected)
        same(found, expected)
        if name == "xgrad_cam":
            raw = bench(name, layer=chosen, relu=False, target="all").layer_map
            same(raw.sum(axis=(2, 3)), np.sum(g * a[:, None], axis=(2, 3, 4)))


@pytest.mark.parametrize("upsample", [False, True])
@pytest.mark.parametrize("crop", [(0, 3), (3, 0), (2, 4)], ids=["far end", "near end", "both"])
def test_cropped_ends_stay_empty(crop: tuple[int, int], upsample: bool) -> None:
    """Cells that the layer never reads get nothing; those it reads get its map, out to the outermost."""
    conv = layers.Conv1D(2, 1, use_bias=False, name="conv")
    parts = [layers.Cropping1D(crop), conv, layers.GlobalAveragePooling1D(), layers.Dense(3)]
    bench = Bench(stack((12, 1), *parts), samples((12, 1), low=0.5))
    found = bench("hires_cam", layer="conv", upsample=upsample)
    inside = slice(crop[0], 12 - crop[1])
    assert np.all(found.layer_map != 0)
    same(found.values[:, inside, 0], found.layer_map)
    outside = np.delete(found.values, np.r_[inside], axis=1)
    assert np.all(outside == 0)
