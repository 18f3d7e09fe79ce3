"""Class activation maps whose weights come from running the model with channels kept or taken away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import keras
import numpy as np

from kerascope.errors import IncompatibleMethodError, whole
from kerascope.methods.base import Batch
from kerascope.methods.cam import ActivationMap
from kerascope.methods.session import Session
from kerascope.model.primitives import Tensor


@dataclass(frozen=True)
class ScoreCAM(ActivationMap):
    """Score-CAM: channels weighed by the output on the input seen through each of them.

    M_k = A_k enlarged to the input and scaled to 0..1 (0 where A_k is constant); s_k = f(x M_k); w = softmax over k of
    s; L = relu(sum_k w_k A_k). The paper's difference to a baseline input cancels in the softmax. Cells outside a mask
    become 0, whatever 0 means in the data. Some toolboxes take class probabilities as weights.

    Args:
        layer: the layer whose activations are weighed; None: the last one with spatial axes.
        relu: False keeps negative values; None: rectified, as in the paper.
        upsample: enlarge linearly (True) or by nearest cells.
        channels: only so many channels, those of largest standard deviation over cells; None: all.

    Reference: Wang et al. 2020, "Score-CAM: score-weighted visual explanations for convolutional neural networks", CVPR
    workshops.
    """

    channels: int | None = None

    question: ClassVar[str] = "Where are the channels that keep the output up when only their place is shown?"
    paper: ClassVar[str] = "Wang et al. 2020, CVPR workshops"
    by_gradient: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        if self.channels is not None:
            whole(self.channels, "channels", 1)

    @property
    def caveats(self) -> tuple[str, ...]:
        """See `Method.caveats`."""
        return ("Score-CAM replaces what it hides by 0: where 0 is a value like others, masks leave traces.",)

    def check(self, session: Session) -> None:
        """See `Method.check`."""
        super().check(session)
        for spec in session.view.signature.specs:
            if not keras.backend.is_float_dtype(spec.dtype):
                raise IncompatibleMethodError(
                    f"Input {spec.name!r} takes whole numbers ({spec.dtype}): Score-CAM multiplies the input by masks, "
                    "which makes other tokens of them. Use ablation_cam or occlusion."
                )

    def weigh(self, session: Session, batch: Batch, a: np.ndarray, g: Any) -> np.ndarray:
        """See `ActivationMap.weigh`."""
        batch = batch.settled(session)
        rows, kept = len(batch), self._kept(a)
        chosen = np.take_along_axis(a, kept.reshape(rows, *(1,) * (a.ndim - 2), -1), axis=-1)
        channels = np.moveaxis(chosen, -1, 1)
        scores = np.empty((rows, batch.selection.count, kept.shape[1]))
        (x,), place = batch.inputs, self.place(session)
        seen = place.lay_over(np.ones_like(channels[:1, :1]), x.shape[1:], smooth=False)[:, 0] > 0
        for which, index in session.pairs(kept.shape[1], rows):
            shown = [channels[i : i + 1, k : k + 1] for i, k in zip(index, which, strict=True)]
            masks = _scaled(place.lay_over(np.concatenate(shown), x.shape[1:], smooth=self.upsample)[:, 0], seen)
            selection = batch.selection.rows(index)
            logits = session.logits(((x[index] * masks).astype(x.dtype),), selection)
            scores[index, :, which] = selection.numbers_own(logits)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        return np.asarray(np.einsum("ntk,n...k->nt...", weights, chosen))

    def _kept(self, a: np.ndarray) -> np.ndarray:
        """Return which channels of each sample are used (B, K)."""
        spread = a.reshape(len(a), -1, a.shape[-1]).std(axis=1)
        order = np.argsort(-spread, axis=1, kind="stable")
        return np.sort(order[:, : self.channels or a.shape[-1]], axis=1)


def _scaled(masks: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Return masks (B, *S) brought to 0 to 1 each, over the cells that the layer has seen (1, *S); the others are 0.

    Masks that are the same everywhere become 0.
    """
    axes = tuple(range(1, masks.ndim))
    low = np.where(seen, masks, np.inf).min(axis=axes, keepdims=True)
    high = np.where(seen, masks, -np.inf).max(axis=axes, keepdims=True)
    scaled: np.ndarray = np.divide(masks - low, high - low, out=np.zeros_like(masks), where=seen & (high > low))
    return scaled


@dataclass(frozen=True)
class AblationCAM(ActivationMap):
    """Ablation-CAM: channels weighed by what the output loses without them.

    w_k = (f - f with A_k := 0) / f; L = relu(sum_k w_k A_k). Where f = 0 nothing can be divided, and the map is 0. For
    a negative f the paper's quotient turns the sign: what takes the output further down counts as evidence.

    Args:
        layer: the layer whose activations are weighed; None: the last one with spatial axes.
        relu: False keeps negative values; None: rectified, as in the paper.
        upsample: enlarge linearly (True) or by nearest cells.

    Reference: Desai and Ramaswamy 2020, "Ablation-CAM: visual explanations for deep convolutional network via
    gradient-free localization", WACV.
    """

    question: ClassVar[str] = "Where are the channels without which the output falls?"
    paper: ClassVar[str] = "Desai and Ramaswamy 2020, WACV"
    by_gradient: ClassVar[bool] = False

    def weigh(self, session: Session, batch: Batch, a: np.ndarray, g: Any) -> np.ndarray:
        """See `ActivationMap.weigh`."""
        batch = batch.settled(session)
        graph, tensor = self.place(session).graph, self.place(session).tensor
        selection = replace(batch.selection, graph=graph)
        rows, channels = len(batch), a.shape[-1]
        whole = selection.numbers_own(session.logits(batch.inputs, selection))
        drops = np.empty((rows, selection.count, channels))
        axis = 1 if session.view.channels_first else a.ndim - 1

        def build() -> Callable[..., Any]:
            def rest(xs: Sequence[Tensor], codes: Tensor, against: Tensor, inside: Tensor) -> list[Tensor]:
                return list(graph.run_from({tensor: inside, **dict(zip(graph.inputs, xs, strict=True))}))

            return rest

        for which, index in session.pairs(channels, rows):
            inside = a[index].copy()
            inside[np.arange(len(index)), ..., which] = 0
            inside = np.moveaxis(inside, -1, axis).astype(session.view.dtype)
            part = selection.rows(index)
            inputs = [x[index] for x in batch.inputs]
            logits = session.run(("ablation", tensor), build, inputs, part, extra=(inside,))
            drops[index, :, which] = whole[index] - part.numbers_own(logits)
        weights = np.divide(drops, whole[..., None], out=np.zeros_like(drops), where=whole[..., None] != 0)
        return np.asarray(np.einsum("ntk,n...k->nt...", weights, a))

    def _said(self, raw: np.ndarray, explained: np.ndarray) -> tuple[str, ...]:
        """See `ActivationMap._said`."""
        divided = super()._said(raw[explained != 0][:, None], explained)
        negative, zero = int(np.sum(explained < 0)), int(np.sum(explained == 0))
        turned = (
            f"{negative} maps explain a negative number, by which the paper's weights are divided: there, what takes "
            "the output further down counts as evidence.",
        )
        nothing = (f"{zero} maps are zero because the number explained is: the paper's weights divide by it.",)
        return (*divided, *(turned if negative else ()), *(nothing if zero else ()))
