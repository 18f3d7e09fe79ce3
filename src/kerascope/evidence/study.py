"""What an analysis of evidence works on: the samples' maps, and those of the references of every class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from kerascope.errors import BadInputError, IncompatibleMethodError
from kerascope.explain import Explainer, Progress
from kerascope.explanation import Explanation
from kerascope.inputs import read_labels, read_samples
from kerascope.matrices.profiles import matrix_dims, sum_to
from kerascope.methods.session import Session
from kerascope.model.view import ModelView
from kerascope.target import Class, Contrast, Selection, Target, TopClass, as_target

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ANY = -1
"""Stands for the class where the target is no class."""


@dataclass(frozen=True, eq=False)
class References:
    """Inputs without the evidence for one class, explained for it.

    ``maps`` (M, H, W) signed sums over channels; ``labels`` (M,): the class of each, -1 where none is known.
    """

    maps: Floats
    labels: Ints


@dataclass
class Study:
    """A model, a method and reference inputs; the maps of references are computed once per class.

    Args:
        explainer: the model and the method, with the background.
        background: samples that stand for "nothing special" (M, *S).
        labels: the class of each, or None: as the model predicts.
        references: the user's own inputs without evidence, or None.
        sign: of the evidence sought. What speaks against a class is looked for beside inputs of the class itself.
    """

    explainer: Explainer
    background: Any
    labels: Any = None
    references: Any = None
    seed: int = 0
    sign: str = "positive"
    _found: dict[tuple[int, ...], References] = field(default_factory=dict)

    def prepare(self, x: Any, **names: Any) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Trace the model on samples; return the names and the sizes of a sample's axes.

        Raises:
            IncompatibleMethodError: if the model takes several inputs.
        """
        self.explainer.prepare(x)
        view = self.session.view
        if len(view.signature.specs) > 1:
            raise IncompatibleMethodError(
                f"Evidence is sought in one matrix; this model takes {len(view.signature.specs)} inputs. "
                "Use ks.explain."
            )
        samples = read_samples(x, view.signature, dtype=view.dtype)
        dims = read_labels(samples, view, **names).dims  # a dict only where there are several inputs
        return cast("tuple[str, ...]", dims), samples.arrays[0].shape[1:]

    def explain(self, x: Any, target: Any, progress: Progress, **names: Any) -> tuple[Explanation, Selection]:
        """Explain samples for the contrast of their class, after `prepare`; return also what exactly was explained."""
        session = self.session
        wanted = as_target(as_contrast(target, session), names.get("class_names"))
        found = self.explainer(x, target=wanted, seed=self.seed, progress=progress, **names)
        samples = np.asarray(found.inputs)
        selection = wanted.select(session.view, len(samples))
        if selection.count > 1:
            raise BadInputError("Evidence is sought for one target per sample; several were asked for.")
        return found, selection.fixed(session.logits((samples,), selection))

    @property
    def session(self) -> Session:
        """The traced model."""
        return self.explainer.session

    def samples(self) -> NDArray[Any]:
        """Return the background, as the model takes it (M, *S)."""
        return self._samples(self.background, "background")

    def fills(self, count: int) -> NDArray[Any]:
        """Return so many background samples, drawn from the seed (F, *S)."""
        pool = self.samples()
        chosen = np.random.default_rng(self.seed).choice(len(pool), min(count, len(pool)), replace=False)
        return np.asarray(pool[np.sort(chosen)])

    def references_of(self, sample: int, selection: Selection, progress: Progress) -> References:
        """Return the references of one sample: background of other classes, explained for the same number."""
        key = tuple(int(codes[sample, 0]) for codes in (selection.codes, selection.against) if codes is not None)
        if key not in self._found:
            samples, labels = self._without(int(classes_of(selection)[sample]), selection)
            same = _Same(selection, sample)
            found = self.explainer(samples, target=same, seed=self.seed, progress=progress)
            self._found[key] = References(maps_of(found), labels)
        return self._found[key]

    def _without(self, label: int, selection: Selection) -> tuple[NDArray[Any], Ints]:
        if self.references is not None:
            samples = self._samples(self.references, "references")
            return samples, np.full(len(samples), ANY)
        samples = self.samples()
        if label == ANY:
            return samples, np.full(len(samples), ANY)
        labels, is_of = self._classed(samples, label, selection)
        chosen = is_of if self.sign == "negative" else ~is_of
        if not chosen.any():
            negative = self.sign == "negative"
            raise BadInputError(
                f"{f'None of {len(samples)}' if negative else f'All {len(samples)}'} background samples are of class "
                f"{label}: there is nothing to compare its evidence with. Give background samples of "
                f"{'that class' if negative else 'other classes'}, or references=."
            )
        return samples[chosen], labels[chosen]

    def _classed(self, samples: NDArray[Any], label: int, selection: Selection) -> tuple[Ints, NDArray[np.bool_]]:
        """Return the class of each sample, and whether it is of one class: with sigmoids it may be of several."""
        logits = self.session.logits((samples,), selection.rows(np.zeros(len(samples), int)))[0]
        flat = logits.reshape(len(samples), -1)
        width = flat.shape[1]
        found = (flat[:, 0] > 0) if width == 1 else flat.argmax(axis=1)
        labels = np.asarray(found if self.labels is None else self.labels, dtype=np.int64)
        if width > 1 and selection.taken_off == "sigmoid":
            named = False if self.labels is None else labels == label
            return labels, (flat[:, label] > 0) | named
        return labels, labels == (1 if width == 1 else label)

    def source(self, classes: Ints) -> str:
        """Say where the references come from: "given", "other classes", "the class itself" or "background"."""
        if self.references is not None:
            return "given"
        if ANY in classes:
            return "background"
        return "the class itself" if self.sign == "negative" else "other classes"

    def is_linear_unit(self, selection: Selection) -> bool:
        """Whether the background is split at zero of one output that no sigmoid follows."""
        assumed = self.references is None and self.labels is None and ANY not in classes_of(selection)
        return assumed and selection.taken_off is None and self._width(selection) == 1

    def _width(self, selection: Selection) -> int:
        shape = selection.graph.shapes[selection.graph.outputs[0]][1:]
        return int(np.prod([size or 1 for size in shape]))

    def _samples(self, x: Any, what: str) -> NDArray[Any]:
        session = self.session
        return np.asarray(read_samples(x, session.view.signature, dtype=session.view.dtype, what=what).arrays[0])

    def check(self) -> None:
        """Raise BadInputError where labels and background do not fit each other."""
        if self.labels is None:
            return
        labels, count = np.asarray(self.labels), len(self._samples(self.background, "background"))
        if labels.shape != (count,) or labels.dtype.kind not in "iu":
            raise BadInputError(
                f"background_labels must be {count} whole numbers, one class for each background sample; got "
                f"shape {labels.shape}, dtype {labels.dtype}."
            )

    def strangers(self) -> list[int]:
        """Return the labels of background samples that are no class of the model."""
        heads = self.session.view.heads
        if self.labels is None or len(heads) > 1 or len(heads[0].shape) != 2:
            return []
        labels, known = np.unique(self.labels), max(2, int(heads[0].shape[1] or 2))
        return [int(label) for label in labels if not 0 <= label < known]


