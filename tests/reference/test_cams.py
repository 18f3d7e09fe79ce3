"""CAM, Grad-CAM and HiResCAM against their definitions (G1, G2, G4, G5, G9); the others in test_cams_weighed."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import kerascope as ks
from tests.reference.nets import average_head, cnn, normalised, samples, stack, weigh, weights_of
from tests.reference.run import Bench, differ, explain, predict, same

SHAPE = (6, 6, 2)


def parts_at(model: Any, layer: int, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return activations A (N, *spatial, K) of a layer, and the gradients of every logit (N, 3, *spatial, K)."""
    a = predict(keras.Model(model.inputs, model.layers[layer].output), x)
    inputs = layers.Input(a.shape[1:])
    value = inputs
    for part in model.layers[layer + 1 :]:
        value = part(value)
    return a, Bench(keras.Model(inputs, value), a).values("gradient", target="all")


def test_g1_one_map_under_a_global_average(float64):
    """Grad-CAM before its ReLU, HiResCAM and CAM / Z are sum_k w_k A_k / Z."""
    bench = Bench(average_head(), samples(SHAPE))
    a, _ = parts_at(bench.model, 1, bench.x)
    w = weights_of(bench.model.layers[-1])[0]
    expected = np.einsum("nhwk,kc->nchw", a, w)
    same(bench("cam", target="all").layer_map, expected)
    for name in ("grad_cam", "hires_cam"):
        same(bench(name, relu=False, target="all").layer_map, expected / 25, what=name)
    same(bench("grad_cam", target="all").layer_map, np.maximum(expected, 0) / 25)
    same(bench("cam", relu=True, target="all").layer_map, np.maximum(expected, 0))
    same(bench("hires_cam", target="all").layer_map, expected / 25)


def test_g2_the_mean_of_cam_and_the_bias_are_the_logit(float64):
    """The mean over cells of CAM plus the class's bias is its logit."""
    bench = Bench(average_head(), samples(SHAPE))
    found = bench("cam", target="all").layer_map.mean(axis=(2, 3)) + weights_of(bench.model.layers[-1])[1]
    same(found, bench.logits())


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_g4_hires_cam_adds_up_gradient_times_activation(layer, float64):
    """On any network and layer: HiResCAM is sum_k g A cell by cell, Grad-CAM averages g over cells first."""
    bench = Bench(cnn(), samples(SHAPE))
    name = bench.model.layers[layer].name
    a, g = parts_at(bench.model, layer, bench.x)
    hires = bench("hires_cam", layer=name, target="all").layer_map
    same(hires, np.sum(g * a[:, None], axis=-1))
    same(hires.sum(axis=(2, 3)), np.sum(g * a[:, None], axis=(2, 3, 4)))
    mean = g.mean(axis=(2, 3), keepdims=True)
    raw = np.sum(mean * a[:, None], axis=-1)
    same(bench("grad_cam", layer=name, target="all", relu=False).layer_map, raw)
    same(bench("grad_cam", layer=name, target="all").layer_map, np.maximum(raw, 0))


def test_g5_hires_cam_is_complete_under_a_linear_head(float64):
    """Flattened maps and one dense layer: its sum and the bias are the logit; Grad-CAM's are not (N11)."""
    model = stack(SHAPE, layers.Conv2D(4, 3, activation="relu"), layers.Flatten(), layers.Dense(3))
    bench, bias = Bench(model, samples(SHAPE)), weights_of(model.layers[-1])[1]
    same(bench("hires_cam", target="all").layer_map.sum(axis=(2, 3)) + bias, bench.logits())
    differ(bench("grad_cam", relu=False, target="all").layer_map.sum(axis=(2, 3)) + bias, bench.logits())


def linear_replica(values: np.ndarray, size: int) -> list[float]:
    """Enlarge a line cell by cell: cell centres on cell centres, constant beyond the outermost ones."""
    enlarged = []
    for i in range(size):
        place = min(max((i + 0.5) * len(values) / size - 0.5, 0), len(values) - 1)
        left = int(place)
        right = min(left + 1, len(values) - 1)
        enlarged.append(values[left] * (1 - (place - left)) + values[right] * (place - left))
    return enlarged


