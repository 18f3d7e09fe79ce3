"""Masked attention, written out: fused kernels lose the derivative of a query that may look at nothing.

PyTorch's fused attention adds a large negative number where a mask hides something. In a row that is hidden wholly
(padding that pads itself) the scores vanish in that number, but not in the derivative: it is off by its own size.
Here hidden scores are replaced, so that derivative and value belong together. JAX and TensorFlow do that themselves.
"""

from __future__ import annotations

import inspect
from typing import Any

from keras import ops

from kerascope import backend
from kerascope.model.call import Call
from kerascope.model.layers import Chain, opaque
from kerascope.model.primitives import Opaque, Tensor

_HIDDEN = -1e30


def attention(call: Call) -> Chain:
    """Return a call of ``keras.ops.dot_product_attention``: written out where PyTorch would fuse it with a mask."""
    if backend.name != "torch":
        return opaque(call)
    given = inspect.signature(call.op.call).bind(*call.record.args, **call.record.kwargs).arguments
    if given.get("mask") is None or getattr(call.op, "attn_logits_soft_cap", None) is not None:
        return opaque(call)
    causal = bool(call.op.is_causal)

    def run(*args: Any, **kwargs: Any) -> Tensor:
        return _masked(*args, **kwargs, causal=causal)

    return (Opaque(label=call.label, fn=call.replay(run)),)


def _masked(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: None = None,
    mask: Tensor | None = None,
    scale: float | None = None,
    *,
    causal: bool,
) -> Tensor:
    """Return softmax(q k / sqrt(d)) v over the places that a mask shows; all alike where it shows none.

    ``query`` (B, T, N, H), ``key`` and ``value`` (B, S, M, H), N heads or groups of them for each of M; Keras takes no
    bias beside a mask.
    """
    groups = query.shape[2] // key.shape[2]
    if groups > 1:
        key, value = ops.repeat(key, groups, axis=2), ops.repeat(value, groups, axis=2)
    scores = ops.einsum("btnh,bsnh->bnts", query, key) * (query.shape[-1] ** -0.5 if scale is None else scale)
    shown = ops.cast(mask, "bool")
    if causal:
        shown = ops.logical_and(shown, ops.tril(ops.ones((query.shape[1], key.shape[1]), "bool")))
    scores = ops.where(shown, scores, ops.cast(_HIDDEN, scores.dtype))
    return ops.einsum("bnts,bsnh->btnh", ops.softmax(scores, axis=-1), value)
