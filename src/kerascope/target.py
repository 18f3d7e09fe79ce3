"""Targets: which number per sample is explained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from keras import ops

from kerascope import backend
from kerascope.errors import BadTargetError, counted, unknown_name
from kerascope.model.graph import Graph
from kerascope.model.primitives import Tensor
from kerascope.model.trace import exact
from kerascope.model.view import ModelView

_MEAN = np.iinfo(np.int32).min
"""Code of "the mean of the other classes"."""


@dataclass(frozen=True, eq=False)
class Selection:
    """A target resolved for given samples: which cells of the explained tensors count, and how.

    ``codes`` (N, T): the class or cell index, or -1 - r for the class of rank r. ``against`` (N, T): for
    contrasts the class subtracted, or a code for the mean of the others. ``fn``: a user's function of the
    logits instead; ``keys``: of the model's dict of outputs, where it returns one. ``graph`` ends in the explained
    tensors.
    """

    graph: Graph
    codes: np.ndarray
    kind: str
    text: str
    head: str | None = None
    against: np.ndarray | None = None
    fn: Callable[..., Any] | None = None
    squeeze: bool = True
    taken_off: str | None = None
    is_logit: bool = True
    keys: tuple[str, ...] | None = None

    def rows(self, index: Any) -> Selection:
        """Return the selection for some of the samples."""
        against = None if self.against is None else self.against[index]
        return replace(self, codes=self.codes[index], against=against)

    @property
    def count(self) -> int:
        """T, the number of targets per sample."""
        return int(self.codes.shape[1])

    @property
    def key(self) -> tuple[Any, ...]:
        """What a compiled function depends on besides shapes: never the classes themselves."""
        return (self.graph.outputs, self.kind, self._ranks, self.against is not None, id(self.fn) if self.fn else 0)

    @property
    def tensors(self) -> tuple[Tensor, Tensor]:
        """The codes as tensors, for `seed`."""
        against = self.codes if self.against is None else self.against
        return ops.convert_to_tensor(self.codes, "int32"), ops.convert_to_tensor(against, "int32")

    @property
    def _ranks(self) -> int:
        """How many of the top classes are made ready, at least one: then a named class needs no new compilation."""
        ranked = [codes for codes in (self.codes, self.against) if codes is not None]
        lowest = min((int(c[c != _MEAN].min(initial=0)) for c in ranked), default=0)
        return max(1, -lowest)

    def seed(self, logits: Sequence[Tensor], codes: Tensor, against: Tensor) -> tuple[list[list[Tensor]], Tensor]:
        """Return the derivative of the explained number by the explained tensors, and the number itself.

        Args:
            logits: the graph's outputs, each (N, *).
            codes: ``tensors[0]``.
            against: ``tensors[1]``.

        Returns:
            Per target a list of cotangents shaped like ``logits``, and the explained numbers (N, T).
        """
        if self.fn is not None:
            explained, pull = backend.vjp(lambda *z: self._call(z), *logits)
            return [list(pull(ops.ones_like(explained)))], explained[:, None]
        (tensor,) = logits
        flat = ops.reshape(tensor, (ops.shape(tensor)[0], -1))
        weights = self._weights(flat, codes, against)
        explained = ops.sum(weights * flat[:, None, :], axis=-1)
        seeds = [[ops.reshape(weights[:, t], ops.shape(tensor))] for t in range(self.count)]
        return seeds, explained

    def _weights(self, flat: Tensor, codes: Tensor, against: Tensor) -> Tensor:
        width = flat.shape[-1]
        ranking = _ranking(flat, min(self._ranks, width))
        weights = _one_hot(codes, ranking, width, flat.dtype)
        if self.against is None:
            return weights
        mean = (1 - weights) / max(width - 1, 1)
        chosen = _one_hot(ops.maximum(against, -width), ranking, width, flat.dtype)
        return weights - ops.where((against == _MEAN)[..., None], mean, chosen)

    def _call(self, logits: Sequence[Tensor]) -> Tensor:
        if self.fn is None:
            raise BadTargetError("This target is no function.")
        given = list(logits) if self.keys is None else dict(zip(self.keys, logits, strict=True))
        value = self.fn(logits[0] if isinstance(given, list) and len(logits) == 1 else given)
        count, shape = logits[0].shape[0], tuple(getattr(value, "shape", ()))
        if len(shape) != 1 or shape[0] != count:
            raise BadTargetError(
                "A target function must return one number per sample, shape (N,), from the logits alone (it is called "
                f"batch by batch); for {count} samples it returned shape {shape}."
            )
        return value

    def numbers_own(self, logits: Sequence[np.ndarray]) -> np.ndarray:
        """Return the explained numbers (N, T) of the samples themselves, from their logits (NumPy)."""
        if self.fn is not None:
            return self._function_values(logits)[:, None]
        settled = self.fixed(logits)
        flat = logits[0].reshape(len(logits[0]), -1)
        values = np.take_along_axis(flat, settled.codes, axis=1)
        if settled.against is None:
            return values
        others = (flat.sum(axis=1, keepdims=True) - values) / max(flat.shape[1] - 1, 1)
        chosen = np.take_along_axis(flat, np.maximum(settled.against, 0), axis=1)
        return values - np.where(settled.against == _MEAN, others, chosen)

    def _function_values(self, logits: Sequence[np.ndarray]) -> np.ndarray:
        with backend.inference(), exact(str(logits[0].dtype)):
            return backend.to_numpy(self._call([ops.convert_to_tensor(z) for z in logits]))

    def numbers(self, logits: Sequence[np.ndarray]) -> np.ndarray:
        """Return, for settled targets, the explained numbers (N, T, M) at M other inputs' logits."""
        if self.fn is not None:
            with backend.inference(), exact(str(logits[0].dtype)):
                found = backend.to_numpy(self._call([ops.convert_to_tensor(z) for z in logits]))
            return np.broadcast_to(found, (*self.codes.shape, len(found)))
        flat = logits[0].reshape(len(logits[0]), -1)
        values: np.ndarray = flat.T[self.codes]
        if self.against is None:
            return values
        others = (flat.sum(axis=1) - values) / max(flat.shape[1] - 1, 1)
        chosen = flat.T[np.maximum(self.against, 0)]
        contrast: np.ndarray = values - np.where((self.against == _MEAN)[..., None], others, chosen)
        return contrast

    def fixed(self, logits: Sequence[Tensor]) -> Selection:
        """Return the selection with classes asked for by rank settled on these (clean) logits."""
        if self.fn is not None:
            return self
        flat = np.asarray(logits[0]).reshape(len(self.codes), -1)
        order = np.argsort(-flat, axis=1, kind="stable")

        def settle(codes: np.ndarray) -> np.ndarray:
            ranks = np.clip(-1 - codes.astype("int64"), 0, flat.shape[1] - 1)
            named = np.take_along_axis(order, ranks, axis=1)
            return np.where((codes < 0) & (codes != _MEAN), named, codes).astype("int32")

        against = None if self.against is None else settle(self.against)
        return replace(self, codes=settle(self.codes), against=against)


