"""Relevance inside the network: B12, the table of conservation, and closed forms at hidden layers."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import kerascope as ks
from tests.reference.nets import average_head, cnn, mlp, normalised, residual, samples, stack, weigh
from tests.reference.run import Bench, predict, same


def shared() -> Any:
    """A layer used twice, a sum and a concatenation."""
    inputs = layers.Input((4,))
    encode = layers.Dense(4, activation="relu")
    h = encode(inputs)
    return weigh(keras.Model(inputs, layers.Dense(3)(layers.Concatenate()([encode(h), layers.Add()([h, inputs])]))))


def padded() -> Any:
    head = [layers.Conv2D(3, 3, padding="same"), layers.Flatten(), layers.Dense(3)]
    return stack((5, 5, 2), layers.ZeroPadding2D(1), layers.ReLU(), *head)


def gated() -> Any:
    """Attention over the cells: a softmax inside, and a product."""
    inputs = layers.Input((5,))
    weights = layers.Dense(5, activation="softmax")(inputs)
    return weigh(keras.Model(inputs, layers.Dense(3)(layers.Multiply()([inputs, weights]))))


NETS = {
    "dense": (mlp, (5,)),
    "convolutions": (cnn, (6, 6, 2)),
    "global average": (average_head, (6, 6, 2)),
    "residual": (residual, None),
    "batch normalisation": (lambda: normalised(order="after"), (6, 6, 2)),
    "shared layer": (shared, (4,)),
    "padding": (padded, (5, 5, 2)),
}
COMPOSITES = ["lrp", "lrp.zero", "lrp.epsilon", "lrp.z_plus", "lrp.alpha2_beta1", "lrp.flat", "lrp.epsilon_plus_flat"]


def found_in(name: str, method: str, **options: Any) -> tuple[ks.Relevances, ks.Explainer, np.ndarray]:
    build, shape = NETS[name]
    model = build()
    x = samples(shape or model.input_shape[1:])
    explainer = ks.Explainer(model, method, compile=False)
    return explainer.relevances(x, **options), explainer, x


@pytest.mark.parametrize("method", COMPOSITES)
@pytest.mark.parametrize("name", NETS)
def test_b12_conserved_at_every_operation(name, method, float64):
    """At each operation: arriving = departing + absorbed; from the output to any layer what is missing was absorbed."""
    found, explainer, x = found_in(name, method, target=0)
    scale = max(float(np.abs(a).sum(axis=tuple(range(1, a.ndim))).max()) for a in found.arrays.values())
    table = found.conservation()
    assert table["gap"].max() < 1e-9 * scale
    assert table["operation"].tolist() == list(found)
    explanation = explainer(x, target=0)
    same(found.inputs[0], explanation.values)
    kept = sum(found.absorbed.values())
    same(kept, explanation.absorbed)
    same(found.inputs[0].reshape(len(x), -1).sum(axis=1) + kept, found.explained)


@pytest.mark.parametrize("name", ["dense", "convolutions"])
def test_between_any_two_layers_of_a_chain(name, float64):
    """On a chain what arrives at a layer is what arrived above it less what was absorbed between the two."""
    found, *_ = found_in(name, "lrp.epsilon", target=1)
    nodes = list(found)
    sums = {node: found[node].reshape(3, -1).sum(axis=1) for node in nodes}
    for above, node in enumerate(nodes):
        for below in range(above + 1, len(nodes)):
            between = sum(found.absorbed[nodes[i]] for i in range(above, below))
            same(sums[nodes[below]], sums[node] - between)


def test_hidden_relevance_of_lrp_zero_is_activation_times_gradient(float64):
    """LRP-0 at a hidden layer of a ReLU network: h df/dh."""
    model = mlp()
    x = samples((5,))
    found = ks.Explainer(model, "lrp.zero", compile=False).relevances(x, target=2)
    for layer, node in zip(model.layers[:2], ("dense", "dense_1"), strict=True):
        h = predict(keras.Model(model.inputs, layer.output), x)
        gradient = Bench(rest_of(model, layer), h).values("gradient", target=2)
        # What arrives at the layer's activation; keras numbers the names, so the order says which.
        arrived = [found[name] for name in found if found[name].shape == h.shape][0 if node == "dense_1" else -2]
        same(arrived, h * gradient)


def rest_of(model: Any, layer: Any) -> Any:
    """The network above a layer of a chain, as a model of that layer's output."""
    inputs = value = layers.Input(layer.output.shape[1:])
    for part in model.layers[model.layers.index(layer) + 1 :]:
        value = part(value)
    return keras.Model(inputs, value)


def test_at_the_output_stands_the_logit_of_the_class(float64):
    found, explainer, x = found_in("dense", "lrp.epsilon", target=[2, 0, 1])
    logits = predict(explainer.model, x)
    top = found[next(iter(found))]
    same(top, np.eye(3)[[2, 0, 1]] * logits)
    same(found.explained, logits[np.arange(3), [2, 0, 1]])


def test_several_targets_and_batches(float64):
    whole, explainer, x = found_in("dense", "lrp.epsilon", target="all")
    again = ks.Explainer(explainer.model, "lrp.epsilon", batch_size=2).relevances(x, target="all")
    for node in whole:
        assert whole[node].shape[:2] == (3, 3)
        same(again[node], whole[node])
    one, *_ = found_in("dense", "lrp.epsilon", target=1)
    same(whole[list(whole)[1]][:, 1], one[list(one)[1]])


