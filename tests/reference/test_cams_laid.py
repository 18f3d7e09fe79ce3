"""Class activation maps lie over the axes of the input that the layer runs along, or are refused."""

from __future__ import annotations

import re
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import kerascope as ks
from kerascope.model.axes import Axes
from tests.reference.nets import samples, stack, weigh
from tests.reference.run import Bench, same

CAMS = ["cam", "grad_cam", "hires_cam", "grad_cam_plus_plus", "xgrad_cam", "layer_cam", "eigen_cam", "score_cam"]
HEAD = [layers.GlobalAveragePooling1D, lambda: layers.Dense(3)]


def over_time(*before: Any, shape: tuple[int, ...] = (4, 20)) -> Any:
    return stack(shape, *before, layers.Conv1D(6, 1, use_bias=False, name="conv"), *(make() for make in HEAD))


@pytest.mark.parametrize("name", [*CAMS, "ablation_cam"])
def test_a_permuted_matrix_gets_the_map_along_its_time(name, float64):
    """Sensor x time, turned inside the network: values[sensor, t] = raw[t], the same for every sensor."""
    bench = Bench(over_time(layers.Permute((2, 1))), samples((4, 20)))
    found = bench(name, target=1, **({} if name == "cam" else {"layer": "conv"}))
    assert found.layer_map.shape == (3, 20)
    same(found.values, np.repeat(found.layer_map[:, None, :], 4, axis=1))


def test_a_peak_stays_where_it_is(float64):
    """One cell of the input is set: the map is nothing but that moment."""
    x = np.zeros((1, 4, 20))
    x[0, 1, 15] = 5
    found = Bench(over_time(layers.Permute((2, 1))), x)("eigen_cam")
    assert np.argwhere(found.values[0]).tolist() == [[sensor, 15] for sensor in range(4)]


