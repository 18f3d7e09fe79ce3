from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from keras import ops

from kerascope import backend
from kerascope.model.bridge import bridge
from kerascope.model.graph import Graph, Node, as_tuple
from kerascope.model.primitives import Activation, Affine, Mixture, Opaque, Route, Winner


def tensor(*numbers: float) -> Any:
    return ops.convert_to_tensor(np.array([numbers], "float32"))


def times(factor: float, *, plus: float | None = None) -> Affine:
    bias = None if plus is None else tensor(plus)
    return Affine(label="times", form="diagonal", kernel=tensor(factor), bias=bias, linear=ops.multiply)


def node(name: str, op: Any, inputs: tuple[int, ...], *outputs: int) -> Node:
    return Node(name, op, inputs, outputs, object)


@pytest.fixture
def diamond() -> Graph:
    """x -> 2x + 1 -> two ways (3 times; halves of it side by side) -> sum; and a side branch that nothing needs."""
    half = Route(label="split", fn=lambda x: (x[:, :1], x[:, 1:]))
    nodes = (
        node("double", times(2, plus=1), (0,), 1),
        node("triple", times(3), (1,), 2),
        node("halves", half, (1,), 3, 4),
        node("side", times(100), (1,), 5),
        node("sum", Mixture(label="add", fn=lambda a, b, c: a + b + c), (2, 3, 4), 6),
    )
    shapes = {i: (None, 1 if i in (3, 4) else 2) for i in range(7)}
    return Graph(inputs=(0,), outputs=(6,), nodes=nodes, shapes=shapes, layers={"a": (1,), "b": (5,)})


def numbers(values: Any) -> list[list[float]]:
    return [backend.to_numpy(value)[0].tolist() for value in values]


def test_run_returns_what_is_wanted(diamond: Graph) -> None:
    x = tensor(1, 2)
    assert numbers(diamond(x)) == [[9 + 3 + 5, 15 + 3 + 5]]
    assert numbers(diamond.run((x,), (4, 0, 1))) == [[5], [1, 2], [3, 5]]


def test_run_computes_only_what_is_needed(diamond: Graph) -> None:
    seen: list[int] = []
    diamond.run((tensor(1, 2),), (2,), watch=lambda number, value: seen.append(number))
    assert seen == [1, 2]
    diamond.run((tensor(1, 2),), (6,), watch=lambda number, value: seen.append(number))
    assert seen[2:] == [1, 2, 3, 4, 6]


def test_run_from_takes_tensors_inside_as_given(diamond: Graph) -> None:
    assert numbers(diamond.run_from({1: tensor(1, 1)})) == [[5, 5]]
    assert numbers(diamond.run_from({2: tensor(0, 0), 0: tensor(1, 2)})) == [[8, 8]]
    assert numbers(diamond.run_from({6: tensor(7, 8)})) == [[7, 8]]
    with pytest.raises(KeyError):
        diamond.run_from({2: tensor(0, 0)})


def test_ancestors_stop_at_what_is_known(diamond: Graph) -> None:
    def names(nodes: Any) -> list[str]:
        return [entry.name for entry in nodes]

    assert names(diamond.ancestors((6,))) == ["double", "triple", "halves", "sum"]
    assert names(diamond.ancestors((6,), known={1})) == ["triple", "halves", "sum"]
    assert names(diamond.ancestors((4,))) == ["double", "halves"]
    assert names(diamond.after(1)) == ["triple", "halves", "side", "sum"]
    assert names(diamond.after(3)) == ["sum"]


def test_restrict_drops_what_is_not_needed(diamond: Graph) -> None:
    small = diamond.restrict((2, 5))
    assert [entry.name for entry in small] == ["double", "triple", "side"]
    assert small.outputs == (2, 5)
    assert len(small) == 3
    assert len(diamond) == 5