def _ranking(flat: Tensor, count: int) -> Tensor:
    """Return the cells with the largest values (N, count); of equal ones the first, on every backend."""
    if count == 1:
        return ops.cast(ops.argmax(flat, axis=1), "int32")[:, None]
    return ops.cast(ops.argsort(-flat, axis=1), "int32")[:, :count]


def _one_hot(codes: Tensor, ranking: Tensor, width: int, dtype: Any) -> Tensor:
    ranks = ops.clip(-1 - codes, 0, int(ranking.shape[1]) - 1)
    codes = ops.where(codes < 0, ops.take_along_axis(ranking, ranks, axis=1), codes)
    return ops.one_hot(codes, width, dtype=dtype)


class Target(ABC):
    """Which number per sample is explained."""

    @abstractmethod
    def select(self, view: ModelView, count: int) -> Selection:
        """Resolve the target for ``count`` samples of a model.

        Raises:
            BadTargetError: if the model has no such output.
        """


@dataclass(frozen=True)
class Class(Target):
    """The logit of one class, or of several (an axis T is added).

    Args:
        index: a class, one per sample (N,), or several per sample (N, T).
        output: the head's name or number, where a model has several.
    """

    index: Any
    output: str | int | None = None

    def select(self, view: ModelView, count: int) -> Selection:
        """See `Target.select`."""
        head, width = _classes(view, self.output)
        codes, squeeze = _class_codes(self.index, count, width)
        return _of_head(view, head, codes, "class", _text(codes), squeeze=squeeze)


@dataclass(frozen=True)
class TopClass(Target):
    """The logits of the k classes with the largest logits, in that order.

    Args:
        k: how many; with more than one an axis T is added.
        output: the head's name or number, where a model has several.
    """

    k: int = 1
    output: str | int | None = None

    def select(self, view: ModelView, count: int) -> Selection:
        """See `Target.select`."""
        head, width = _classes(view, self.output)
        if not _is_whole(self.k) or not 1 <= self.k <= width:
            raise BadTargetError(
                f"TopClass(k={self.k!r}): the output has {counted(width, 'unit')}, so k must be 1 to {width}."
            )
        codes = np.tile(-1 - np.arange(self.k, dtype="int32"), (count, 1))
        text = "top class of each sample" if self.k == 1 else f"top {self.k} classes of each sample"
        if width == 1:
            codes, text = np.zeros_like(codes), "the one output unit"
        return _of_head(view, head, codes, "class", text, squeeze=self.k == 1)