@pytest.mark.parametrize("name", ["grad_cam", "score_cam", "hires_cam"])
@pytest.mark.parametrize("upsample", [True, False])
def test_turning_inside_is_turning_outside(name, upsample, float64):
    """A network that permutes its input first gives the map of the same network on the permuted input, turned back."""
    parts = lambda: [  # noqa: E731
        layers.Conv2D(4, 3, strides=(1, 2), activation="relu"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(3),
    ]
    x = samples((6, 9, 2))
    turned = stack((6, 9, 2), layers.Permute((2, 1, 3)), *parts())
    plain = stack((9, 6, 2), *parts())
    plain.set_weights(turned.get_weights())
    options = {"target": 0, "relu": False, "upsample": upsample}
    inside, outside = Bench(turned, x)(name, **options), Bench(plain, x.transpose(0, 2, 1, 3))(name, **options)
    same(inside.values, outside.values.transpose(0, 2, 1, 3))
    same(inside.layer_map, outside.layer_map)


@pytest.mark.parametrize(
    ("before", "shape"),
    [
        (lambda: [layers.Reshape((24, 4))], (12, 8)),
        (lambda: [layers.Flatten(), layers.Dense(20), layers.Reshape((10, 2))], (12, 8)),
    ],
    ids=["cells torn apart", "all positions mixed"],
)
def test_positions_that_are_not_the_inputs_are_refused(before, shape, float64):
    bench = Bench(over_time(*before(), shape=shape), samples(shape))
    with pytest.raises(ks.IncompatibleMethodError, match="positions of 'conv' are others"):
        bench("grad_cam")
    with pytest.raises(ks.IncompatibleMethodError, match=r"'conv' returns shape .* cannot be followed"):
        bench("hires_cam", layer="conv")


def test_an_earlier_layer_that_fits_is_taken(float64):
    """Behind a flattening positions are lost; the layer before it has them."""
    between = [layers.Conv1D(3, 3, activation="relu", name="first"), layers.Flatten(), layers.Reshape((6, 9))]
    found = Bench(over_time(*between, shape=(20, 4)), samples((20, 4)))("grad_cam")
    assert any("taken at 'first/relu'" in text for text in found.warnings)


def branches(join: Any, **conv: Any) -> Any:
    """Two kernels side by side on a common one, joined before or behind the average over time."""
    inputs = layers.Input((12, 3))
    stem = layers.Conv1D(4, 3, padding="same", activation="relu", name="stem")(inputs)
    sides = [
        layers.Conv1D(4, k, padding="same", activation="relu", name=f"side_{k}", use_bias=False)(stem) for k in (3, 5)
    ]
    return weigh(keras.Model(inputs, layers.Dense(3)(join(*sides))))


def joined_before(a: Any, b: Any) -> Any:
    return layers.GlobalAveragePooling1D()(layers.Concatenate(name="joined")([a, b]))


def joined_behind(a: Any, b: Any) -> Any:
    return layers.Concatenate()([layers.GlobalAveragePooling1D()(side) for side in (a, b)])


def test_branches_joined_are_mapped_where_they_join(float64):
    """The mean of a map behind all branches, plus the bias, is the logit."""
    model = branches(joined_before)
    found = Bench(model, samples((12, 3)))("cam", target=1)
    (said,) = found.warnings
    assert "taken at 'joined'" in said
    same(found.layer_map.mean(axis=1) + model.get_weights()[-1][1], found.explained)


def test_branches_that_go_past_the_layer_are_named(float64):
    bench = Bench(branches(joined_behind), samples((12, 3)))
    (said,) = [text for text in bench("grad_cam").warnings if "past" in text]
    assert re.match(r"What reaches the output past 'side_(3|5)/relu' \(from 'global_average_pooling1d\w*'\)", said)
    assert not any("past" in text for text in bench("grad_cam", layer="stem").warnings)
    with pytest.raises(ks.IncompatibleMethodError, match="cam needs a global average pooling"):
        bench("cam")


def test_an_input_that_goes_past_is_named(float64):
    inputs = layers.Input((12, 3))
    h = layers.GlobalAveragePooling1D()(layers.Conv1D(4, 3, activation="relu", name="conv")(inputs))
    model = weigh(keras.Model(inputs, layers.Dense(3)(layers.Concatenate()([h, layers.Flatten()(inputs)]))))
    warned = Bench(model, samples((12, 3)))("hires_cam").warnings
    assert any(re.search(r"past 'conv/relu' \(from 'flatten\w*'\)", text) for text in warned)


@pytest.mark.parametrize("state", [False, True], ids=["steps", "steps and state"])
def test_a_layer_that_answers_last_step_first_is_laid_the_right_way(state, float64):
    """A recurrent layer that forgets at once, backwards: only the step where the input is set speaks."""
    inputs = layers.Input((10, 1))
    rnn = layers.SimpleRNN(1, "relu", return_sequences=True, return_state=state, go_backwards=True, name="rnn")
    steps = rnn(inputs)[0] if state else rnn(inputs)
    model = keras.Model(inputs, layers.Dense(1)(layers.GlobalAveragePooling1D()(steps)))
    model.set_weights([np.ones((1, 1)), np.zeros((1, 1)), np.zeros(1), np.ones((1, 1)), np.zeros(1)])
    x = np.zeros((1, 10, 1))
    x[0, 2] = 5
    for options in ({}, {} if state else {"layer": "rnn"}):
        found = Bench(model, x)("hires_cam", **options)
        assert np.argwhere(found.values).tolist() == [[0, 2, 0]]
    assert np.argwhere(found.layer_map).tolist() == [[0, 7]]


PADDED: dict[str, Any] = {
    "a layer before": ((12, 1), lambda x: layers.ZeroPadding1D((12, 0))(x), 1),
    "a layer around": ((6, 1), lambda x: layers.ZeroPadding1D(3)(x), 1),
    "a layer, as much as the kernel takes": ((9, 1), lambda x: layers.ZeroPadding1D(3)(x), 7),
    "a function before": ((12, 1), lambda x: keras.ops.pad(x, ((0, 0), (12, 0), (0, 0))), 1),
    "a function, as much as the kernel takes": ((9, 1), lambda x: keras.ops.pad(x, ((0, 0), (3, 3), (0, 0))), 7),
    "more than the kernel takes": ((9, 1), lambda x: layers.ZeroPadding1D((2, 6))(x), 5),
    "turned and padded": ((9, 1), lambda x: layers.ZeroPadding1D((5, 2))(keras.ops.flip(x, axis=1)), 3),
}


@pytest.mark.parametrize("name", PADDED)
def test_padding_moves_no_map(name, float64):
    """Behind any padding a kernel that hands on its middle cell puts the map where the input is set."""
    shape, pad, size = PADDED[name]
    inputs = layers.Input(shape)
    h = layers.Conv1D(1, size, use_bias=False, name="conv")(pad(inputs))
    model = keras.Model(inputs, layers.Dense(1)(layers.Flatten()(h)))
    kernel = np.zeros((size, 1, 1))
    kernel[size // 2] = 1
    model.set_weights([kernel, np.ones((h.shape[1], 1)), np.zeros(1)])
    x = np.eye(shape[0])[..., None]
    for method in ("grad_cam", "eigen_cam"):
        found = Bench(model, x)(method)
        same(found.values[..., 0], np.eye(shape[0]), 1e-3)


def test_padding_to_a_round_number_moves_no_map(float64):
    """A hundred steps padded to 128, a kernel that keeps the length, pooling by two: two steps share each cell."""
    parts = [layers.ZeroPadding1D((0, 28)), layers.Conv1D(1, 3, padding="same", use_bias=False), layers.MaxPooling1D(2)]
    model = stack((100, 1), *parts, layers.GlobalAveragePooling1D(), layers.Dense(1))
    model.set_weights([np.array([0, 1, 0]).reshape(3, 1, 1), np.ones((1, 1)), np.zeros(1)])
    x = np.zeros((1, 100, 1))
    x[0, 90] = 5
    found = Bench(model, x)("hires_cam", upsample=False)
    assert np.flatnonzero(found.values).tolist() == [90, 91]


def test_padding_before_and_padding_within_are_one(float64):
    """A layer of padding and a kernel without, and that kernel with causal or even padding, lay their maps alike."""
    x = samples((20, 2))
    for size, pads, within in ((5, (4, 0), "causal"), (5, (2, 2), "same"), (4, (1, 2), "same")):
        rest = lambda: [layers.ReLU(), layers.Flatten(), layers.Dense(3)]  # noqa: E731
        apart = stack((20, 2), layers.ZeroPadding1D(pads), layers.Conv1D(4, size), *rest())
        joined = stack((20, 2), layers.Conv1D(4, size, padding=within), *rest())
        joined.set_weights(apart.get_weights())
        one, other = (Bench(model, x)("hires_cam", target=1, relu=False) for model in (apart, joined))
        same(one.layer_map, other.layer_map)
        same(one.values, other.values)


BEHIND_PADDING: dict[str, Any] = {
    "a sum": lambda h: layers.Add()([layers.Conv1D(4, 3)(h), layers.Conv1D(4, 3)(h)]),
    "the largest": lambda h: layers.Maximum()([layers.Conv1D(4, 3)(h), layers.Conv1D(4, 3)(h)]),
    "less its mean": lambda h: h - keras.ops.mean(h, axis=1, keepdims=True),
    "wide steps back": lambda h: layers.Conv1DTranspose(4, 2, strides=3)(layers.Conv1D(4, 3)(h)),
    "wide gaps": lambda h: layers.Conv1D(4, 3, dilation_rate=2)(h),
    "pooling": lambda h: layers.MaxPooling1D(3, 2)(h),
}


@pytest.mark.parametrize("name", BEHIND_PADDING)
def test_what_follows_padding_has_a_map(name, float64):
    inputs = layers.Input((12, 2))
    h = BEHIND_PADDING[name](layers.ReLU()(layers.ZeroPadding1D(3)(inputs)))
    model = weigh(keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(h))))
    found = Bench(model, samples((12, 2)))("grad_cam", relu=False)
    assert np.any(found.values)


