"""The derivative behind attention is that of what the model computes, also where a query may look at nothing."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import kerascope as ks
from tests.reference.nets import samples, weigh
from tests.reference.run import same

STEP = 1e-3
"""Of the differences: JAX and TensorFlow compute attention to seven digits only, whatever the model's precision."""
BELOW = np.tril(np.ones((1, 5, 5), bool), -1)
"""A mask under which the first query sees nothing."""


def attending(kind: str) -> Any:
    inputs = layers.Input((5, 4))
    kept = layers.Masking(0.0)(inputs) if kind == "padding" else inputs
    if kind == "groups":
        seen = layers.GroupQueryAttention(2, 4, 2)(kept, kept, attention_mask=BELOW)
    elif kind == "both":  # the operation itself, told of both
        parts = (keras.ops.reshape(layers.Dense(4)(kept), (-1, 5, 2, 2)) for _ in range(3))
        heads = keras.ops.dot_product_attention(*parts, mask=BELOW[:, None], is_causal=True)
        seen = keras.ops.reshape(heads, (-1, 5, 4))
    elif kind == "mask":
        seen = layers.MultiHeadAttention(2, 2)(kept, kept, attention_mask=BELOW)
    else:
        seen = layers.MultiHeadAttention(2, 2)(kept, kept, use_causal_mask=kind == "causal")
    h = layers.LayerNormalization()(layers.Add()([kept, seen]))
    return weigh(keras.Model(inputs, layers.Dense(3)(layers.Flatten()(h))))


@pytest.mark.filterwarnings("ignore:Layer .flatten")  # which drops the mask: that is what is asked here
@pytest.mark.parametrize("kind", ["padding", "mask", "groups", "causal", "both"])
def test_derivatives_behind_attention_are_those_of_its_values(kind, float64):
    """(f(x + h) - f(x - h)) / 2h, in steps that hold values; PyTorch's own derivative is off by half its size."""
    model, x = attending(kind), samples((5, 4))
    filled = 3 if kind == "padding" else 5
    x[:, filled:] = 0
    explainer = ks.Explainer(model, "gradient", compile=False)
    found = explainer(x, target=1).values[:, :filled]
    moved = np.zeros((filled * 4, 2, *x.shape))
    for cell, (up, down) in enumerate(moved):
        up[:], down[:] = x, x
        up[:, cell // 4, cell % 4] += STEP
        down[:, cell // 4, cell % 4] -= STEP
    values = explainer(moved.reshape(-1, 5, 4), target=1).explained.reshape(*moved.shape[:3])
    expected = ((values[:, 0] - values[:, 1]) / (2 * STEP)).T.reshape(found.shape)
    same(found, expected, 2e-3)