@dataclass(frozen=True)
class Contrast(Target):
    """How much more one class is favoured than another: f_a - f_b.

    Args:
        a: a class or one per sample; None: the top class.
        b: a class or one per sample; None: the mean of all others.
        output: the head's name or number, where a model has several.
    """

    a: Any = None
    b: Any = None
    output: str | int | None = None

    def select(self, view: ModelView, count: int) -> Selection:
        """See `Target.select`."""
        head, width = _classes(view, self.output)
        if width < 2:
            raise BadTargetError("A contrast needs an output with at least two classes; this one has a single unit.")
        top = np.full((count, 1), -1, "int32")
        mean = np.full((count, 1), _MEAN, "int32")
        first, lone = (top, True) if self.a is None else _class_codes(self.a, count, width)
        second, also_lone = (mean, True) if self.b is None else _class_codes(self.b, count, width)
        name_a = "top class" if self.a is None else _text(first)
        name_b = "mean of the other classes" if self.b is None else _text(second)
        first, second = _same_shape(first, second)
        if np.any(first == second):
            same = first[first == second][0]
            raise BadTargetError(f"A contrast of class {same} with itself is zero: give two different classes.")
        text = f"{name_a} minus {name_b}"
        selection = _of_head(view, head, first, "contrast", text, squeeze=lone and also_lone)
        return replace(selection, against=second)


@dataclass(frozen=True)
class Neuron(Target):
    """The value of one unit inside the network, as Keras returns it.

    Args:
        layer: the layer's name.
        index: the unit's place in the layer's output without the batch axis, e.g. ``(3, 4, 0)``.
    """

    layer: str
    index: Any

    def select(self, view: ModelView, count: int) -> Selection:
        """See `Target.select`."""
        graph = view.at_layer(self.layer)
        shape = graph.shapes[graph.outputs[0]][1:]
        code = _cell(self.index, shape, f"layer {self.layer!r}")
        codes = np.full((count, 1), code, "int32")
        return Selection(graph, codes, "neuron", f"unit {self.index} of layer {self.layer}", is_logit=False)


@dataclass(frozen=True)
class Output(Target):
    """One cell of an output map (or one unit of a head), before a final softmax or sigmoid.

    Args:
        index: the cell's place in the output without the batch axis.
        output: the head's name or number, where a model has several.
    """

    index: Any
    output: str | int | None = None

    def select(self, view: ModelView, count: int) -> Selection:
        """See `Target.select`."""
        head = view.head(self.output)
        code = _cell(self.index, head.shape[1:], f"output {head.name!r}")
        codes = np.full((count, 1), code, "int32")
        return _of_head(view, head, codes, "output", f"cell {self.index} of output {head.name}", squeeze=True)


@dataclass(frozen=True)
class Function(Target):
    """A user's function of the logits, ``fn(logits) -> (N,)``; with several heads it gets their list, or their dict."""

    fn: Callable[..., Any]

    def select(self, view: ModelView, count: int) -> Selection:
        """See `Target.select`."""
        name = getattr(self.fn, "__name__", type(self.fn).__name__)
        taken = {head.taken_off for head in view.heads}
        return Selection(
            view.logits,
            np.zeros((count, 1), "int32"),
            "callable",
            f"function {name} of the logits",
            fn=self.fn,
            taken_off=taken.pop() if len(taken) == 1 else None,
            keys=tuple(head.name for head in view.heads) if view.keyed and len(view.heads) > 1 else None,
        )


def as_target(target: Any, names: Any = None) -> Target:
    """Return a target object for what a user may give: None, int, name, array of them, "all", object or function.

    Args:
        target: what was given.
        names: the class names, where they were given: they may stand for the classes' numbers.
    """
    listed = isinstance(names, Iterable) and not isinstance(names, str)  # else they are refused later on
    known = [str(name) for name in names] if listed else []
    if known and isinstance(target, Class):
        return replace(target, index=_numbered(target.index, known))
    if known and isinstance(target, Contrast):
        return replace(target, a=_numbered(target.a, known), b=_numbered(target.b, known))
    if isinstance(target, Target):
        return target
    if target is None:
        return TopClass()
    if isinstance(target, str) and not known and target != "all":
        raise BadTargetError(
            f"Target {target!r} is not understood. Give a class index, an array of them, 'all', or an object such "
            "as ks.TopClass(k), ks.Contrast(a, b), ks.Neuron(layer, index), ks.Output(index); names of classes with "
            "class_names=."
        )
    if isinstance(target, type) and issubclass(target, Target):
        raise BadTargetError(f"Give a target object, not its class: {target.__name__}(…).")
    if callable(target):
        return Function(target)
    return Class(_numbered(target, known))


