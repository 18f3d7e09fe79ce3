"""Which rule stands where, as iNNvestigate is told: by conditions on Keras layers, by numbers, in lists."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from kerascope.errors import BadInputError, UnsupportedLayerError, counted
from kerascope.lrp.composites import Selector, first_layer, kernels
from kerascope.lrp.rules import Rule
from kerascope.model.graph import Node

Condition = Callable[[keras.layers.Layer], bool]
_CALL = re.compile(r":\d+$")


@dataclass(frozen=True, repr=False)
class Where:
    """Selects, in a composite, the kernel layers whose Keras layer meets a condition; ``said``: which, in words."""

    model: keras.Model
    holds: Condition = field(compare=False)
    said: str

    def __call__(self, node: Node) -> bool:
        """Return whether a node is one of them."""
        return kernels(node) and bool(self.holds(layer_of(self.model, node)))

    def __repr__(self) -> str:
        """Return what is selected."""
        return self.said


def layer_of(model: keras.Model, node: Node) -> keras.layers.Layer:
    """Return the Keras layer that a node was made from.

    Raises:
        UnsupportedLayerError: if the model has no layer of that name, or several.
    """
    name = _CALL.sub("", node.name.split("/")[0])
    named = [layer for layer in flat_layers(model) if layer.name == name]
    if len(named) != 1:
        raise UnsupportedLayerError(
            f"{node.name!r} ({node.op.label}): the model has {counted(len(named), 'layer')} named {name!r}, so a rule "
            "by number or condition does not find it. Give every layer a name of its own, or one rule to all layers."
        )
    return named[0]


def flat_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Return the layers in the order of ``model.layers``, each followed by those inside it."""
    found = [layer for outer in model.layers for layer in _with_inner(outer)]
    return list({id(layer): layer for layer in found}.values())


def _with_inner(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    yield layer
    for inner in layer._flatten_layers(include_self=False, recursive=False):
        yield from _with_inner(inner)


def until(model: keras.Model, number: Any) -> Where:
    """Select the kernel layers among ``model.layers[0]`` to ``model.layers[number]``.

    Raises:
        BadInputError: if there is no layer of that number.
    """
    last = len(model.layers) - 1
    if isinstance(number, bool) or not isinstance(number, (int, np.integer)) or not 0 <= number <= last:
        raise BadInputError(
            f"until_layer_idx must be the number of a layer in model.layers, 0 to {last}, layers without weights "
            f"counted; got {number!r}."
        )
    chosen = {id(layer) for outer in model.layers[: number + 1] for layer in _with_inner(outer)}
    return Where(model, lambda layer: id(layer) in chosen, f"model.layers[:{number + 1}]")


def by_condition(model: keras.Model, condition: Any) -> Selector:
    """Return the selector for a condition of iNNvestigate, a function of the Keras layer, or for one of ours.

    Raises:
        BadInputError: if it is neither.
    """
    if condition is first_layer or isinstance(condition, (str, type)):
        return condition
    if not callable(condition):
        raise BadInputError(
            "A condition in rule=[(condition, rule), …] is a function of the Keras layer that returns True or False, a "
            f"layer class, or a glob over layer names; got {condition!r}."
        )
    return Where(model, condition, getattr(condition, "__name__", repr(condition)))


def by_number(model: keras.Model, rules: Sequence[Rule], *, exact: bool) -> list[tuple[Selector, Rule]]:
    """Return where the rules of a list stand: its last one at the first kernel layer, and so on, as there.

    Args:
        model: its layers are counted in the order of ``model.layers``.
        rules: as many as there are kernel layers.
        exact: refuse more rules than layers.

    Raises:
        BadInputError: if there are too few (or too many) rules.
    """
    having = ("kernel", "depthwise_kernel", "pointwise_kernel")
    layers = [layer for layer in flat_layers(model) if any(hasattr(layer, name) for name in having)]
    if len(rules) < len(layers) or (exact and len(rules) > len(layers)):
        raise BadInputError(
            f"rule= lists {counted(len(rules), 'rule')}, and the model has {counted(len(layers), 'layer')} with a "
            f"kernel ({', '.join(layer.name for layer in layers)}): give one for each, the last one for the first "
            "layer, or one name for all of them."
        )
    placed = zip(layers, reversed(rules), strict=False)
    return [(Where(model, lambda layer, own=own: layer is own, own.name), rule) for own, rule in placed]  # type: ignore[misc]
