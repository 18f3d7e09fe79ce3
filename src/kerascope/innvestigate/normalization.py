"""BatchNormalization under LRP as in iNNvestigate 2.1.2: relevance goes through another map than the layer's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import keras
import numpy as np

from kerascope import backend
from kerascope.errors import UnsupportedLayerError
from kerascope.lrp import engine
from kerascope.lrp.rules import Rule, Site
from kerascope.model.graph import Node
from kerascope.model.primitives import Affine, Tensor
from kerascope.model.propagate import Backward, Handler


@dataclass(frozen=True)
class Normalized:
    """How LRP goes through the BatchNormalization layers of a model.

    ``rule``: None fails in 2.1.2, and is refused. ``twice``: the map is taken apart into two, and the rule applied to
    each (``bn_layer_fuse_mode="two_linear"``).
    """

    layers: tuple[keras.layers.BatchNormalization, ...]
    rule: Rule | None
    twice: bool = False

    def handler(self, node: Node) -> tuple[Handler, str]:
        """Return the handler of a BatchNormalization: its own values forward, relevance through another map."""
        if self.rule is None:
            raise UnsupportedLayerError(
                f"Layer {node.name!r} (BatchNormalization): iNNvestigate 2.1.2 fails there unless it is told a rule. "
                "Give bn_layer_rule=, for instance 'Z', or take 'lrp.z'."
            )
        rule, run = self.rule, []
        for op in surrogates(node, self._layer(node), self.twice):
            run.append((op, engine.affine_handler(rule.branches(Site(op, False, name=node.name)))))

        def handle(op: Affine, x: Tensor) -> tuple[Tensor, Backward]:
            current, pulls = x, []
            for surrogate, through in run:
                current, pull = through(surrogate, current)
                pulls.append(pull)

            def backward(arriving: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], None]:
                for pull in reversed(pulls):
                    arriving, _ = pull(arriving)
                return arriving, None

            return op(x), backward

        return handle, f"{rule} on another map"

    def _layer(self, node: Node) -> keras.layers.BatchNormalization:
        named = [layer for layer in self.layers if layer.name == node.name.split(":")[0]]
        if len(named) != 1:
            raise UnsupportedLayerError(
                f"Layer {node.name!r} (BatchNormalization): the model has {len(named)} layers of that name, and its "
                "variance cannot be looked up. Give every layer a name of its own, or use conventions='kerascope'."
            )
        return named[0]


def surrogates(node: Node, layer: keras.layers.BatchNormalization, twice: bool) -> tuple[Affine, ...]:
    """Return what 2.1.2 takes a BatchNormalization for: ``gamma x / s - mean / s + beta``, ``s = sqrt(var^2 + eps)``.

    The variance is squared, and gamma missing in the offset. ``twice``: ``(x - mean) / s``, then ``gamma x + beta``.

    Raises:
        UnsupportedLayerError: where the normalised axis is not the last: 2.1.2 scales the last.
    """
    op = cast("Affine", node.op)
    rank, dtype = len(op.kernel.shape), backend.to_numpy(op.kernel).dtype
    axis = layer.axis[0] if isinstance(layer.axis, (list, tuple)) else layer.axis
    if axis not in (-1, rank - 1):
        raise UnsupportedLayerError(
            f"Layer {node.name!r} (BatchNormalization) works along axis {axis}: iNNvestigate knows the last axis only. "
            "Use conventions='kerascope'."
        )

    def array(weight: Any, otherwise: float) -> np.ndarray:
        values = otherwise if weight is None else backend.to_numpy(backend.snapshot(weight))
        return np.broadcast_to(values, op.kernel.shape).astype(dtype)

    mean, variance = array(layer.moving_mean, 0), array(layer.moving_variance, 1)
    gamma, beta = array(layer.gamma, 1), array(layer.beta, 0)
    width = np.sqrt(variance**2 + layer.epsilon)
    maps = [(1 / width, -mean / width), (gamma, beta)] if twice else [(gamma / width, beta - mean / width)]
    return tuple(replace(op, kernel=backend.from_numpy(kernel), bias=backend.from_numpy(bias)) for kernel, bias in maps)