@pytest.mark.parametrize("name", ["ResNet50", "DenseNet121"])
def test_maps_of_applications_cover_the_picture(name):
    """Of their many paddings, windows and joins nothing is left: the last layer runs through the whole picture."""
    if keras.backend.backend() != "torch":
        pytest.skip("once is enough: nothing here is the backend's")
    model = getattr(keras.applications, name)(weights=None, classes=3, input_shape=(96, 96, 3))
    view = ks.Explainer(model, "gradient", compile=False).prepare(samples((96, 96, 3))[:1]).view
    last = [n for n in view.logits if len(view.logits.shapes[n.outputs[0]]) == 4][-1]
    check_axes(axes_at(view, last.outputs[0]), [(0, 0, 96), (1, 0, 96), None])


def test_masks_of_padded_steps_do_not_go_past(float64):
    inputs = layers.Input((8, 2))
    h = layers.SimpleRNN(3, return_sequences=True)(layers.Masking()(inputs))
    model = weigh(keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(h))))
    assert not any("past" in text for text in Bench(model, samples((8, 2)))("hires_cam").warnings)


def segmenting() -> Any:
    parts = [layers.Conv2D(4, 3, padding="same", activation="relu", name="features"), layers.Conv2D(3, 1, name="cells")]
    return stack((6, 6, 1), *parts, layers.Softmax())