def test_producers_and_consumers(diamond: Graph) -> None:
    assert {tensor: entry.name for tensor, entry in diamond.producers().items()}[4] == "halves"
    assert 0 not in diamond.producers()
    assert [entry.name for entry in diamond.consumers()[1]] == ["triple", "halves", "side"]
    square = Graph(
        inputs=(0,), outputs=(1,), nodes=(node("square", times(1), (0, 0), 1),), shapes={0: (None,), 1: (None,)}
    )
    assert len(square.consumers()[0]) == 1


def test_weights_can_be_exchanged(diamond: Graph) -> None:
    assert numbers(diamond.weights) == [[2], [1], [3], [100]]
    other = diamond.with_weights([tensor(1), tensor(0), tensor(-1), tensor(0)])
    assert numbers(other(tensor(1, 2))) == [[-1 + 1 + 2, -2 + 1 + 2]]
    assert numbers(diamond(tensor(1, 2))) == [[17, 23]]


def test_new_tensors_have_a_number_of_their_own(diamond: Graph) -> None:
    assert diamond.new_tensor() == 7
    assert Graph(inputs=(), outputs=(), nodes=(), shapes={}).new_tensor() == 0


def test_as_tuple() -> None:
    assert as_tuple([1, 2]) == (1, 2)
    assert as_tuple((1,)) == (1,)
    assert as_tuple(1) == (1,)


def test_first_of_several_largest() -> None:
    op = Winner(label="max", fn=ops.max, axes=(1, -1))
    x = ops.convert_to_tensor(np.array([[[[1, 3], [3, 2]], [[0, 0], [0, 0]]]] * 2, "float32").transpose(0, 2, 1, 3))
    found = backend.to_numpy(op.first_of(x))
    assert found.shape == x.shape
    assert found.sum(axis=(1, 3)).tolist() == [[1, 1], [1, 1]]
    assert found[0].transpose(1, 0, 2)[0].tolist() == [[0, 1], [0, 0]]
    with pytest.raises(ValueError, match="maximum over whole axes"):
        Winner(label="pool", fn=ops.max).first_of(x)


# Stretches without a row per sample -----------------------------------------------------------------


def stretch(middle: Any) -> Graph:
    """x (N, 2, 3) -> time first (2, N, 3) -> something -> samples first again; and one step picked out."""
    turn = Route(label="turn", fn=lambda x: ops.transpose(x, (1, 0, 2)))
    nodes = (
        node("there", turn, (0,), 1),
        node("middle", middle, (1,), 2),
        node("back", turn, (2,), 3),
        node("pick", Route(label="pick", fn=lambda x: x[1]), (1,), 4),
        node("after", times(2), (3,), 5),
    )
    shapes = {0: (None, 2, 3), 1: (None, 4, 3), 2: (None, 4, 3), 3: (None, 2, 3), 4: (None, 3), 5: (None, 2, 3)}
    return Graph(inputs=(0,), outputs=(5, 4), nodes=nodes, shapes=shapes, layers={"a": (1,), "b": (2, 3)})


@pytest.mark.parametrize(
    ("middle", "kind"),
    [
        (Route(label="flip", fn=lambda x: ops.flip(x, axis=0)), Route),
        (Activation(label="relu", name="relu", fn=ops.relu), Opaque),
    ],
)
def test_stretches_become_one_operation(middle: Any, kind: type) -> None:
    graph = stretch(middle)
    bridged = bridge(graph, frozenset({1, 2}))
    assert [entry.name for entry in bridged] == ["back", "pick", "after"]
    assert [type(entry.op) for entry in bridged] == [kind, Route, Affine]
    assert [entry.inputs for entry in bridged] == [(0,), (0,), (3,)]
    assert bridged.layers == {"b": (3,)}
    x = ops.convert_to_tensor(np.random.default_rng(0).normal(size=(4, 2, 3)).astype("float32"))
    for found, expected in zip(bridged(x), graph(x), strict=True):
        np.testing.assert_array_equal(backend.to_numpy(found), backend.to_numpy(expected))


def test_without_such_stretches_nothing_happens(diamond: Graph) -> None:
    assert bridge(diamond, frozenset()) is diamond