def test_g9_enlarging(float64):
    """Linear or by nearest cells, for every channel alike; constants stay, nearest keeps the place of the maximum."""
    bench = Bench(average_head(), samples(SHAPE))
    found = bench("hires_cam")
    for raw, values in zip(found.layer_map, found.values, strict=True):
        rows = np.array([linear_replica(column, 6) for column in raw.T]).T
        expected = np.array([linear_replica(row, 6) for row in rows])
        same(values, np.repeat(expected[:, :, None], 2, axis=2))
    blocks = stack(SHAPE, layers.Conv2D(3, 2, strides=2, activation="relu"), layers.Flatten(), layers.Dense(3))
    nearest = Bench(blocks, samples(SHAPE))("hires_cam", upsample=False)
    for raw, values in zip(nearest.layer_map, nearest.values, strict=True):
        same(values[:, :, 0], np.kron(raw, np.ones((2, 2))))
        place = np.unravel_index(np.argmax(values[:, :, 0]), (6, 6))
        assert (place[0] // 2, place[1] // 2) == np.unravel_index(np.argmax(raw), (3, 3))
    constant = np.full((1, *SHAPE), 0.7)
    even = stack(SHAPE, layers.Conv2D(3, 2, activation="relu"), layers.GlobalAveragePooling2D(), layers.Dense(3))
    for upsample in (True, False):
        found = Bench(even, constant)("hires_cam", upsample=upsample)
        same(found.values, np.full(found.values.shape, found.layer_map[0, 0, 0]))


def test_g9_silent_layers_give_zero_maps(float64):
    """A layer in which nothing fires: a map of zeros, and a warning that counts."""
    model = average_head()
    model.layers[1].bias.assign(np.full(3, -50.0))
    found = Bench(model, samples(SHAPE))("grad_cam")
    assert [text for text in found.warnings if text.startswith("3 maps are zero everywhere")]
    assert np.all(found.values == 0)


# Where the map is taken -----------------------------------------------------------------------


def test_a_layer_that_was_folded_keeps_its_own_values(float64):
    """layer= may name a convolution into which a BatchNormalization was folded: its map is of what it returned."""
    model = normalised(order="after")
    bench = Bench(model, samples(SHAPE))
    assert bench.session.view.graph.folded
    for layer in (0, 1, 2, 3):
        a, g = parts_at(model, layer, bench.x)
        found = bench("hires_cam", layer=model.layers[layer].name, target="all").layer_map
        same(found, np.sum(g * a[:, None], axis=-1), what=model.layers[layer].name)


def test_a_pooling_that_keeps_its_axes_is_no_map(float64):
    """The last layer with spatial axes is one with more than one place."""
    parts = [layers.Conv2D(3, 2, activation="relu", name="last"), layers.GlobalAveragePooling2D(keepdims=True)]
    model = stack(SHAPE, *parts, layers.Conv2D(3, 1), layers.Flatten())
    found = Bench(model, samples(SHAPE))("cam")
    assert found.layer_map.shape == (3, 5, 5)
    assert "'last" in found.warnings[-1]


def test_each_head_has_its_own_last_layer(float64):
    """With two heads the map is taken in the part that leads to the one explained."""
    inputs = layers.Input(SHAPE)
    first, second = (layers.Conv2D(3, size, activation="relu", name=f"conv{size}")(inputs) for size in (2, 3))
    heads = [layers.Dense(2, name=f"head{i}")(layers.Flatten()(a)) for i, a in enumerate((first, second))]
    bench = Bench(weigh(keras.Model(inputs, heads)), samples(SHAPE))
    for i, side in enumerate((5, 4)):
        target = ks.Class(0, output=f"head{i}")
        assert bench("grad_cam", target=target).layer_map.shape == (3, side, side)
        with pytest.raises(ks.IncompatibleMethodError, match="no part in the output"):
            bench("grad_cam", target=target, layer=f"conv{3 - i}")


@pytest.mark.parametrize(
    ("shape", "parts", "spatial"),
    [
        ((8, 3), [lambda: layers.Conv1D(4, 3, activation="relu")], (6,)),
        ((6, 5), [lambda: layers.Reshape((6, 5, 1)), lambda: layers.Conv2D(4, 2, activation="relu")], (5, 4)),
        ((4, 4, 4, 1), [lambda: layers.Conv3D(2, 2, activation="relu")], (3, 3, 3)),
    ],
    ids=["line", "matrix without channels", "volume"],
)
def test_other_numbers_of_axes(shape, parts, spatial, float64):
    """One, two or three spatial axes; axes of the sample that are not in the map see it repeated."""
    model = stack(shape, *(part() for part in parts), layers.Flatten(), layers.Dense(3))
    bench = Bench(model, samples(shape))
    a, g = parts_at(model, len(parts) - 1, bench.x)
    found = bench("hires_cam", target="all")
    assert found.layer_map.shape == (3, 3, *spatial)
    same(found.layer_map, np.sum(g * a[:, None], axis=-1))
    assert found.values.shape == (3, 3, *shape)
    if len(shape) > len(spatial):
        same(found.values[..., 0], found.values[..., -1])
    along = tuple(range(3, found.values.ndim))  # all but sample, target and the first spatial axis
    line = found.layer_map.mean(axis=tuple(range(3, found.layer_map.ndim)))
    enlarged = [[linear_replica(values, shape[0]) for values in target] for target in line]
    if len(spatial) < 2:
        same(found.values.mean(axis=along), enlarged)


def test_what_does_not_fit(float64):
    """Dense networks, several inputs, units inside, unknown layers: refused, and said why."""
    bench = Bench(average_head(), samples(SHAPE))
    with pytest.raises(ks.UnknownNameError, match="Did you mean 'last'"):
        bench("grad_cam", layer="lst")
    with pytest.raises(ks.IncompatibleMethodError, match="axes cannot be followed to those of a sample"):
        bench("grad_cam", layer=bench.model.layers[-1].name)
    with pytest.raises(ks.IncompatibleMethodError, match="units inside"):
        bench("grad_cam", target=ks.Neuron("last", (0, 0, 0)))
    with pytest.raises(ks.IncompatibleMethodError, match="nothing to map"):
        explain(stack((5,), layers.Dense(3)), samples((5,)), "hires_cam")
    two = [layers.Input((4, 4, 1)), layers.Input((4, 4, 1))]
    joined = keras.Model(two, layers.Dense(2)(layers.Flatten()(layers.Concatenate()(two))))
    with pytest.raises(ks.IncompatibleMethodError, match="one input"):
        explain(joined, [samples((4, 4, 1))] * 2, "grad_cam")


@pytest.mark.parametrize(
    "build",
    [
        lambda: [layers.Flatten(), layers.Dense(3)],
        lambda: [layers.GlobalMaxPooling2D(), layers.Dense(3)],
        lambda: [layers.GlobalAveragePooling2D(), layers.Dense(4, activation="relu"), layers.Dense(3)],
        lambda: [layers.AveragePooling2D(4), layers.Flatten(), layers.Dense(3)],
        lambda: [layers.Cropping2D(1), layers.GlobalAveragePooling2D(), layers.Dense(3)],
    ],
    ids=["flatten", "maximum", "two dense layers", "part of the map", "cropped"],
)
def test_cam_wants_a_global_average_and_one_dense_layer(build, float64):
    """Whatever else follows, or an average over a part of the map, is refused."""
    model = stack(SHAPE, layers.Conv2D(3, 2, activation="relu"), *build())
    with pytest.raises(ks.IncompatibleMethodError, match="global average pooling"):
        explain(model, samples(SHAPE), "cam")
