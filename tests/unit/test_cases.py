from __future__ import annotations

import keras
import numpy as np
import pytest

from kerascope.errors import IncompatibleMethodError
from kerascope.methods.relu import require_relu
from kerascope.model.primitives import Activation, Opaque, Winner
from tests.cases import by_name, cases
from tests.unit.model.views import values, viewed

SMOOTH = ["tanh", "sigmoid", "silu", "gelu", "softplus", "softsign", "mish", "exp", "log_sigmoid", "square"]
SMOOTH += ["power", "log1p", "sqrt", "sin", "erf", "reciprocal", "leaky_relu"]  # the last one with slope 1
NAMES = [case.name for case in cases()]


def logits(name: str) -> np.ndarray:
    """Return the logits of every head, side by side: (5, 3, K) for x, 0, y, x + y and 2 x."""
    found = [values(name).canonized[head.logits] for head in viewed(name).view.heads]
    return np.concatenate([array.reshape(5, 3, -1) for array in found], axis=2)


@pytest.mark.parametrize("name", NAMES)
def test_traits_say_what_the_model_is(name: str) -> None:
    seen = viewed(name)
    traits, graph = seen.case.traits, seen.view.logits
    try:
        require_relu(graph, "")
        relu_only = True
    except IncompatibleMethodError:
        relu_only = False
    assert relu_only == ("relu_only" in traits)
    assert any(isinstance(node.op, Opaque) for node in graph) == ("no_rule" in traits)
    assert bool(seen.view.traced.notes) == ("opaque" in traits)
    assert (len(seen.arrays) > 1) == ("multi_input" in traits)
    assert (len(seen.view.heads) > 1) == ("multi_output" in traits)
    assert (len(seen.view.heads[0].shape) > 2) == ("map_output" in traits)
    assert seen.view.channels_first == ("channels_first" in traits)
    assert any(isinstance(node.op, Winner) for node in graph) == ("maxpool" in traits)
    heads = {head.taken_off for head in seen.view.heads} - {None}
    assert heads == traits & {"softmax", "sigmoid", "log_softmax"} or "multi_output" in traits


@pytest.mark.parametrize("case", cases(without="integer_input no_rule half"), ids=str)
def test_linear_and_bias_free_are_what_the_numbers_say(case: object) -> None:
    one, zero, other, total, double = logits(str(case))
    traits, largest = by_name(str(case)).traits, np.abs(double).max()
    assert (np.abs(total - one - other + zero).max() < 1e-5 * largest) == ("linear" in traits)
    homogeneous = np.abs(zero).max() < 1e-6 * largest and np.abs(double - 2 * one).max() < 1e-5 * largest
    assert homogeneous == ("bias_free" in traits)


@pytest.mark.parametrize("case", cases("smooth"), ids=str)
def test_smooth_cases_have_no_kink(case: object) -> None:
    for node in viewed(str(case)).view.logits:
        assert not isinstance(node.op, Winner)
        assert not isinstance(node.op, Activation) or node.op.name in SMOOTH


@pytest.mark.parametrize("case", cases(), ids=str)
def test_logits_are_of_order_one_and_alive(case: object) -> None:
    found = logits(str(case))[0]
    assert 0.1 < found.std() < 10
    assert np.abs(np.diff(found, axis=0)).max() > 1e-2  # the samples matter


def test_weights_depend_on_the_case_alone() -> None:
    first, second, other = (by_name(name).build() for name in ("cnn", "cnn", "cnn_bias_free"))
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.abs(first.get_weights()[0] - other.get_weights()[0]).max() > 0.1
    np.testing.assert_allclose(first.get_weights()[0].ravel()[:2], [-0.620279, 0.061027], atol=1e-6)


def test_samples_fit_and_differ() -> None:
    case = by_name("dict_inputs")
    x = case.sample(4)
    assert {name: array.shape for name, array in x.items()} == {"signal": (4, 6, 4), "facts": (4, 3)}
    assert x["facts"].dtype == keras.config.floatx()
    assert not np.array_equal(case.sample(2, seed=1)["facts"], x["facts"][:2])
    assert by_name("cnn_bias_free").sample(5).min() > 0


def test_cases_can_be_asked_for_by_trait() -> None:
    chosen = cases("conv", "relu_only", without="batchnorm maxpool")
    assert chosen
    assert all({"conv", "relu_only"} <= c.traits and not {"batchnorm", "maxpool"} & c.traits for c in chosen)
    with pytest.raises(KeyError):
        by_name("no such case")
