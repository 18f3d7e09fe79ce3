"""The contracts of LRP rules."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from keras import ops

from kerascope import backend
from kerascope.errors import BadInputError
from kerascope.explain import open_session
from kerascope.lrp import rules
from kerascope.lrp.engine import affine_handler
from kerascope.lrp.rules import Branch, Rule, Site
from kerascope.model.primitives import Affine
from kerascope.model.trace import exact
from kerascope.testing.bench import ContractError

_TOLERANCE = {"float64": 1e-9, "float32": 1e-4}
_LOW, _HIGH = -3.0, 3.0


def check_rule(rule: Rule) -> tuple[str, ...]:
    """Check that a rule keeps the contracts of layer-wise relevance propagation.

    On dense and convolution layers, with and without bias, it returns branches whose weights add to 1 for
    positive and for negative outputs; what inputs get and what is counted as absorbed sum to what arrived; the
    relevance is finite, also for outputs that are exactly zero, linear in what arrives, and the same for a
    sample alone and in a batch; known signs of the input only save work; the layer's weights stay as they
    are; and the rule can be made again from its repr.

    Args:
        rule: a rule object. A class of your own needs no registration.

    Returns:
        The names of the contracts that were checked.

    Raises:
        ContractError: naming the contract that is broken.

    Example:
        >>> from kerascope import rules
        >>> "conservation" in check_rule(rules.Epsilon(0.1))
        True
    """
    if not isinstance(rule, Rule):
        raise BadInputError(f"check_rule takes a rule object such as ks.rules.Epsilon(); got {rule!r}.")
    checked: list[str] = []
    _RuleCheck(rule, checked).round_trip()
    for name, op, shape in _layers(keras.config.floatx()):
        _RuleCheck(rule, checked).on_layer(name, op, shape)
    return tuple(dict.fromkeys(checked))


@functools.lru_cache(maxsize=4)
def _traced(floatx: str) -> tuple[tuple[str, Affine, tuple[int, ...]], ...]:
    layers, found = keras.layers, []
    chosen = {
        "Dense": ((5,), layers.Dense(4, name="dense", dtype=floatx)),
        "Dense that keeps the shape": ((5,), layers.Dense(5, name="dense", dtype=floatx)),
        "Dense without bias": ((5,), layers.Dense(4, use_bias=False, name="dense", dtype=floatx)),
        "Conv2D": (
            (4, 5, 2),
            layers.Conv2D(3, 2, padding="same", data_format="channels_last", name="conv", dtype=floatx),
        ),
    }
    rng = np.random.default_rng(0)
    for name, (shape, layer) in chosen.items():
        model = keras.Sequential([layers.Input(shape, dtype=floatx), layer])
        model.set_weights([rng.normal(size=w.shape) for w in model.weights])
        (node,) = open_session(model).view.logits
        if isinstance(node.op, Affine):
            found.append((name, node.op, shape))
    return tuple(found)


def _layers(floatx: str) -> Iterator[tuple[str, Affine, tuple[int, ...]]]:
    """Yield layers of which each has a copy of its weights, in case a rule writes into them."""
    for name, op, shape in _traced(floatx):
        bias = None if op.bias is None else ops.copy(op.bias)
        yield name, replace(op, kernel=ops.copy(op.kernel), bias=bias), shape


@dataclass
class _RuleCheck:
    """One rule on one layer."""

    rule: Rule
    checked: list[str]
    layer: str = ""

    def require(self, holds: bool, contract: str, text: str) -> None:
        self.checked.append(contract)
        if not holds:
            place = f" on {self.layer}" if self.layer else ""
            raise ContractError(contract, f"{type(self.rule).__name__}{place}: {text}")

    def round_trip(self) -> None:
        names = {**vars(rules), type(self.rule).__name__: type(self.rule), "inf": np.inf, "array": np.array}
        try:
            again = eval(repr(self.rule), dict(names))
        except Exception as error:
            text = f"its repr {self.rule!r} cannot be evaluated ({error}). Let the dataclass decorator make it."
            raise ContractError("round trip", f"{type(self.rule).__name__}: {text}") from error
        self.require(
            repr(again) == repr(self.rule), "round trip", f"its repr gives {again!r}, not {self.rule!r} again."
        )

    def on_layer(self, name: str, op: Affine, shape: tuple[int, ...]) -> None:
        self.layer = name
        dtype = str(backend.to_numpy(op.kernel).dtype)
        with exact(dtype), backend.inference():
            x = _draw(shape, dtype, 3)
            passes = not self._branches(op, x)
            if passes and backend.to_numpy(op(ops.convert_to_tensor(x))).shape != x.shape:
                return  # relevance passes, which only layers that keep the shape can do
            before = _weights(op)
            self._numbers(op, x, dtype)
            same = all(np.array_equal(a, b) for a, b in zip(before, _weights(op), strict=True))
            self.require(same, "nothing changed", "the layer's weights have changed. Work on copies.")

    def _branches(self, op: Affine, x: np.ndarray) -> tuple[Branch, ...]:
        found = self.rule.branches(_site(op, x, known=False))
        fits = isinstance(found, tuple) and all(isinstance(branch, Branch) for branch in found)
        self.require(fits, "branches", f"branches must return a tuple of Branch; it returned {found!r:.120}.")
        for sign, side in ((1, "positive"), (-1, "negative")):
            weight = sum(branch.weight for branch in found if branch.where in (0, sign))
            text = f"the weights of the branches for {side} outputs add to {weight:g}; they must add to 1."
            self.require(not found or abs(weight - 1) < 1e-6, "weights", text)
        return found

    def _numbers(self, op: Affine, x: np.ndarray, dtype: str) -> None:
        z = backend.to_numpy(op(ops.convert_to_tensor(x)))
        first, second = _draw(z.shape[1:], dtype, 3, seed=1), _draw(z.shape[1:], dtype, 3, seed=2)
        share, absorbed = self._share(op, x, first)
        tolerance = _TOLERANCE[dtype]
        self.require(
            share.shape == x.shape, "shape", f"inputs of shape {x.shape} get relevance of shape {share.shape}."
        )
        self.require(bool(np.isfinite(share).all()), "finite", "relevance holds NaN or infinity.")
        nothing, lost = self._share(op, np.zeros_like(x), first)
        text = "relevance of an input that is zero everywhere holds NaN or infinity."
        self.require(bool(np.isfinite(nothing).all() and np.isfinite(lost).all()), "finite", text)
        scale = max(1.0, float(np.abs(share).sum()), float(np.abs(absorbed).max()))
        kept = share.reshape(3, -1).sum(axis=1) + absorbed - first.reshape(3, -1).sum(axis=1)
        text = f"what inputs get and what is absorbed miss what arrived by {np.abs(kept).max():.3g}."
        self.require(bool(np.all(np.abs(kept) <= tolerance * scale)), "conservation", text)
        again, _ = self._share(op, x, first)
        text = "the same layer and relevance give other values the second time."
        self.require(_close(again, share, tolerance * scale), "repeatable", text)
        both, _ = self._share(op, x, 2 * first + second)
        text = "the relevance of inputs is not linear in what arrives."
        other, _ = self._share(op, x, second)
        self.require(_close(both, 2 * share + other, 10 * tolerance * scale), "linear", text)
        alone = np.concatenate([self._share(op, x[i : i + 1], first[i : i + 1])[0] for i in range(3)])
        text = "a sample alone gets other relevance than in a batch."
        self.require(_close(alone, share, tolerance * scale), "single samples", text)
        positive = np.abs(x)
        plain, _ = self._share(op, positive, first)
        known, _ = self._share(op, positive, first, known=True)
        text = "for an input without negative cells, site.non_negative changes the result; it may only save work."
        self.require(_close(plain, known, 10 * tolerance * scale), "known signs", text)

    def _share(
        self, op: Affine, x: np.ndarray, relevance: np.ndarray, *, known: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        handler = affine_handler(self.rule.branches(_site(op, x, known=known)))
        _, backward = handler(op, ops.convert_to_tensor(x))
        (share,), absorbed = backward((ops.convert_to_tensor(relevance),))
        lost = np.zeros(len(x)) if absorbed is None else backend.to_numpy(absorbed)
        return backend.to_numpy(share), lost


def _site(op: Affine, x: np.ndarray, *, known: bool) -> Site:
    shape = (1, *x.shape[1:])
    low, high = (ops.convert_to_tensor(np.full(shape, bound, x.dtype)) for bound in (_LOW, _HIGH))
    return Site(op, known, low, high, "checked")


def _draw(shape: tuple[int, ...], dtype: str, count: int, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(count, *shape))
    return np.clip(drawn, _LOW, _HIGH).astype(dtype)


def _weights(op: Affine) -> list[np.ndarray]:
    return [np.array(backend.to_numpy(w)) for w in (op.kernel, op.bias) if w is not None]


def _close(some: Any, others: Any, allowed: float) -> bool:
    return some.shape == others.shape and bool(np.all(np.abs(some - others) <= allowed))