def test_the_explained_output_is_no_layer_to_map(float64):
    """Of a network that answers cell by cell the last layer before its answer is taken."""
    x = samples((6, 6, 1))
    found = Bench(segmenting(), x)("hires_cam", target=ks.Output((3, 3, 1)))
    assert any("taken at 'features/relu'" in text for text in found.warnings)
    # A 1x1 kernel reads its own cell only: w_k A_k there, nothing elsewhere.
    assert np.all(np.argwhere(found.values)[:, 1:3] == 3)
    same(found.values[:, 3, 3, 0], found.explained - float(segmenting().layers[1].get_weights()[1][1]))


def test_a_layer_called_twice_is_not_clear(float64):
    inputs = layers.Input((8, 2))
    conv = layers.Conv1D(2, 3, padding="same", activation="relu", name="conv")
    pooled = layers.GlobalAveragePooling1D()(conv(conv(inputs)))
    bench = Bench(weigh(keras.Model(inputs, layers.Dense(3)(pooled))), samples((8, 2)))
    with pytest.raises(ks.IncompatibleMethodError, match="'conv' is called 2 times"):
        bench("grad_cam", layer="conv")


def test_score_cam_does_not_multiply_tokens():
    inputs = layers.Input((7,), dtype="int32")
    h = layers.Conv1D(4, 3, activation="relu", name="conv")(layers.Embedding(5, 3)(inputs))
    model = keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(h)))
    tokens = np.arange(14).reshape(2, 7) % 5
    with pytest.raises(ks.IncompatibleMethodError, match="makes other tokens"):
        ks.explain(model, tokens, "score_cam")
    found = ks.explain(model, tokens, "hires_cam", layer="conv")
    assert found.values.shape == (2, 7)


MOVES = {
    "padding": (layers.ZeroPadding2D((1, 2)), [(0, -1, 9), (1, -2, 8), (2, 0, 3)]),
    "cropping": (layers.Cropping2D(((1, 2), (0, 3))), [(0, 1, 6), (1, 0, 3), (2, 0, 3)]),
    "enlarging": (layers.UpSampling2D((2, 3)), [(0, 0, 8), (1, 0, 6), (2, 0, 3)]),
    "turning": (layers.Permute((3, 1, 2)), [(2, 0, 3), (0, 0, 8), (1, 0, 6)]),
    "flattening": (layers.Flatten(), [None]),
    "splitting an axis": (layers.Reshape((8, 3, 2, 3)), [(0, 0, 8), None, None, (2, 0, 3)]),
    "a new axis": (layers.Reshape((8, 1, 6, 3)), [(0, 0, 8), None, (1, 0, 6), (2, 0, 3)]),
    "kernel": (layers.Conv2D(4, 3), [(0, 0, 8), (1, 0, 6), None]),
    "depthwise kernel": (layers.DepthwiseConv2D(3), [(0, 0, 8), (1, 0, 6), None]),
    "dense": (layers.Dense(5), [(0, 0, 8), (1, 0, 6), None]),
    "einsum over channels": (layers.EinsumDense("abcd,de->abce", (None, 6, 5)), [(0, 0, 8), (1, 0, 6), None]),
    "einsum over places": (layers.EinsumDense("abcd,be->aecd", (5, 6, 3)), [None, (1, 0, 6), (2, 0, 3)]),
    "pooling": (layers.MaxPooling2D(2), [(0, 0, 8), (1, 0, 6), (2, 0, 3)]),
    "pooling whole axes": (layers.GlobalAveragePooling2D(), [(2, 0, 3)]),
    "cell by cell": (layers.ReLU(), [(0, 0, 8), (1, 0, 6), (2, 0, 3)]),
}
REST = (1, 0, 2)
FUNCTIONS: dict[str, Any] = {
    "every second": (lambda x: x[:, ::2], (8, 2), [(0, -0.5, 7.5), REST]),
    "a part": (lambda x: x[:, 3:7], (8, 2), [(0, 3, 7), REST]),
    "mirrored": (lambda x: keras.ops.pad(x, ((0, 0), (2, 1), (0, 0)), mode="reflect"), (8, 2), [(0, -2, 9), REST]),
    "around": (lambda x: keras.ops.concatenate([x[:, -1:], x, x[:, :1]], axis=1), (8, 2), [(0, -1, 9), REST]),
    "halves": (lambda x: keras.ops.concatenate([x[:, :4] * 2, x[:, 4:]], axis=1), (8, 2), [(0, 0, 8), REST]),
    "halves turned": (lambda x: keras.ops.concatenate([x[:, 4:], x[:, :4] * 2], axis=1), (8, 2), [None, REST]),
    "twice": (lambda x: keras.ops.concatenate([x, x], axis=1), (8, 2), [None, REST]),
    "backwards": (lambda x: keras.ops.flip(x, axis=1), (8, 2), [(0, 8, 0), REST]),
    "a part backwards": (lambda x: keras.ops.flip(x[:, 2:7], axis=1), (8, 2), [(0, 7, 2), REST]),
    "there and back": (lambda x: x + keras.ops.flip(x, axis=1), (8, 2), [None, REST]),
    "a mean over square": (lambda x: keras.ops.mean(x, axis=1), (5, 5, 2), [(1, 0, 5), (2, 0, 2)]),
}


