"""A model as an immutable list of primitive operations in topological order."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kerascope.model.primitives import Affine, Primitive, Tensor


@dataclass(frozen=True, eq=False)
class Node:
    """One call of a primitive operation; tensors are named by integers.

    ``source`` is the class of the Keras layer or operation it was made from.
    """

    name: str
    op: Primitive
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    source: type


@dataclass(frozen=True, eq=False, kw_only=True)
class Graph:
    """Operations in topological order, from input tensors to output tensors.

    ``shapes`` gives each tensor's shape with None for the batch axis; ``layers`` gives, for each Keras
    layer by name, the tensors its calls return; ``half`` whether the model computes in 16 bits anywhere (the
    graph does not); the rest says in words what was rewritten.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    nodes: tuple[Node, ...]
    shapes: Mapping[int, tuple[int | None, ...]]
    layers: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    half: bool = False
    split: tuple[str, ...] = ()
    folded: tuple[str, ...] = ()
    taken_off: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Run the operations and return the output tensors."""
        return self.run(tensors, self.outputs)

    def run(
        self,
        tensors: Sequence[Tensor],
        wanted: Sequence[int],
        watch: Callable[[int, Tensor], None] | None = None,
    ) -> tuple[Tensor, ...]:
        """Run the operations that the wanted tensors depend on, and return those tensors.

        Args:
            tensors: one per input.
            wanted: which tensors to return.
            watch: is shown every tensor (its number and its value) when it has been computed.
        """
        values = dict(zip(self.inputs, tensors, strict=True))
        last_use = self._last_uses(wanted)
        for index, node in enumerate(self.ancestors(wanted)):
            results = as_tuple(node.op(*(values[i] for i in node.inputs)))
            for number, value in zip(node.outputs, results, strict=True):
                values[number] = value
                if watch is not None:
                    watch(number, value)
            for spent in last_use.get(index, ()):
                values.pop(spent, None)
        return tuple(values[i] for i in wanted)

    def run_from(self, known: Mapping[int, Tensor]) -> tuple[Tensor, ...]:
        """Return the output tensors, with some tensors inside given instead of computed."""
        values = dict(known)
        for node in self.ancestors(self.outputs, known):
            results = node.op(*(values[i] for i in node.inputs))
            values.update(zip(node.outputs, as_tuple(results), strict=True))
        return tuple(values[i] for i in self.outputs)

    def after(self, tensor: int) -> list[Node]:
        """Return the nodes that depend on a tensor, in order."""
        reached, found = {tensor}, []
        for node in self.nodes:
            if reached.intersection(node.inputs):
                reached.update(node.outputs)
                found.append(node)
        return found

    def _last_uses(self, wanted: Sequence[int]) -> dict[int, list[int]]:
        last: dict[int, int] = {}
        for index, node in enumerate(self.ancestors(wanted)):
            last.update(dict.fromkeys(node.inputs, index))
        spent: dict[int, list[int]] = {}
        for tensor, index in last.items():
            if tensor not in wanted:
                spent.setdefault(index, []).append(tensor)
        return spent

    def ancestors(self, wanted: Sequence[int], known: Container[int] = ()) -> list[Node]:
        """Return the nodes that the wanted tensors depend on, in order, stopping at known tensors."""
        needed = set(wanted)
        kept = []
        for node in reversed(self.nodes):
            if any(tensor in needed and tensor not in known for tensor in node.outputs):
                kept.append(node)
                needed.update(node.inputs)
        return kept[::-1]

    def producers(self) -> dict[int, Node]:
        """Return, for each tensor that is no input, the node that makes it."""
        return {tensor: node for node in self.nodes for tensor in node.outputs}

    def consumers(self) -> dict[int, list[Node]]:
        """Return, for each tensor, the nodes that read it."""
        readers: dict[int, list[Node]] = {}
        for node in self.nodes:
            for tensor in dict.fromkeys(node.inputs):
                readers.setdefault(tensor, []).append(node)
        return readers

    def restrict(self, wanted: Sequence[int]) -> Graph:
        """Return the graph that ends at the wanted tensors, without what they do not need."""
        return replace(self, outputs=tuple(wanted), nodes=tuple(self.ancestors(wanted)))

    @property
    def weights(self) -> list[Tensor]:
        """The kernels and biases, in order."""
        return [tensor for node in self.nodes for tensor in self.weights_of(node)]

    @staticmethod
    def weights_of(node: Node) -> list[Tensor]:
        """Return the kernel and the bias of an operation, as far as it has any."""
        held = (node.op.kernel, node.op.bias) if isinstance(node.op, Affine) else ()
        return [tensor for tensor in held if tensor is not None]

    def with_weights(self, weights: Sequence[Tensor]) -> Graph:
        """Return the graph with other kernels and biases, given in the order of `weights`."""
        following = iter(weights)
        nodes = []
        for node in self.nodes:
            if isinstance(node.op, Affine):
                kernel = next(following)
                bias = None if node.op.bias is None else next(following)
                node = replace(node, op=replace(node.op, kernel=kernel, bias=bias))
            nodes.append(node)
        return replace(self, nodes=tuple(nodes))

    def new_tensor(self) -> int:
        """Return an integer that names no tensor yet."""
        return max(self.shapes, default=-1) + 1

    def __iter__(self) -> Iterator[Node]:
        """Iterate over the nodes in topological order."""
        return iter(self.nodes)

    def __len__(self) -> int:
        """Return the number of operations."""
        return len(self.nodes)


def as_tuple(value: Any) -> tuple[Any, ...]:
    """Return a tuple or list as a tuple, anything else as a tuple of one."""
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)
