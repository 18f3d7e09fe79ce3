"""Class activation maps with weights of their own, against their definitions in loops (G1, G3, G4, G6 to G8)."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import kerascope as ks
from tests.reference.nets import average_head, cnn, samples, stack, weights_of
from tests.reference.run import Bench, differ, predict, same
from tests.reference.test_cams import SHAPE, linear_replica, parts_at


def test_g1_xgrad_cam_is_hires_cam_under_a_global_average(float64):
    """On GAP and dense layers XGrad-CAM before its ReLU is sum_k w_k A_k / Z."""
    bench = Bench(average_head(), samples(SHAPE))
    a, _ = parts_at(bench.model, 1, bench.x)
    expected = np.einsum("nhwk,kc->nchw", a, weights_of(bench.model.layers[-1])[0]) / 25
    same(bench("xgrad_cam", relu=False, target="all").layer_map, expected)


def test_g3_grad_cam_plus_plus_under_a_global_average(float64):
    """There the weight of channel k is w_k / (2 + w_k mean A_k) for w_k > 0, else 0."""
    bench = Bench(average_head(), samples(SHAPE))
    a, _ = parts_at(bench.model, 1, bench.x)
    w = weights_of(bench.model.layers[-1])[0]
    mean = a.mean(axis=(1, 2))
    weights = np.where(w > 0, w / (2 + w * mean[:, :, None]), 0.0)
    same(bench("grad_cam_plus_plus", target="all").layer_map, np.einsum("nhwk,nkc->nchw", a, weights))


def test_g4_layer_cam_is_grad_cam_where_all_weights_are_positive(float64):
    """GAP and a dense layer without negative weights: both are sum_k w_k A_k / Z; with negative ones they differ."""
    model = average_head()
    head = model.layers[-1]
    for keep_signs in (False, True):
        if not keep_signs:
            kernel, bias = weights_of(head)
            head.set_weights([np.abs(kernel), bias])
            bench = Bench(model, samples(SHAPE))
            same(bench("layer_cam", target="all").layer_map, bench("grad_cam", target="all").layer_map)
        else:
            bench = Bench(average_head(), samples(SHAPE))
            differ(bench("layer_cam", target="all").layer_map, bench("grad_cam", target="all").layer_map)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_g4_xgrad_cam_keeps_the_sum(layer, float64):
    """Before its ReLU XGrad-CAM sums to sum g A on any network, as HiResCAM does."""
    bench = Bench(cnn(), samples(SHAPE))
    a, g = parts_at(bench.model, layer, bench.x)
    found = bench("xgrad_cam", layer=bench.model.layers[layer].name, relu=False, target="all").layer_map
    same(found.sum(axis=(2, 3)), np.sum(g * a[:, None], axis=(2, 3, 4)))


def by_loops(name: str, a: np.ndarray, g: np.ndarray) -> np.ndarray:
    """Return the map of one sample and target from A and g, both (H, W, K), as the paper writes it."""
    height, width, channels = a.shape
    found = np.zeros((height, width))
    for k in range(channels):
        total = sum(a[i, j, k] for i in range(height) for j in range(width))
        weight = 0.0
        for i in range(height):
            for j in range(width):
                slope = g[i, j, k]
                if name == "grad_cam_plus_plus":
                    below = 2 * slope**2 + total * slope**3
                    weight += (slope**2 / below if below else 0.0) * max(slope, 0.0)
                if name == "xgrad_cam":
                    weight += a[i, j, k] / total * slope if total else 0.0
        for i in range(height):
            for j in range(width):
                found[i, j] += (max(g[i, j, k], 0.0) if name == "layer_cam" else weight) * a[i, j, k]
    return np.maximum(found, 0)


@pytest.mark.parametrize("layer", [0, 2])
@pytest.mark.parametrize("name", ["grad_cam_plus_plus", "xgrad_cam", "layer_cam"])
def test_the_papers_formula_in_loops(name, layer, float64):
    bench = Bench(cnn(), samples(SHAPE))
    a, g = parts_at(bench.model, layer, bench.x)
    found = bench(name, layer=bench.model.layers[layer].name, target="all").layer_map
    expected = [[by_loops(name, a[n], g[n, t]) for t in range(3)] for n in range(len(a))]
    assert np.any(expected)
    same(found, np.array(expected))


# Eigen-CAM ------------------------------------------------------------------------------------


def test_g6_eigen_cam_is_the_same_for_every_class(float64):
    bench = Bench(cnn(), samples(SHAPE))
    found = bench("eigen_cam", target="all")
    same(found.layer_map, np.repeat(found.layer_map[:, :1], 3, axis=1))
    assert any("does not depend on the class" in text for text in found.warnings)


def test_g6_eigen_cam_is_the_first_singular_direction(float64):
    """A v, with v the eigenvector of A^T A of the largest eigenvalue; the value of largest size is positive."""
    bench = Bench(cnn(), samples(SHAPE))
    a, _ = parts_at(bench.model, 2, bench.x)
    for raw, one in zip(bench("eigen_cam").layer_map, a, strict=True):
        flat = one.reshape(-1, one.shape[-1])
        _, vectors = np.linalg.eigh(flat.T @ flat)
        expected = flat @ vectors[:, -1]
        expected = expected * np.sign(expected[np.abs(expected).argmax()])
        same(raw.ravel(), expected)


def test_g6_eigen_cam_of_a_rank_one_layer(float64):
    """Activations u v^T, not centred: the map is proportional to u, even where u is far from zero mean."""
    model = stack((4, 4, 1), layers.Conv2D(3, 1, use_bias=False), layers.Flatten(), layers.Dense(2))
    x = np.abs(samples((4, 4, 1))) + 1
    found = Bench(model, x)("eigen_cam").layer_map
    u = x[..., 0]
    same(found / np.linalg.norm(found, axis=(1, 2), keepdims=True), u / np.linalg.norm(u, axis=(1, 2), keepdims=True))


# Score-CAM and Ablation-CAM -------------------------------------------------------------------


def score_replica(model: Any, a: np.ndarray, x: np.ndarray, channels: list[int]) -> np.ndarray:
    """Return Score-CAM's maps (3, H, W) of one sample (*S) by the paper's algorithm."""
    scores = []
    for k in channels:
        tall = np.array([linear_replica(column, x.shape[0]) for column in a[..., k].T]).T
        mask = np.array([linear_replica(row, x.shape[1]) for row in tall])
        low, high = mask.min(), mask.max()
        mask = (mask - low) / (high - low) if high > low else np.zeros(mask.shape)
        scores.append(predict(model, (x * mask[..., None])[None])[0])
    weights = np.exp(np.array(scores))
    weights /= weights.sum(axis=0)
    return np.maximum(sum(np.multiply.outer(w, a[..., k]) for w, k in zip(weights, channels, strict=True)), 0)


def test_score_cam_by_its_algorithm(float64):
    bench = Bench(cnn(), samples(SHAPE))
    a, _ = parts_at(bench.model, 2, bench.x)
    found = bench("score_cam", target="all").layer_map
    for raw, one, x in zip(found, a, bench.x, strict=True):
        same(raw, score_replica(bench.model, one, x, list(range(a.shape[-1]))))


def test_score_cam_scales_its_masks_after_enlarging_them(float64):
    """Peaks between cells of the input are cut by enlarging (7 x 5 to 14 x 10): masks reach 0 and 1 all the same."""
    model = stack((14, 10, 1), layers.Conv2D(3, 2, strides=2, name="coarse"), layers.Flatten(), layers.Dense(3))
    bench = Bench(model, samples((14, 10, 1)))
    a, _ = parts_at(bench.model, 0, bench.x)
    found = bench("score_cam", layer="coarse", target="all").layer_map
    for raw, one, x in zip(found, a, bench.x, strict=True):
        same(raw, score_replica(bench.model, one, x, [0, 1, 2]))


def test_score_cam_shows_nothing_that_its_layer_does_not_see(float64):
    """Behind a crop the cells outside are hidden by every mask, also where activations are below zero."""
    below = lambda z: -keras.ops.softplus(z) - 1  # noqa: E731
    parts = [layers.Cropping1D((6, 6)), layers.Conv1D(3, 3, padding="same", activation=below, name="below")]
    model = stack((20, 2), *parts, layers.GlobalAveragePooling1D(), layers.Dense(3))
    bench = Bench(model, samples((20, 2)))
    other = bench.x.copy()
    other[:, :6], other[:, 14:] = 9, -9
    found = bench("score_cam", layer="below", target=0)
    same(found.layer_map, Bench(model, other)("score_cam", layer="below", target=0).layer_map)


def test_score_cam_of_the_channels_that_vary_most(float64):
    bench = Bench(cnn(), samples(SHAPE))
    a, _ = parts_at(bench.model, 0, bench.x)
    found = bench("score_cam", layer=bench.model.layers[0].name, channels=2, target="all").layer_map
    for raw, one, x in zip(found, a, bench.x, strict=True):
        chosen = sorted(np.argsort(-one.reshape(-1, 4).std(axis=0))[:2])
        same(raw, score_replica(bench.model, one, x, [int(k) for k in chosen]))


def test_g7_score_cam_of_a_constant_model_weighs_all_channels_alike(float64):
    model = average_head()
    kernel, bias = weights_of(model.layers[-1])
    model.layers[-1].set_weights([np.zeros_like(kernel), bias])
    bench = Bench(model, samples(SHAPE))
    a, _ = parts_at(model, 1, bench.x)
    same(bench("score_cam").layer_map, a.mean(axis=-1))


def test_ablation_cam_by_taking_channels_away(float64):
    """Every channel set to zero in turn, the rest of the network run by hand."""
    bench = Bench(cnn(), samples(SHAPE))
    a, _ = parts_at(bench.model, 0, bench.x)
    inputs = value = layers.Input(a.shape[1:])
    for part in bench.model.layers[1:]:
        value = part(value)
    rest, whole = keras.Model(inputs, value), bench.logits()
    expected = np.zeros((len(a), 3, *a.shape[1:3]))
    for k in range(a.shape[-1]):
        without = a.copy()
        without[..., k] = 0
        weight = (whole - predict(rest, without)) / whole
        expected += weight[:, :, None, None] * a[:, None, :, :, k]
    found = bench("ablation_cam", layer=bench.model.layers[0].name, target="all").layer_map
    same(found, np.maximum(expected, 0))


def test_g8_ablation_cam_under_a_global_average(float64):
    """There the weight of channel k is w_k mean A_k / f."""
    bench = Bench(average_head(), samples(SHAPE))
    a, _ = parts_at(bench.model, 1, bench.x)
    w = weights_of(bench.model.layers[-1])[0]
    weights = w * a.mean(axis=(1, 2))[:, :, None] / bench.logits()[:, None, :]
    same(bench("ablation_cam", relu=False, target="all").layer_map, np.einsum("nhwk,nkc->nchw", a, weights))


def test_ablation_cam_with_a_second_way_around_the_layer(float64):
    """What reaches the output without the layer stays as it is."""
    inputs = layers.Input(SHAPE)
    a = layers.Conv2D(3, 3, padding="same", activation="relu", name="inside")(inputs)
    joined = layers.Concatenate()([layers.Flatten()(a), layers.Flatten()(inputs)])
    model = keras.Model(inputs, layers.Dense(2)(joined))
    bench = Bench(model, samples(SHAPE))
    inside = predict(keras.Model(inputs, a), bench.x)
    kernel = weights_of(model.layers[-1])[0][: 6 * 6 * 3, 0].reshape(6, 6, 3)
    weights = (inside * kernel).sum(axis=(1, 2)) / bench.logits()[:, :1]
    found = bench("ablation_cam", layer="inside", relu=False).layer_map
    same(found, np.einsum("nhwk,nk->nhw", inside, weights))


# All of them ----------------------------------------------------------------------------------

EVERY = ("grad_cam_plus_plus", "xgrad_cam", "layer_cam", "score_cam", "ablation_cam", "eigen_cam")


@pytest.mark.parametrize("name", EVERY)
def test_g9_silent_layers_give_zero_maps(name, float64):
    model = average_head()
    model.layers[1].bias.assign(np.full(3, -50.0))
    found = Bench(model, samples(SHAPE))(name)
    assert np.all(found.values == 0)
    assert any("maps are zero everywhere" in text for text in found.warnings)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(
    ("shape", "part"),
    [((8, 3), lambda: layers.Conv1D(4, 3, activation="relu")), ((4, 4, 4, 1), lambda: layers.Conv3D(2, 2))],
    ids=["line", "volume"],
)
def test_one_and_three_axes(name, shape, part, float64):
    """A map per place; the same with the batch turned around (nothing is shared between samples)."""
    model = stack(shape, part(), layers.Flatten(), layers.Dense(3))
    bench = Bench(model, samples(shape))
    found = bench(name, target="all")
    assert found.layer_map.shape == (
        3,
        3,
        *predict(keras.Model(model.inputs, model.layers[0].output), bench.x).shape[1:-1],
    )
    assert found.values.shape == (3, 3, *shape)
    same(bench(name, bench.x[::-1], target="all").values[::-1], found.values)


@pytest.mark.parametrize("name", ["grad_cam", "grad_cam_plus_plus", "xgrad_cam"])
def test_averaging_over_positions_is_said_where_they_matter(name, float64):
    bench = Bench(cnn(), samples(SHAPE))
    assert any("averages the gradient over positions" in text for text in bench(name).warnings)
    averaged = Bench(average_head(), samples(SHAPE))
    assert not any("averages the gradient" in text for text in averaged(name).warnings)


def test_bad_options():
    for channels in (0, 1.5):
        with pytest.raises(ks.BadInputError, match="channels must be a whole number of at least 1"):
            ks.ScoreCAM(channels=channels)
    for method in (ks.GradCAM, ks.ScoreCAM):
        with pytest.raises(ks.BadInputError, match="relu must be True, False or None"):
            method(relu="yes")