def axes_of(model: Any, shape: tuple[int, ...]) -> list[Any]:
    view = ks.Explainer(model, "gradient").prepare(samples(shape)).view
    return axes_at(view, view.graph.outputs[0])


def axes_at(view: Any, tensor: int) -> list[Any]:
    return [None if s is None else (s.axis, s.start, s.stop) for s in Axes(view.graph).of(tensor)]


def check_axes(found: list[Any], expected: list[Any]) -> None:
    assert [s and s[0] for s in found] == [s and s[0] for s in expected]
    for one, other in zip(found, expected, strict=True):
        assert one is None or np.allclose(one, other, atol=1e-3), (found, expected)


@pytest.mark.parametrize("name", MOVES)
def test_where_axes_go(name):
    layer, expected = MOVES[name]
    inputs = layers.Input((8, 6, 3))
    check_axes(axes_of(keras.Model(inputs, layer(inputs)), (8, 6, 3)), expected)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_where_functions_take_axes(name):
    fn, shape, expected = FUNCTIONS[name]
    inputs = layers.Input(shape)
    check_axes(axes_of(keras.Model(inputs, fn(inputs)), shape), expected)


def test_pixels_shuffled_into_place():
    """Channels become places within each cell: the axes stay what they were."""
    inputs = layers.Input((4, 6, 1))
    h = layers.Reshape((4, 6, 2, 2, 3))(layers.Conv2D(12, 1)(inputs))
    shuffled = layers.Reshape((8, 12, 3))(layers.Permute((1, 3, 2, 4, 5))(h))
    check_axes(axes_of(keras.Model(inputs, shuffled), (4, 6, 1)), [(0, 0, 4), (1, 0, 6), None])


def test_an_einsum_over_channels_in_float64(float64):
    """Kernels of any precision are followed."""
    dense = layers.EinsumDense("abc,cd->abd", (None, 5), activation="relu", name="einsum")
    found = Bench(stack((12, 3), dense, *(make() for make in HEAD)), samples((12, 3)))("cam", target=1)
    same(found.values, np.repeat(found.layer_map[:, :, None], 3, axis=2))


@pytest.mark.parametrize("upsample", [False, True])
def test_a_cropped_map_lies_where_it_was_read(upsample, float64):
    """Row 20 of 32 is set, and the network reads rows 16 to 31 only: the map is that row."""
    x = np.zeros((1, 32, 4, 1))
    x[0, 20] = 1
    crop = layers.Cropping2D(((16, 0), (0, 0)))
    conv = layers.Conv2D(2, 1, use_bias=False, name="conv")
    bench = Bench(stack((32, 4, 1), crop, conv, layers.GlobalAveragePooling2D(), layers.Dense(3)), x)
    found = bench("hires_cam", layer="conv", upsample=upsample)
    assert set(np.argwhere(found.values)[:, 1]) == {20}


def test_a_token_in_front_has_no_place(float64):
    """Patches of four steps behind a token: only the last patch is set, and the map lies on its steps."""
    x = np.zeros((1, 16, 1))
    x[0, 12:] = 1
    inputs = layers.Input((16, 1))
    patches = layers.Conv1D(3, 4, strides=4, use_bias=False)(inputs)
    with_token = keras.ops.concatenate([keras.ops.full_like(patches[:, :1], 0.3), patches], axis=1)
    mixed = layers.Conv1D(4, 1, use_bias=False, name="mixed")(with_token)
    model = weigh(keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(mixed))))
    found = Bench(model, x)("hires_cam", layer="mixed", upsample=False)
    assert set(np.argwhere(found.values)[:, 1]) == {12, 13, 14, 15}


def test_places_put_behind_each_other_are_not_those_of_the_input():
    inputs = layers.Input((8, 3))
    behind = keras.Model(inputs, layers.Concatenate(axis=1)([inputs, layers.ReLU()(inputs)]))
    beside = keras.Model(inputs, layers.Concatenate()([inputs, layers.ReLU()(inputs)]))
    check_axes(axes_of(behind, (8, 3)), [None, (1, 0, 3)])
    check_axes(axes_of(beside, (8, 3)), [(0, 0, 8), None])
