"""What methods share while they work on one model: compiled functions, batching, the absent input."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np
from keras import ops

from kerascope import backend
from kerascope.errors import IncompatibleMethodError
from kerascope.model.graph import Graph
from kerascope.model.primitives import Tensor
from kerascope.model.trace import exact
from kerascope.model.view import ModelView
from kerascope.target import Selection

Arrays = tuple[np.ndarray, ...]

MEMORY = 2**30
"""The memory budget where none is given: 1 GiB."""

_MOST_ROWS = 512
"""More rows in one pass save no time, not even on small models."""


def _nothing(done: float) -> None:
    """Tell nobody."""


@dataclass
class Session:
    """One model, its background samples, and everything compiled or computed for them once.

    Args:
        view: the model.
        background: one array (M, *S) per input: samples that stand for "nothing special", or None.
        batch_size: how many samples are explained at once.
        compile: whether functions are compiled.
        memory: budget in bytes for the tensors of one pass over copies of samples (paths, noise, masks).
        told: is called with the share of a batch's passes that are done, 0 to 1.
        notes: what was changed about the background when it was read.
    """

    view: ModelView
    background: Arrays | None = None
    batch_size: int = 32
    compile: bool = True
    memory: int = MEMORY
    told: Callable[[float], None] = _nothing
    notes: tuple[str, ...] = ()
    _functions: dict[Any, Callable[..., Any]] = field(default_factory=dict)
    _sizes: dict[Any, set[int]] = field(default_factory=dict)
    _memory: dict[Any, Any] = field(default_factory=dict)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shape of one sample of every input, S."""
        graph = self.view.traced
        return [tuple(size or 1 for size in graph.shapes[i][1:]) for i in graph.inputs]

    @property
    def rows_at_once(self) -> int:
        """How many copies of samples go into one pass, forward and back, within the memory budget."""
        return int(np.clip(self.memory // self.bytes_per_row, 1, _MOST_ROWS))

    @property
    def bytes_per_row(self) -> int:
        """What a pass holds of one sample: every tensor of the graph, and as much for its derivative."""
        shapes = self.view.traced.shapes
        cells = sum(math.prod(size or 1 for size in shape[1:]) for shape in dict(shapes).values())
        return max(1, 2 * cells * np.dtype(self.view.dtype).itemsize)

    @property
    def quiet(self) -> Session:
        """The same session for a part of what a method does: it does not tell how far it is."""
        return replace(self, told=_nothing)

    def remember(self, key: Any, make: Callable[[], Any]) -> Any:
        """Return what ``make`` returned when this key was first asked for."""
        if key not in self._memory:
            self._memory[key] = make()
        return self._memory[key]

    def ending_in(self, graph: Graph) -> Session:
        """Return the session of the same model cut off at a graph's outputs; what was compiled is shared.

        A method checks and describes ``view.logits``, so it is asked about the part that is explained.
        """
        if graph.outputs == self.view.logits.outputs:
            return self
        view = copy.copy(self.view)
        view.logits = graph
        return replace(self, view=view)

    def run(
        self,
        key: Any,
        build: Callable[[], Callable[..., Any]],
        inputs: Sequence[np.ndarray],
        selection: Selection,
        extra: Sequence[np.ndarray] = (),
    ) -> Any:
        """Call a function of (inputs, codes, against, *extra) on one batch; ``extra`` has the batch's rows too.

        The function is built (and compiled) once per key; a batch smaller than one seen before is padded
        to it rather than compiled for anew. Returns NumPy arrays in the structure the function returns.
        """
        shapes = tuple(array.shape[1:] for array in (*inputs, *extra))
        name = (key, selection.key, selection.count, shapes)
        if name not in self._functions:
            fn = build()
            self._functions[name] = backend.compile(fn) if self.compile else fn
        rows = len(inputs[0])
        size = self._padded_size(name, rows)
        padded = [_writable(_pad_rows(array, size)) for array in inputs]
        more = [backend.from_numpy(_writable(_pad_rows(array, size))) for array in extra]
        codes, against = selection.rows(_padding_index(rows, size)).tensors
        with backend.inference(), exact(self.view.dtype):
            results = self._functions[name](self.view.to_tensors(padded), codes, against, *more)
        return keras.tree.map_structure(
            lambda tensor: None if tensor is None else backend.to_numpy(tensor)[:rows], results
        )

    def _padded_size(self, name: Any, rows: int) -> int:
        if backend.name == "torch" or (backend.name == "tensorflow" and not self.compile):
            return rows
        # Step by step JAX compiles every single operation, whatever function it is part of.
        known = self._sizes.setdefault(name if self.compile else name[-1], set())
        large_enough = [size for size in known if size >= rows]
        if not large_enough:
            known.add(rows)
            return rows
        return min(large_enough)

    def blocks(self, count: int, size: int | None = None) -> Iterator[slice]:
        """Cut ``count`` rows into slices of at most ``size`` rows, or ``batch_size``."""
        size = size or self.batch_size
        for start in range(0, count, size):
            yield slice(start, min(start + size, count))

    def pairs(self, draws: int, rows: int, size: int | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Walk over all pairs (draw, row) in pieces of at most ``size`` (`rows_at_once`), and tell how far it is.

        Yields:
            Which draw and which row each pair of a piece is; all rows of a draw before those of the next.
        """
        size, count = size or self.rows_at_once, draws * rows
        for start in range(0, count, size):
            flat = np.arange(start, min(start + size, count))
            yield flat // rows, flat % rows
            self.told(min(start + size, count) / count)

    def logits(self, inputs: Sequence[np.ndarray], selection: Selection) -> list[np.ndarray]:
        """Return the explained tensors for any number of rows, as NumPy arrays."""
        graph = selection.graph

        def build() -> Callable[..., Any]:
            return lambda xs, codes, against: list(graph(*xs))

        parts = [
            self.run(("logits",), build, [array[block] for array in inputs], _whatever(graph, block))
            for block in self.blocks(len(inputs[0]), max(self.batch_size, self.rows_at_once))
        ]
        return [np.concatenate(column) for column in zip(*parts, strict=True)]

    def gradients(
        self, inputs: Sequence[np.ndarray], selection: Selection
    ) -> tuple[Arrays, np.ndarray, list[np.ndarray]]:
        """Return the derivative of the explained number by the inputs, for one batch.

        Returns:
            Per input an array (B, T, *S), the explained numbers (B, T), and the explained tensors.

        Raises:
            IncompatibleMethodError: if an input takes whole numbers.
        """
        for spec in self.view.signature.specs:
            if not keras.backend.is_float_dtype(spec.dtype):
                raise IncompatibleMethodError(
                    f"Input {spec.name!r} takes whole numbers ({spec.dtype}): the output has no derivative "
                    "by them. Explain the part of the model after its embedding, or use occlusion."
                )

        def build() -> Callable[..., Any]:
            return lambda xs, codes, against: native_gradients(selection.graph, selection, xs, codes, against)

        grads, explained, logits = self.run(("gradient",), build, inputs, selection)
        return tuple(grads), explained, logits


def native_gradients(
    graph: Graph, selection: Selection, inputs: Sequence[Tensor], codes: Tensor, against: Tensor
) -> tuple[list[Tensor], Tensor, list[Tensor]]:
    """Differentiate the whole function by the backend's own rules, one pull per target."""
    logits, pull = backend.vjp(lambda *xs: graph(*xs), *inputs)
    seeds, explained = selection.seed(logits, codes, against)
    pulled = [pull(tuple(seed)) for seed in seeds]
    grads = [ops.stack([grad[i] for grad in pulled], axis=1) for i in range(len(inputs))]
    return grads, explained, list(logits)


def _whatever(graph: Graph, block: slice) -> Selection:
    """Return a selection with as many rows as the block, for functions that ignore it."""
    return Selection(graph, np.zeros((block.stop - block.start, 1), "int32"), "logits", "")


def _writable(array: np.ndarray) -> np.ndarray:
    """Return the array, copied where PyTorch would warn (not writable) or refuse (its strides)."""
    plain = array.flags.writeable and array.flags.c_contiguous
    return array if plain else np.array(array, order="C")


def _pad_rows(array: np.ndarray, size: int) -> np.ndarray:
    missing = size - len(array)
    return array if missing <= 0 else np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])


def _padding_index(rows: int, size: int) -> np.ndarray:
    return np.minimum(np.arange(size), rows - 1)
