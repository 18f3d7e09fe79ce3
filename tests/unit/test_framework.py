from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from kerascope import backend


def tensor(*numbers: float) -> Any:
    return ops.convert_to_tensor(np.array(numbers, "float32"))


def listed(value: Any) -> Any:
    return backend.to_numpy(value).tolist()


def test_the_backend_is_keras_own() -> None:
    assert backend.name == keras.backend.backend()
    assert backend.version()[0].isdigit()


def test_vjp_of_one_output() -> None:
    y, pull = backend.vjp(lambda a, b: a * a * b, tensor(1, 2), tensor(3, 4))
    assert listed(y) == [3, 16]
    a, b = pull(tensor(1, 10))
    assert (listed(a), listed(b)) == ([6, 160], [1, 40])
    assert listed(pull(tensor(0, 1))[0]) == [0, 16]  # a second pull through the same forward pass


@pytest.mark.parametrize("kind", [tuple, list])
def test_vjp_of_several_outputs(kind: Any) -> None:
    outputs, pull = backend.vjp(lambda x: kind((2 * x, x * x)), tensor(3))
    assert [listed(y) for y in outputs] == [[6], [9]]
    assert listed(pull((tensor(1), tensor(1)))[0]) == [8]
    assert listed(pull([tensor(0), tensor(1)])[0]) == [6]


def test_vjp_is_zero_where_nothing_depends() -> None:
    _, pull = backend.vjp(lambda a, b: 2 * a, tensor(1, 1), tensor(1, 1))
    assert listed(pull(tensor(1, 1))[1]) == [0, 0]
    _, pull = backend.vjp(lambda a: ops.ones_like(a), tensor(1, 1))
    assert listed(pull(tensor(1, 1))[0]) == [0, 0]


def test_vjp_passes_over_whole_numbers() -> None:
    index = ops.convert_to_tensor(np.array([1, 0], "int32"))
    outputs, pull = backend.vjp(lambda i, x: (ops.take(x, i), i), index, tensor(5, 7))
    assert listed(outputs[0]) == [7, 5]
    none, grad = pull((tensor(1, 2), ops.zeros_like(index)))
    assert listed(grad) == [2, 1]
    assert (listed(none), none.shape) == ([0, 0], (2,))


def test_vjp_leaves_parameters_alone() -> None:
    layer = keras.layers.Dense(1)
    layer.build((None, 2))
    _, pull = backend.vjp(lambda x: layer(x), ops.ones((1, 2)))
    assert backend.to_numpy(pull(ops.ones((1, 1)))[0]).shape == (1, 2)
    if backend.name == "torch":
        assert all(variable.value.grad is None for variable in layer.weights)


def test_compiled_functions_run_again_and_again() -> None:
    run = backend.compile(lambda x: ops.sum(x * x))
    with backend.inference():
        assert [float(backend.to_numpy(run(tensor(*numbers)))) for numbers in ((1, 2), (3, 4))] == [5, 25]


def test_once_runs_what_can_be_compiled_and_what_cannot() -> None:
    assert listed(backend.once(lambda pair: pair[0] + pair[1], [tensor(1), tensor(2)])) == [3]
    assert listed(backend.once(lambda x: x if float(backend.to_numpy(x)[0]) > 0 else -x, tensor(-2))) == [2]
    with pytest.raises(ZeroDivisionError):
        backend.once(lambda x: x * (1 // 0), tensor(1))


def test_snapshots_and_stopped_gradients() -> None:
    variable = keras.Variable(np.array([1.0, 2.0], "float32"))
    assert listed(backend.snapshot(variable)) == [1, 2]
    _, pull = backend.vjp(lambda x: backend.stop_gradient(x) * x, tensor(3))
    assert listed(pull(tensor(1))[0]) == [3]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "int32", "bool"])
def test_to_numpy_takes_every_dtype(dtype: str) -> None:
    array = backend.to_numpy(ops.cast(tensor(0, 1, 2), dtype))
    assert isinstance(array, np.ndarray)
    assert array.astype("float32").tolist() == ([0, 1, 1] if dtype == "bool" else [0, 1, 2])