def _numbered(classes: Any, names: list[str]) -> Any:
    """Return classes with the numbers of those that are given by name; without names, as they are."""
    if isinstance(classes, str) and names:
        if classes not in names and classes != "all":
            raise BadTargetError(str(unknown_name("class", classes, names)))
        if names.count(classes) > 1:
            raise BadTargetError(f"{names.count(classes)} classes are called {classes!r}: give the number of one.")
        return names.index(classes) if classes in names else classes
    words = names and not isinstance(classes, str) and np.ndim(classes) > 0 and np.asarray(classes).dtype.kind in "UO"
    return np.array([_numbered(name, names) for name in classes]) if words else classes


def _of_head(view: ModelView, head: Any, codes: np.ndarray, kind: str, text: str, *, squeeze: bool) -> Selection:
    graph = view.graph.restrict((head.logits,))
    return Selection(graph, codes, kind, text, head.name, squeeze=squeeze, taken_off=head.taken_off)


def _classes(view: ModelView, output: str | int | None) -> tuple[Any, int]:
    head = view.head(output)
    sizes = head.shape[1:]
    if len(sizes) > 1 or None in sizes:
        raise BadTargetError(
            f"Output {head.name!r} is a map of shape {sizes}, not a list of classes. "
            "Name a cell, e.g. target=ks.Output((row, column, class)), or give a function of the logits."
        )
    return head, int(sizes[0] or 1) if sizes else 1


def _class_codes(index: Any, count: int, width: int) -> tuple[np.ndarray, bool]:
    """Return class indices as (N, T) and whether the axis T is to be left out of the result."""
    if isinstance(index, str) and index == "all":
        return np.tile(np.arange(width, dtype="int32"), (count, 1)), False
    array = np.asarray(index)
    if array.dtype.kind not in "iu":
        raise BadTargetError(
            f"A class must be a whole number (or an array of them, shape (N,) or (N, T)); got {index!r}."
        )
    if array.ndim > 2 or (array.ndim >= 1 and len(array) != count):
        raise BadTargetError(
            f"Targets of shape {array.shape} do not fit {count} samples: expected one class, ({count},) or "
            f"({count}, T)."
        )
    if array.size and (array.min() < 0 or array.max() >= width):
        bad = array[(array < 0) | (array >= width)].ravel()[0]
        raise BadTargetError(f"Class {bad} is out of range: the output has {width} classes, 0 to {width - 1}.")
    if array.size == 0:
        raise BadTargetError("The list of targets is empty.")
    columns = array if array.ndim == 2 else array.reshape(-1, 1)
    return np.broadcast_to(columns, (count, columns.shape[1])).astype("int32"), array.ndim < 2


def _same_shape(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give both sides of a contrast the same number of targets T."""
    if first.shape[1] != second.shape[1] and 1 not in (first.shape[1], second.shape[1]):
        raise BadTargetError(
            f"The two sides of a contrast name {first.shape[1]} and {second.shape[1]} classes per sample: give as many "
            "on both, or one on one of them."
        )
    first, second = np.broadcast_arrays(first, second)
    return first, second


def _is_whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _cell(index: Any, shape: tuple[Any, ...], what: str) -> int:
    place = tuple(index) if isinstance(index, (tuple, list, np.ndarray)) else (index,)
    if len(place) != len(shape) or None in shape or not all(map(_is_whole, place)):
        raise BadTargetError(
            f"{what} returns shape {shape} for one sample; index {index!r} does not name one cell of it."
        )
    if any(not 0 <= i < size for i, size in zip(place, shape, strict=True)):
        raise BadTargetError(f"Index {index!r} is out of range: {what} returns shape {shape} for one sample.")
    return int(np.ravel_multi_index(place, shape)) if shape else 0


def _text(codes: np.ndarray) -> str:
    classes = np.unique(codes)
    if len(classes) == 1:
        return f"class {classes[0]}"
    if codes.shape[1] == len(classes):
        return f"the same {len(classes)} classes of each sample"
    return f"given classes ({len(classes)} different ones)"
