"""Class activation maps weighed by weights or gradients: one pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kerascope.errors import IncompatibleMethodError
from kerascope.methods.base import Batch
from kerascope.methods.cam import ActivationMap, gone_past, is_averaged, spatial_axes
from kerascope.methods.session import Session
from kerascope.model.graph import Graph
from kerascope.model.primitives import Affine, Route


@dataclass(frozen=True)
class GradCAM(ActivationMap):
    """Grad-CAM: activations weighed by the spatial mean of their gradients.

    alpha_k = mean over cells of d f / d A_k; L = relu(sum_k alpha_k A_k).

    Args:
        layer: the layer whose activations are weighed; None: the last one with spatial axes.
        relu: False keeps negative values; None: rectified, as in the paper.
        upsample: enlarge linearly (True) or by nearest cells.

    Reference: Selvaraju et al. 2020, "Grad-CAM: visual explanations from deep networks", IJCV 128.
    """

    question: ClassVar[str] = "Where, coarsely, is the evidence for this output?"
    paper: ClassVar[str] = "Selvaraju et al. 2020, IJCV 128: 336-359"
    axioms: ClassVar[tuple[str, ...]] = ("shift invariance",)

    def weigh(self, session: Session, batch: Batch, a: np.ndarray, g: Any) -> np.ndarray:
        """See `ActivationMap.weigh`."""
        weights = g.mean(axis=spatial_axes(g, 2), keepdims=True)
        return np.asarray((weights * a[:, None]).sum(axis=-1))

    def _notes(self, graph: Graph, tensor: int, name: str) -> tuple[str, ...]:
        return (*super()._notes(graph, tensor, name), *averaged_away(graph, tensor, "Grad-CAM"))


@dataclass(frozen=True)
class HiResCAM(ActivationMap):
    """HiResCAM: activations times gradients, cell by cell; L = sum_k g_k A_k, not rectified.

    Args:
        layer: the layer whose activations are weighed; None: the last one with spatial axes.
        relu: True drops negative values; None: kept, as in the paper.
        upsample: enlarge linearly (True) or by nearest cells.

    Reference: Draelos and Carin 2020, "Use HiResCAM instead of Grad-CAM for faithful explanations of
    convolutional neural networks", arXiv:2011.08891.
    """

    question: ClassVar[str] = "Where, coarsely, is the evidence for this output, position by position?"
    paper: ClassVar[str] = "Draelos and Carin 2020, arXiv:2011.08891"
    axioms: ClassVar[tuple[str, ...]] = ("linearity", "shift invariance")
    rectified: ClassVar[bool] = False

    def weigh(self, session: Session, batch: Batch, a: np.ndarray, g: Any) -> np.ndarray:
        """See `ActivationMap.weigh`."""
        return np.asarray((g * a[:, None]).sum(axis=-1))


@dataclass(frozen=True)
class CAM(ActivationMap):
    """CAM: activations weighed by the class's weights; for global average pooling and one dense layer only.

    L = sum_k w_kc A_k, not rectified; its mean over cells plus the bias is the logit.

    Args:
        layer: None: the layer under the global average pooling.
        relu: True drops negative values; None: kept, as in the paper.
        upsample: enlarge linearly (True) or by nearest cells.

    Reference: Zhou et al. 2016, "Learning deep features for discriminative localization", CVPR.
    """

    question: ClassVar[str] = "Which positions would the final linear layer count for this class?"
    paper: ClassVar[str] = "Zhou et al. 2016, CVPR"
    axioms: ClassVar[tuple[str, ...]] = ("linearity", "shift invariance")
    needs: ClassVar[str] = "global average pooling followed by one dense layer; one input"
    rectified: ClassVar[bool] = False

    def check(self, session: Session) -> None:
        """See `Method.check`."""
        super().check(session)
        place = self.place(session)
        if not _head_is_average(place.graph, place.tensor):
            raise self._misfit(session)

    def _misfit(self, session: Session) -> IncompatibleMethodError:
        return IncompatibleMethodError(
            f"cam needs a global average pooling and one dense layer after {self.place(session).name!r}; this "
            "model has something else there. Use hires_cam or grad_cam."
        )

    def weigh(self, session: Session, batch: Batch, a: np.ndarray, g: Any) -> np.ndarray:
        """See `ActivationMap.weigh`."""
        # Behind a global average the gradient is w / Z in every cell, so its sum is the class's weights.
        axes = spatial_axes(g, 2)
        if np.any(np.ptp(g, axis=axes) > 1e-5 * np.abs(g).max(axis=axes)):
            raise self._misfit(session)
        weights = g.sum(axis=axes, keepdims=True)
        return np.asarray((weights * a[:, None]).sum(axis=-1))


@dataclass(frozen=True)
class GradCAMPlusPlus(ActivationMap):
    """Grad-CAM++: positive gradients, weighed in every cell by how many cells of the channel it takes.

    alpha = g^2 / (2 g^2 + S_k g^3), S_k = sum over cells of A_k, 0 where the denominator is 0; w_k = sum over cells of
    alpha relu(g); L = relu(sum_k w_k A_k). The paper derives it for the score exp(f), whose factor exp(f) scales the
    whole map and is left out. Some toolboxes put the mean of A_k in place of its sum.

    Args:
        layer: the layer whose activations are weighed; None: the last one with spatial axes.
        relu: False keeps negative values; None: rectified, as in the paper.
        upsample: enlarge linearly (True) or by nearest cells.

    Reference: Chattopadhay et al. 2018, "Grad-CAM++: generalized gradient-based visual explanations for deep
    convolutional networks", WACV.
    """

    question: ClassVar[str] = "Where, coarsely, is the evidence for this output, every occurrence counted?"
    paper: ClassVar[str] = "Chattopadhay et al. 2018, WACV"
    axioms: ClassVar[tuple[str, ...]] = ("shift invariance",)

    def weigh(self, session: Session, batch: Batch, a: np.ndarray, g: Any) -> np.ndarray:
        """See `ActivationMap.weigh`."""
        total = a.sum(axis=spatial_axes(a, 1), keepdims=True)[:, None]
        below = 2 * g**2 + total * g**3
        alpha = np.divide(g**2, below, out=np.zeros_like(g), where=below != 0)
        weights = (alpha * np.maximum(g, 0)).sum(axis=spatial_axes(g, 2), keepdims=True)
        return np.asarray((weights * a[:, None]).sum(axis=-1))

    def _notes(self, graph: Graph, tensor: int, name: str) -> tuple[str, ...]:
        return (*super()._notes(graph, tensor, name), *averaged_away(graph, tensor, "Grad-CAM++"))


@dataclass(frozen=True)
class XGradCAM(ActivationMap):
    """XGrad-CAM: activations weighed by their gradients averaged with the activations' own shares.

    w_k = sum over cells of (A_k / S_k) g_k, S_k = sum over cells of A_k (0 where S_k = 0); L = relu(sum_k w_k A_k).
    Before the ReLU the map sums to sum g A, as HiResCAM's.

    Args:
        layer: the layer whose activations are weighed; None: the last one with spatial axes.
        relu: False keeps negative values; None: rectified, as in the paper.
        upsample: enlarge linearly (True) or by nearest cells.

    Reference: Fu et al. 2020, "Axiom-based Grad-CAM: towards accurate visualization and explanation of CNNs", BMVC.
    """

    question: ClassVar[str] = "Where, coarsely, is the evidence, with every channel's total contribution kept?"
    paper: ClassVar[str] = "Fu et al. 2020, BMVC"
    axioms: ClassVar[tuple[str, ...]] = ("shift invariance",)

    def weigh(self, session: Session, batch: Batch, a: np.ndarray, g: Any) -> np.ndarray:
        """See `ActivationMap.weigh`."""
        total = a.sum(axis=spatial_axes(a, 1), keepdims=True)[:, None]
        brought = (g * a[:, None]).sum(axis=spatial_axes(g, 2), keepdims=True)
        total = np.broadcast_to(total, brought.shape)
        weights = np.divide(brought, total, out=np.zeros_like(brought), where=total != 0)
        return np.asarray((weights * a[:, None]).sum(axis=-1))

    def _notes(self, graph: Graph, tensor: int, name: str) -> tuple[str, ...]:
        return (*super()._notes(graph, tensor, name), *averaged_away(graph, tensor, "XGrad-CAM"))


@dataclass(frozen=True)
class LayerCAM(ActivationMap):
    """Layer-CAM: activations times the positive part of their gradients, cell by cell.

    L = relu(sum_k relu(g_k) A_k); also for early layers, where a mean gradient says little.

    Args:
        layer: the layer whose activations are weighed; None: the last one with spatial axes.
        relu: False keeps negative values; None: rectified, as in the paper.
        upsample: enlarge linearly (True) or by nearest cells.

    Reference: Jiang et al. 2021, "LayerCAM: exploring hierarchical class activation maps for localization", IEEE
    Transactions on Image Processing 30.
    """

    question: ClassVar[str] = "Which cells of this layer would raise the output if they were stronger, and are strong?"
    paper: ClassVar[str] = "Jiang et al. 2021, IEEE TIP 30: 5875-5888"
    axioms: ClassVar[tuple[str, ...]] = ("shift invariance",)

    def weigh(self, session: Session, batch: Batch, a: np.ndarray, g: Any) -> np.ndarray:
        """See `ActivationMap.weigh`."""
        return np.asarray((np.maximum(g, 0) * a[:, None]).sum(axis=-1))


@dataclass(frozen=True)
class EigenCAM(ActivationMap):
    """Eigen-CAM: the activations along their first principal direction; the same for every class.

    With A (cells x channels), not centred, and v its first right singular vector, L = A v; the sign is such that the
    value of largest size is positive. Some toolboxes centre the columns first.

    Args:
        layer: the layer whose activations are taken; None: the last one with spatial axes.
        relu: True drops negative values; None: kept.
        upsample: enlarge linearly (True) or by nearest cells.

    Reference: Muhammad and Yeasin 2020, "Eigen-CAM: class activation map using principal components", IJCNN.
    """

    question: ClassVar[str] = "What does this layer respond to most, whatever the class?"
    paper: ClassVar[str] = "Muhammad and Yeasin 2020, IJCNN"
    axioms: ClassVar[tuple[str, ...]] = ("shift invariance",)
    rectified: ClassVar[bool] = False
    by_gradient: ClassVar[bool] = False

    @property
    def caveats(self) -> tuple[str, ...]:
        """See `Method.caveats`."""
        return ("Eigen-CAM does not depend on the class: every target gets the same map.",)

    def weigh(self, session: Session, batch: Batch, a: np.ndarray, g: Any) -> np.ndarray:
        """See `ActivationMap.weigh`."""
        flat = a.reshape(len(a), -1, a.shape[-1])
        _, _, directions = np.linalg.svd(flat, full_matrices=False)
        maps = np.einsum("nzk,nk->nz", flat, directions[:, 0])
        extreme = np.take_along_axis(maps, np.abs(maps).argmax(axis=1)[:, None], axis=1)
        maps = maps * np.where(extreme < 0, -1.0, 1.0)
        shaped = maps.reshape(len(a), 1, *a.shape[1:-1])
        return np.repeat(shaped, batch.selection.count, axis=1)


def averaged_away(graph: Graph, tensor: int, name: str) -> tuple[str, ...]:
    """Return the warning that a method averages over positions where the head does not."""
    if is_averaged(graph, tensor):
        return ()
    return (
        "Position matters to what follows this layer (it is not a global average), and "
        f"{name} averages the gradient over positions: hires_cam keeps it.",
    )


def _head_is_average(graph: Graph, tensor: int) -> bool:
    """Whether a tensor feeds one global average pooling, one dense layer, and nothing else."""
    after = [node for node in graph.after(tensor) if not isinstance(node.op, Route)]
    dense = len(after) == 2 and isinstance(after[1].op, Affine) and after[1].op.form in ("dense", "conv")
    if not dense or gone_past(graph, tensor):
        return False
    return is_averaged(graph, tensor)
