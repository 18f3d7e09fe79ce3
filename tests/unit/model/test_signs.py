from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kerascope.model.graph import Graph, Node
from kerascope.model.primitives import Activation, Affine, Mixture, Opaque, Product, Route, Winner
from kerascope.model.signs import non_negative
from tests.cases import cases
from tests.unit.model.views import values, viewed


@pytest.mark.parametrize("case", cases(), ids=str)
def test_what_is_called_non_negative_never_is_negative(case: Any) -> None:
    graph, found = viewed(case.name).view.graph, values(case.name).canonized
    for tensor in non_negative(graph):
        assert found[tensor].min() >= 0


@pytest.mark.parametrize("case", cases("positive_input"), ids=str)
def test_promised_inputs_count(case: Any) -> None:
    graph = viewed(case.name).view.graph
    found = values(case.name).canonized
    promised = non_negative(graph, frozenset(graph.inputs))
    assert promised >= non_negative(graph) | set(graph.inputs)
    for tensor in promised:
        assert found[tensor][:3].min() >= 0  # the first three rows are samples, the others have signs turned


def test_in_a_cnn_everything_behind_the_first_relu_is_known() -> None:
    graph = viewed("cnn").view.logits
    known = non_negative(graph)
    inputs = {node.name: node.inputs[0] in known for node in graph if isinstance(node.op, Affine)}
    assert inputs == {"conv_1": False, "conv_2": True, "classes": True}


def none(*tensors: Any) -> Any:
    raise AssertionError("Signs are known without running anything.")


@pytest.mark.parametrize(
    ("op", "known"),
    [
        (Activation(label="", name="relu", fn=none), True),
        (Activation(label="", name="sigmoid", fn=none), True),
        (Activation(label="", name="tanh", fn=none), False),
        (Activation(label="", name="silu", fn=none), False),
        (Activation(label="", name="leaky_relu", fn=none), False),
        (Opaque(label="", name="softmax", fn=none), True),
        (Opaque(label="", fn=none), False),
        (Affine(label="", linear=none, kernel=None), False),
    ],
)
def test_one_operation_on_anything(op: Any, known: bool) -> None:
    assert (1 in non_negative(graph_of(op, 1))) == known


@pytest.mark.parametrize(
    ("op", "known"),
    [
        (Mixture(label="", fn=none), True),
        (Mixture(label="", fn=none, keeps_sign=False), False),
        (Winner(label="", fn=none), True),
        (Product(label=""), True),
        (Route(label="", fn=none), True),
        (Route(label="", fn=none, pads=True), True),
        (Route(label="", fn=none, keeps_cells=False), True),
        (Route(label="", fn=none, pads=True, keeps_sign=False), False),
        (Affine(label="", linear=none, kernel=None), False),
    ],
)
def test_one_operation_on_what_is_known(op: Any, known: bool) -> None:
    graph = graph_of(op, 2)
    assert (2 in non_negative(graph, frozenset({0, 1}))) == known
    assert 2 not in non_negative(graph, frozenset({0}))


def graph_of(op: Any, count: int) -> Graph:
    """Return a graph of one operation that takes so many inputs."""
    node = Node("node", op, tuple(range(count)), (count,), object)
    return Graph(
        inputs=tuple(range(count)), outputs=(count,), nodes=(node,), shapes=dict.fromkeys(range(count + 1), (None,))
    )


def test_absolute_values_do_not_hide_a_wrong_claim() -> None:
    """The first test would notice: a tanh called non-negative is negative somewhere."""
    found = values("cnn_smooth").canonized
    graph = viewed("cnn_smooth").view.graph
    assert any(np.min(found[node.outputs[0]]) < 0 for node in graph if isinstance(node.op, Activation))
