"""What is wrong or peculiar in iNNvestigate's numbers: said by the rules that stand and the layers that are there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import keras
import numpy as np

from kerascope import backend
from kerascope.errors import IncompatibleMethodError, counted
from kerascope.innvestigate import rules
from kerascope.lrp.composites import Composite, first_layer, first_layers
from kerascope.lrp.rules import Rule
from kerascope.model.graph import Graph, Node
from kerascope.model.primitives import Activation, Affine, Mixture, Product

WHOLE_BIAS = "alpha-beta holds the whole bias in its denominators, and where that nearly cancels relevance explodes"
ZEROS = "an exact zero in a denominator becomes 1e-7, which gives values of 1e7"
NOTHING = "an exact zero in a denominator becomes 1e-7: relevance of a neuron to which nothing contributes is lost"
UNCHECKED = "inputs outside low and high are taken"
FIRST = "the first layer takes alpha1-beta0 and not w^2"
SPELLED = (
    "a ReLU(), LeakyReLU() or other activation layer multiplies relevance by its derivative, a fused activation passes "
    "it on: two answers for one function"
)
Z_RULE = "sums and average poolings take the z rule, whatever rule is asked for"
COPIED = "a sum is differentiated, so it copies relevance to each branch and the map adds up to more than the logit"
EVEN = "an average is differentiated, so it shares relevance evenly, whatever the cells hold"
FACTOR = "a product is differentiated, so relevance is multiplied by the other factor"
SCALED = "BatchNormalization is differentiated, so relevance is multiplied by gamma / sqrt(variance + epsilon)"
ANOTHER_MAP = (
    "iNNvestigate takes a BatchNormalization for another map (its variance squared, gamma missing in the offset), and "
    "its presets about double relevance there: these numbers repeat 2.1.2 and say nothing about the model. "
    "conventions='kerascope' folds it exactly."
)


def of_rule(rule: Rule, *, biased: bool = True) -> tuple[str, ...]:
    """Return what to know of a rule at a kernel; ``biased``: whether the layer has a bias."""
    if isinstance(rule, rules.WholeBiasAlphaBeta):
        return (WHOLE_BIAS, ZEROS) if rule.bias and biased else (NOTHING,)
    if isinstance(rule, rules.FastZPlus) or (isinstance(rule, rules.Z) and not rule.epsilon):
        return (ZEROS,)
    return (UNCHECKED,) if isinstance(rule, rules.Box) else ()


def caveats(
    graph: Graph, chosen: Mapping[str, Rule], composite: Composite, normalization: Rule | None, *, taylor: bool
) -> tuple[str, ...]:
    """Return what to know of the numbers for one network.

    Args:
        graph: the network as it is written.
        chosen: the rules of its kernel layers, by name.
        composite: where these come from.
        normalization: the rule of BatchNormalization layers under LRP.
        taylor: deep Taylor.
    """
    found: dict[str, list[str]] = {}
    filled = _filled(graph, chosen, normalization, taylor=taylor)
    for node in graph:
        if node.name in chosen:
            texts = of_rule(chosen[node.name], biased=_has_bias(node))
        else:
            texts = tuple(_of_other(node, chosen, filled, taylor=taylor))
        for text in texts:
            found.setdefault(text, []).append(node.name)
    said = [*_of_first(graph, chosen, composite, taylor=taylor), *(f"{text} ({_at(at)})" for text, at in found.items())]
    another = not taylor and any(map(is_normalization, graph))
    whole = f"As in iNNvestigate 2.1.2: {'; '.join(said)}. conventions='kerascope' does without."
    return (*([whole] if said else []), *([ANOTHER_MAP] if another else []))


def _of_other(node: Node, chosen: Mapping[str, Rule], filled: set[int], *, taylor: bool) -> Iterator[str]:
    op = node.op
    if isinstance(op, Activation) and rules.is_own_layer(node) and not (op.is_relu and filled.isdisjoint(node.outputs)):
        yield SPELLED
    elif isinstance(op, Mixture) and taylor:
        yield EVEN if "Average" in op.label or op.label == "Mean" else COPIED
    elif isinstance(op, Mixture) and any(rule != rules.Z() for rule in chosen.values()):
        yield Z_RULE
    elif isinstance(op, Product):
        yield FACTOR
    elif taylor and is_normalization(node):
        yield SCALED


def _of_first(graph: Graph, chosen: Mapping[str, Rule], composite: Composite, *, taylor: bool) -> Iterator[str]:
    """Say where the rule of the input layer does not stand, or that deep Taylor has none."""
    if all(selector is not first_layer for selector, _ in composite.rules):
        first = [name for name in chosen if name in first_layers(graph)]
        if taylor and first:
            yield f"{FIRST} ({_at(first)})"
        return
    reached = rules.first_kernels(graph)
    missed = [name for name in chosen if name in first_layers(graph) - reached]
    if missed or not reached:
        where = _at(missed) if missed else "anywhere"
        yield f"the rule of the input layer is not applied {where}: it sees through Flatten, Permute and Reshape only"


def _filled(graph: Graph, chosen: Mapping[str, Rule], normalization: Rule | None, *, taylor: bool) -> set[int]:
    """Return the tensors of which cells that are zero may get relevance."""
    found: set[int] = set()
    for node in reversed(tuple(graph)):
        if isinstance(node.op, Affine):
            rule = chosen.get(node.name, normalization)
            fills = isinstance(rule, (rules.Weights, rules.Box)) or (taylor and node.name not in chosen)
        else:
            fills = taylor if isinstance(node.op, Mixture) else not found.isdisjoint(node.outputs)
        found.update(node.inputs if fills else ())
    return found


def is_normalization(node: Node) -> bool:
    """Whether a node is a BatchNormalization."""
    return issubclass(node.source, keras.layers.BatchNormalization)


def require_relu(graph: Graph) -> None:
    """Refuse what 2.1.2 refuses for deep Taylor and the presets: activations other than ReLU.

    Raises:
        IncompatibleMethodError: naming the layer and its activation.
    """
    for node in graph:
        op = node.op
        if isinstance(op, Activation) and not op.is_relu and node.source is not keras.layers.ReLU:
            raise IncompatibleMethodError(
                f"{node.name!r} is {op.name}: iNNvestigate 2.1.2 refuses deep_taylor and the presets on networks with "
                "other activations than ReLU, and there are no numbers to repeat. Use another lrp analyzer "
                "(lrp.epsilon), or conventions='kerascope' with a preset."
            )


def _has_bias(node: Node) -> bool:
    bias = node.op.bias if isinstance(node.op, Affine) else None
    return bias is not None and bool(np.any(backend.to_numpy(bias)))


def _at(names: Sequence[str]) -> str:
    return f"at {names[0]!r}" + (f" and {counted(len(names) - 1, 'more layer')}" if len(names) > 1 else "")