def test_padding_is_told_from_absorption(float64):
    """Relevance that reached cells that padding added stands in a column of its own."""
    model = stack((4, 4, 1), layers.ZeroPadding2D(1), layers.ReLU(), layers.Flatten(), layers.Dense(2))
    found = ks.Explainer(model, ks.LRP("flat"), compile=False).relevances(samples((4, 4, 1)), target=0)
    table = found.conservation().set_index("kind")
    # The flat rule gives every one of 36 cells the same; 20 of them are padding.
    same(table.loc["route", "lost_in_padding"].max(), found.explained.mean() * 20 / 36)
    same(found.inputs[0].reshape(3, -1).sum(axis=1), found.explained * 16 / 36)


DEEPLIFT = ["deeplift", "deeplift.reveal_cancel", "deeplift_shap"]


@pytest.mark.parametrize("method", DEEPLIFT)
@pytest.mark.parametrize("name", [*NETS, "softmax inside"])
def test_deeplift_conserves_contributions_at_every_operation(name, method, float64):
    """At each operation arriving = departing; at the inputs stands the map, whatever the batches and references."""
    build, shape = {**NETS, "softmax inside": (gated, (5,))}[name]
    model = build()
    x, background = samples(shape or model.input_shape[1:]), samples(shape or model.input_shape[1:], count=4, seed=9)
    explainer = ks.Explainer(model, method, background=background, batch_size=2, compile=False)
    found = explainer.relevances(x, target=[0, 1, 0])
    table = found.conservation()
    scale = max(float(np.abs(a).sum(axis=tuple(range(1, a.ndim))).max()) for a in found.arrays.values())
    assert table["gap"].max() < 1e-9 * scale
    assert set(table["absorbed"]) | set(table["lost_in_padding"]) == {0.0}
    explanation = explainer(x, target=[0, 1, 0])
    same(found.inputs[0], explanation.values)
    same(found.explained, explanation.explained)
    same(table["arriving"].iloc[0], explanation.values.reshape(len(x), -1).sum(axis=1).mean())


@pytest.mark.parametrize("rule", ["rescale", "reveal_cancel"])
def test_hidden_contributions_are_those_of_the_network_above(rule, float64):
    """What arrives at the last hidden layer is DeepLIFT of the network above it, from h(x0), the mean over x0."""
    model, x, references = mlp(), samples((5,)), samples((5,), count=3, seed=4)
    method = ks.DeepLIFT(rule, baseline=references)
    found = ks.Explainer(model, method, compile=False).relevances(x, target=2)
    layer = model.layers[-2]
    of_layer = keras.Model(model.inputs, layer.output)
    h, h0 = predict(of_layer, x), predict(of_layer, references)
    above = Bench(rest_of(model, layer), h)
    same(found[list(found)[1]], above.values(ks.DeepLIFT(rule, baseline=h0), target=2))


def test_the_order_is_that_of_the_walk_also_when_compiled(float64):
    """Compiled functions may return their results by name; the table starts at the output."""
    for method in ("lrp.epsilon", "deeplift"):
        build, shape = NETS["convolutions"]
        x = samples(shape)
        step, whole = (
            ks.Explainer(build(), method, background=x, compile=how).relevances(x, target=0) for how in (False, True)
        )
        assert [row.kind for row in step.steps] == [row.kind for row in whole.steps]
        assert next(iter(step.arriving)) == step.steps[0].node
        for a, b in zip(step.arrays.values(), whole.arrays.values(), strict=True):
            same(a, b)


def test_deep_taylor_has_it_too_and_gradients_have_not(float64):
    model, x = mlp(biases=0.0), samples((5,))
    found = ks.Explainer(model, "deep_taylor", compile=False).relevances(x)
    assert found.conservation()["gap"].max() < 1e-9
    with pytest.raises(ks.IncompatibleMethodError, match="Gradient shares out no relevance"):
        ks.Explainer(model, "gradient").relevances(x)
    with pytest.raises(ks.UnknownNameError, match="operation 'dnse'"):
        found["dnse"]


@pytest.mark.parametrize("method", ["lrp.epsilon", "deeplift"])
def test_an_operation_that_returns_several_tensors(method, float64):
    """Each of them has what arrived there, zero where nothing did; together they are what arrived at the operation."""
    for used in (2, 1):
        inputs = layers.Input((6,))
        halves = keras.ops.split(layers.Dense(6, activation="relu")(inputs), 2, axis=-1)
        joined = layers.Concatenate()([halves[1], 2 * halves[0]]) if used == 2 else halves[1]
        model, x = weigh(keras.Model(inputs, layers.Dense(3)(joined))), samples((6,))
        found = ks.Explainer(model, method, background=x, compile=False).relevances(x, target=0)
        name = next(step.node for step in found.steps if "split" in step.node)
        parts = found[f"{name}[0]"], found[f"{name}[1]"]
        assert [part.shape for part in parts] == [(3, 3), (3, 3)]
        assert bool(np.any(parts[0])) == (used == 2)
        same(sum(part.sum(axis=1) for part in parts), found.arriving[name])
        same(found.inputs[0], ks.explain(model, x, method, background=x, target=0).values)
