from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from keras import ops

from kerascope import backend
from kerascope.model.graph import Graph, Node
from kerascope.model.primitives import Activation, Affine, Mixture, Route
from kerascope.model.propagate import forward, plain, sample_sum
from tests.cases import cases
from tests.unit.model.views import deviation, values, viewed


def gradients(name: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the derivative of a weighed sum of the logits by the inputs: by a walk, and by the backend."""
    view = viewed(name).view
    graph = view.logits
    inputs = view.to_tensors([array[6:9] for array in values(name).arrays])
    rng = np.random.default_rng(3)
    seeds = [
        ops.convert_to_tensor(rng.normal(size=(3, *graph.shapes[i][1:])).astype(view.dtype)) for i in graph.outputs
    ]

    def walked(*xs: Any) -> Any:
        _, walk = forward(graph, xs, {})
        start = {}
        for tensor, seed in zip(graph.outputs, seeds, strict=True):
            start[tensor] = start[tensor] + seed if tensor in start else seed
        found = walk(start).values
        return [found[i] for i in graph.inputs]

    def native(*xs: Any) -> Any:
        _, pull = backend.vjp(lambda *tensors: graph(*tensors), *xs)
        return list(pull(tuple(seeds)))

    both = backend.once(lambda *xs: (walked(*xs), native(*xs)), *inputs)
    return tuple([backend.to_numpy(grad) for grad in grads] for grads in both)


@pytest.mark.parametrize("case", cases(without="half integer_input"), ids=str)
def test_a_walk_without_handlers_is_the_gradient(case: Any) -> None:
    walked, native = gradients(case.name)
    assert deviation(walked, native) < 1e-5
    assert all(np.abs(grad).max() > 1e-3 for grad in native)


def chain(*ops_: Any) -> Graph:
    """Return operations one after the other."""
    nodes = tuple(Node(f"node_{i}", op, (i,), (i + 1,), object) for i, op in enumerate(ops_))
    count = len(nodes)
    return Graph(inputs=(0,), outputs=(count,), nodes=nodes, shapes=dict.fromkeys(range(count + 1), (None, 2)))


def row(*numbers: float) -> Any:
    return ops.convert_to_tensor(np.array([numbers], "float32"))


def double() -> Affine:
    return Affine(label="double", form="diagonal", kernel=row(2, 2), linear=ops.multiply)


def test_handlers_take_the_place_of_the_derivative() -> None:
    def halves(op: Any, x: Any) -> Any:
        return op(x), lambda arriving: ((0.5 * arriving[0],), sample_sum(0.5 * arriving[0]))

    graph = chain(double(), Activation(label="relu", name="relu", fn=ops.relu), double())
    known, walk = forward(graph, (row(1, -1),), {"node_0": halves, "node_2": halves})
    assert backend.to_numpy(known[3]).tolist() == [[4, 0]]
    walked = walk({3: row(8, 8)})
    assert backend.to_numpy(walked.values[0]).tolist() == [[2, 0]]
    assert {name: backend.to_numpy(lost).tolist() for name, lost in walked.absorbed_by.items()} == {
        "node_0": [2],
        "node_2": [8],
    }
    assert backend.to_numpy(walked.absorbed).tolist() == [10]
    assert walked.largest is None


def test_the_largest_sum_is_measured_over_what_arrives() -> None:
    _, walk = forward(chain(double(), double()), (row(1, -1),), {})
    walked = walk({2: row(1, -2)}, measure=True)
    assert backend.to_numpy(walked.largest).tolist() == [6]  # |2| + |-4| at the middle
    assert walked.absorbed is None


def test_a_walk_may_start_anywhere_and_several_times() -> None:
    _, walk = forward(chain(double(), double()), (row(1, -1),), {})
    assert backend.to_numpy(walk({2: row(1, 0)}).values[0]).tolist() == [[4, 0]]
    assert backend.to_numpy(walk({1: row(1, 1)}).values[0]).tolist() == [[2, 2]]
    assert backend.to_numpy(walk({2: row(1, 0), 1: row(0, 1)}).values[0]).tolist() == [[4, 2]]
    assert list(walk({1: row(1, 1)}).values) == [1, 0]


def test_what_arrives_from_several_sides_adds_up() -> None:
    add = Mixture(label="add", fn=lambda a, b: a + b)
    split = Route(label="split", fn=lambda x: (x[:, :1], x[:, 1:]))
    nodes = (Node("split", split, (0,), (1, 2), object), Node("add", add, (1, 1), (3,), object))
    graph = Graph(inputs=(0,), outputs=(3,), nodes=nodes, shapes={})
    _, walk = forward(graph, (row(1, 5),), {})
    found = walk({3: row(3)}).values
    assert backend.to_numpy(found[1]).tolist() == [[6]]
    assert backend.to_numpy(found[0]).tolist() == [[6, 0]]  # nothing arrives at the second part


def test_whole_numbers_and_truth_values_have_no_derivative() -> None:
    """As with masks: a comparison makes truth values, which steer another operation."""

    def where(mask: Any, x: Any) -> Any:
        return ops.where(mask, 3.0 * x, 0.0 * x)

    nodes = (
        Node("mask", Activation(label="", name="", fn=lambda x: x > 0), (0,), (1,), object),
        Node("where", Mixture(label="", fn=where), (1, 0), (2,), object),
    )
    graph = Graph(inputs=(0,), outputs=(2,), nodes=nodes, shapes={})
    known, walk = forward(graph, (row(1, -5),), {})
    assert backend.to_numpy(known[2]).tolist() == [[3, 0]]
    assert backend.to_numpy(walk({2: row(1, 1)}).values[0]).tolist() == [[3, 0]]


def test_plain_absorbs_nothing() -> None:
    outputs, backward = plain(double(), row(1, 2))
    assert backend.to_numpy(outputs).tolist() == [[2, 4]]
    (grad,), absorbed = backward((row(1, 1),))
    assert backend.to_numpy(grad).tolist() == [[2, 2]]
    assert absorbed is None


def test_sample_sum() -> None:
    x = ops.convert_to_tensor(np.arange(12, dtype="float32").reshape(2, 3, 2))
    assert backend.to_numpy(sample_sum(x)).tolist() == [15, 51]
    assert backend.to_numpy(sample_sum(x[:, 0, 0])).tolist() == [0, 6]