def as_contrast(target: Any, session: Session) -> Target:
    """Return the target of evidence: classes mean their contrast with the mean of the others.

    One output unit has nothing to be contrasted with, and sigmoids do not exclude each other: there it is the unit.
    """
    if isinstance(target, Target):
        return target
    head = session.view.head(None)
    lone = len(head.shape) == 2 and (head.shape[1] == 1 or head.taken_off == "sigmoid")
    if target is None:
        return TopClass() if lone else Contrast()
    if callable(target):
        raise BadInputError("A function of the logits has no classes to draw references from: give a target object.")
    return Class(target) if lone else Contrast(target)


@dataclass(frozen=True, eq=False)
class _Same(Target):
    """What one sample was explained for, for any number of other samples."""

    selection: Selection
    sample: int

    def select(self, view: ModelView, count: int) -> Selection:
        """See `Target.select`."""
        return self.selection.rows(np.full(count, self.sample))


def classes_of(selection: Selection) -> Ints:
    """Return the class each sample was explained for (N,), -1 where the target is no class.

    A unit of a head of shape (N, classes) is one, also where it was named as `ks.Output`.
    """
    is_unit = selection.kind == "output" and len(selection.graph.shapes[selection.graph.outputs[0]]) == 2
    if selection.kind not in ("class", "contrast") and not is_unit:
        return np.full(len(selection.codes), ANY)
    return np.asarray(selection.codes[:, 0], dtype=np.int64)


def maps_of(found: Explanation) -> Floats:
    """Return the maps (N, H, W), channels summed with their signs; (N, H, 1) where a sample has one axis."""
    dims = found.sample_dims()
    summed = np.asarray(sum_to(np.asarray(found.values), dims, matrix_dims(dims)), dtype=np.float64)
    return summed if summed.ndim == 3 else summed[:, :, None]


def matrix_axes(dims: Sequence[str]) -> tuple[int, ...]:
    """Return which axes of a sample are those of its matrix."""
    return tuple(tuple(dims).index(dim) for dim in matrix_dims(tuple(dims)))
