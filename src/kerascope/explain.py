"""`explain` and `Explainer`: check the input, view the model, attribute batch by batch, verify, record."""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, overload

import keras
import numpy as np

from kerascope import provenance, registry
from kerascope.errors import (
    BadInputError,
    KerascopeError,
    MissingBaselineError,
    StaleModelError,
    counted,
    warn,
    whole,
)
from kerascope.explanation import Explanation
from kerascope.inputs import Labels, Samples, read_labels, read_samples
from kerascope.methods.base import Attribution, Batch, Method, Trail
from kerascope.methods.session import MEMORY, Session
from kerascope.model.convert import precision
from kerascope.model.load import load_model
from kerascope.model.view import ModelView, Signature, fingerprint, signature_of
from kerascope.relevances import Relevances, Step
from kerascope.target import Selection, Target, as_target

if TYPE_CHECKING:
    import os

    import pandas as pd

Progress = bool | Callable[[float, int], None]


@overload
def explain(
    model: keras.Model | str | os.PathLike[str], x: Any, method: str | Method | None = None, **how: Any
) -> Explanation: ...


@overload
def explain(
    model: keras.Model | str | os.PathLike[str],
    x: Any,
    method: list[str | Method] | tuple[str | Method, ...],
    **how: Any,
) -> list[Explanation]: ...


def explain(
    model: keras.Model | str | os.PathLike[str],
    x: Any,
    method: str | Method | list[str | Method] | tuple[str | Method, ...] | None = None,
    *,
    target: Any = None,
    background: Any = None,
    batch_size: int = 32,
    seed: int = 0,
    dims: Any = None,
    coords: Mapping[str, Any] | None = None,
    class_names: Sequence[str] | None = None,
    progress: Progress = False,
    memory_budget: int = MEMORY,
    **options: Any,
) -> Explanation | list[Explanation]:
    """Explain a model's outputs for some samples.

    Args:
        model: a built Keras model, or a path to a ``.keras`` or ``.h5`` file.
        x: samples (N, *S) as the model takes them, or one sample; a dict or list for several inputs.
        method: a name from ``ks.methods()``, a method object, or None: the recommended one. A list of names and objects
            gives a list of explanations: the model is traced once, and each option goes to those named methods that
            read it.
        target: which number is explained; None: the top class of each sample. A class index (with ``class_names`` also
            its name), an array of them (N,) or (N, T), "all", a target object (`ks.TopClass`, `ks.Class`,
            `ks.Contrast`, `ks.Neuron`, `ks.Output`), or a function of the logits that returns (N,).
        background: samples (M, *S) that stand for "nothing special"; baselines, fills and scales come from them.
        batch_size: samples per pass.
        seed: of everything random.
        dims: names of one sample's axes; the channel axis may be left out.
        coords: labels or positions by dim.
        class_names: one name per output unit.
        progress: True shows a bar; a function is called with (samples done, samples in all); within a batch that takes
            many passes it hears of parts of samples.
        memory_budget: bytes that one pass over copies of samples (paths, noise, masks, backgrounds) may hold.
        **options: hyper-parameters of the method, where it is given by name.

    Returns:
        The `Explanation`: values (N, *S) in units of the explained number (a logit), and what to know of them; a list
        of them, in order, for a list of methods.

    Raises:
        KerascopeError: see `kerascope.errors`; nothing is computed before the input has been checked, and that no
            method refuses it.

    Example:
        >>> import keras, numpy as np
        >>> model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2, activation="softmax")])
        >>> explain(model, np.ones((4, 3)), "gradient", target=0).values.shape
        (4, 3)
    """
    how: dict[str, Any] = {"background": background, "batch_size": batch_size, "memory_budget": memory_budget}
    names: dict[str, Any] = {"dims": dims, "coords": coords, "class_names": class_names}
    asked: dict[str, Any] = {"target": target, "seed": seed, "progress": progress, **names}
    if not isinstance(method, (list, tuple)):
        return Explainer(model, method, **how, **options)(x, **asked)
    chosen = registry.as_methods(method, options)
    first = Explainer(model, chosen[0], **how)
    explainers = [first, *(first.using(other) for other in chosen[1:])]
    for explainer in explainers:
        explainer.prepare(x, target=target, seed=seed, **names)
    return [explainer(x, **asked) for explainer in explainers]


class Explainer:
    """A model and a method, traced and compiled once, for as many samples as one likes.

    Args:
        model: as in `explain`.
        method: as in `explain`.
        background: as in `explain`.
        batch_size: as in `explain`.
        compile: False runs everything step by step: slower, easier to debug.
        memory_budget: as in `explain`.
        **options: as in `explain`.

    Raises:
        KerascopeError: as `explain`.
    """

    def __init__(
        self,
        model: keras.Model | str | os.PathLike[str],
        method: str | Method | None = None,
        *,
        background: Any = None,
        batch_size: int = 32,
        compile: bool = True,
        memory_budget: int = MEMORY,
        **options: Any,
    ) -> None:
        self.batch_size = whole(batch_size, "batch_size", 1)
        self.memory_budget = whole(memory_budget, "memory_budget", 1)
        self._background, self._compile = background, compile
        self._choose(method, options)
        self.model = load_model(model)
        self._sessions: dict[Any, Session] = {}
        self._latest: Session | None = None

    @classmethod
    def on(cls, session: Session, method: str | Method, **options: Any) -> Explainer:
        """Return an explainer for a model that has been traced already, e.g. to run many methods on it."""
        size, memory = session.batch_size, session.memory
        explainer = cls(session.view.model, method, batch_size=size, memory_budget=memory, **options)
        explainer._compile = session.compile
        graph = session.view.traced
        explainer._sessions[tuple(graph.shapes[i][1:] for i in graph.inputs)] = explainer._latest = session
        return explainer

    def using(self, method: str | Method | None, **options: Any) -> Explainer:
        """Return an explainer by another method that shares the model, its trace and the background.

        Args:
            method: as in `explain`.
            **options: as in `explain`.

        Example:
            >>> import keras, numpy as np
            >>> model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2)])
            >>> first = Explainer(model, "gradient")
            >>> first.using("lrp.epsilon", epsilon=1e-3)(np.ones((4, 3))).method_name
            'lrp.epsilon'
        """
        other = copy.copy(self)
        other._choose(method, options)
        return other

    def _choose(self, method: str | Method | None, options: Mapping[str, Any]) -> None:
        self.method_reason: str | None = None
        if method is None:
            method, self.method_reason = registry.recommended(background=self._background is not None)
        self.method = registry.as_method(method, options)

    @property
    def session(self) -> Session:
        """What was traced, compiled and computed once; it exists after the first call (or `prepare`)."""
        return self._ready()

    @property
    def view(self) -> ModelView:
        """The traced model; it exists after the first call (or `prepare`)."""
        return self.session.view

    def prepare(self, x: Any, **asked: Any) -> Explainer:
        """Trace the model on samples and check the method, without explaining them; returns the explainer.

        Args:
            x: samples.
            **asked: ``target`` and what else a call takes, to check that call as a whole; without, whether the method
                fits the model.
        """
        if asked:
            self._asked(x, **asked)
        else:
            self.method.check(self._samples(x)[1])
        return self

    def rule_table(self) -> list[dict[str, str]]:
        """Return what every operation does under this method: ``node``, ``layer``, ``kind``, ``rule``."""
        return self.method.rule_table(self._ready())

    def relevances(self, x: Any, *, target: Any = None, seed: int = 0) -> Relevances:
        """Return the relevance at every operation of the walk, for LRP, Deep Taylor and DeepLIFT.

        DeepLIFT's are contributions to the difference from the reference, the mean over references.

        Args:
            x: samples.
            target: as in `explain`.
            seed: of everything random.

        Returns:
            `Relevances`: arrays by operation; ``.conservation()`` is the table that shows where relevance stayed.

        Raises:
            IncompatibleMethodError: if the method shares out no relevance layer by layer.

        Example:
            >>> import keras, numpy as np
            >>> model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2, name="top")])
            >>> found = Explainer(model, "lrp.epsilon").relevances(np.ones((4, 3)))
            >>> list(found), found["top"].shape
            (['top'], (4, 2))
        """
        asked = self._asked(x, target=target, seed=seed)
        blocks = asked.part.blocks(len(asked.samples))
        trails = [self.method.trail(asked.part, asked.batch(block)) for block in blocks]
        return _joined_trails(trails, squeeze=asked.selection.squeeze)

    def __call__(
        self,
        x: Any,
        *,
        target: Any = None,
        seed: int = 0,
        dims: Any = None,
        coords: Mapping[str, Any] | None = None,
        class_names: Sequence[str] | None = None,
        progress: Progress = False,
    ) -> Explanation:
        """Explain samples; see `explain`.

        Raises:
            StaleModelError: if the model's weights changed since the first call.
        """
        asked = self._asked(x, target=target, seed=seed, dims=dims, coords=coords, class_names=class_names)
        started = time.perf_counter()
        batches = self._attribute(asked, progress)
        recorder = provenance.Recorder(self.method, asked.session, asked.selection, asked.target, self.method_reason)
        seconds = time.perf_counter() - started
        explanation = recorder.record(asked.samples, x, batches, asked.labels, asked.seed, seconds)
        for text in explanation.warnings:
            warn(text)
        return explanation

    def _asked(
        self,
        x: Any,
        *,
        target: Any = None,
        seed: int = 0,
        dims: Any = None,
        coords: Mapping[str, Any] | None = None,
        class_names: Sequence[str] | None = None,
    ) -> _Asked:
        """Read and check what a call was given."""
        seed, wanted = whole(seed, "seed", 0), as_target(target, class_names)
        samples, session = self._samples(x)
        self._refuse_stale(session)
        labels = read_labels(samples, session.view, dims, coords, class_names)
        selection = wanted.select(session.view, len(samples))
        part = session.ending_in(selection.graph)
        self.method.check_selection(selection)  # first: it names what was asked, not the part it leads to
        self.method.check(part)
        self.method.check_inputs(part, samples.arrays)
        return _Asked(samples, session, part, selection, wanted, labels, seed)

    def _ready(self) -> Session:
        if self._latest is None:
            raise KerascopeError("The model has not been traced yet: call the explainer, or prepare(x), first.")
        return self._latest

    def _samples(self, x: Any) -> tuple[Samples, Session]:
        """Check samples, and trace the model on them unless it has been on others of that shape."""
        signature = self._latest.view.signature if self._latest else signature_of(self.model, x)
        samples = read_samples(x, signature, dtype=precision(self.model))
        shapes = tuple(array.shape[1:] for array in samples.arrays)
        if shapes not in self._sessions:
            self._sessions[shapes] = self._open(signature, samples, shapes)
        self._latest = self._sessions[shapes]
        return replace(samples, notes=(*samples.notes, *self._latest.notes)), self._latest

    def _open(self, signature: Signature, samples: Samples, shapes: Sequence[tuple[int, ...]]) -> Session:
        background: tuple[np.ndarray, ...] | None = None
        notes: tuple[str, ...] = ()
        if self._background is not None:
            # Where the model leaves sizes open, the background has to have those of the samples.
            specs = tuple(replace(spec, shape=shape) for spec, shape in zip(signature.specs, shapes, strict=True))
            shaped, dtype = replace(signature, specs=specs), precision(self.model)
            read = read_samples(self._background, shaped, dtype=dtype, what="background")
            background, notes = read.arrays, read.notes
        view = ModelView(self.model, signature, [array[:2].copy() for array in samples.arrays])
        return Session(view, background, self.batch_size, self._compile, self.memory_budget, notes=notes)

    def _refuse_stale(self, session: Session) -> None:
        if fingerprint(self.model) != session.view.fingerprint:
            raise StaleModelError(
                f"The weights of model {self.model.name!r} have changed since this explainer first ran. Make a new "
                "Explainer for the changed model."
            )

    def _attribute(self, asked: _Asked, progress: Progress) -> list[Attribution]:
        parts = []
        with _reporting(progress, len(asked.samples), registry.name_of(self.method)) as report:
            for block in asked.part.blocks(len(asked.samples)):
                part = replace(asked.part, told=functools.partial(report.within, block.start, block.stop - block.start))
                parts.append(self.method.attribute(part, asked.batch(block)))
                report(block.stop)
        return parts


@dataclass(frozen=True, eq=False)
class _Asked:
    """A call that has been checked: samples, what is explained of them, and the part of the model that does it."""

    samples: Samples
    session: Session
    part: Session
    selection: Selection
    target: Target
    labels: Labels
    seed: int

    def batch(self, block: slice) -> Batch:
        """Return some samples as copies: whatever a method does to its batch, the user's array stays as it is."""
        inputs = tuple(array[block].copy() for array in self.samples.arrays)
        return Batch(inputs, self.selection.rows(block), self.seed)


def _joined_trails(trails: Sequence[Trail], *, squeeze: bool) -> Relevances:
    """Put the batches of a walk together."""

    def joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
        array = np.concatenate(arrays)
        return array[:, 0] if squeeze else array

    first = trails[0]
    passed = [node for node in reversed(first.rules) if node in first.flows]
    sums = [{node: joined([trail.flows[node][k] for trail in trails]) for node in passed} for k in range(3)]
    rows = [first.rules[node] for node in passed]
    return Relevances(
        arrays={name: joined([trail.values[name] for trail in trails]) for name in _in_order(first.values, passed)},
        inputs=tuple(joined(parts) for parts in zip(*(trail.inputs for trail in trails), strict=True)),
        steps=tuple(Step(row["node"], row["layer"], row["kind"], row["rule"]) for row in rows),
        arriving=sums[0],
        departing=sums[1],
        absorbed=sums[2],
        explained=joined([trail.explained for trail in trails]),
    )


def _in_order(names: Iterable[str], nodes: Sequence[str]) -> list[str]:
    """Return the names of what operations return, in the order of the operations."""
    rank = {node: place for place, node in enumerate(nodes)}
    return sorted(names, key=lambda name: rank[name] if name in rank else rank[name.rpartition("[")[0]])


class _reporting:
    """A progress bar, a user's function, or nothing; it never goes back."""

    def __init__(self, progress: Progress, total: int, name: str) -> None:
        self.progress, self.total, self.name = progress, total, name
        self.bar: Any = None
        self.done = 0.0

    def __enter__(self) -> _reporting:
        if self.progress and not callable(self.progress):
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
            self.bar = Progress(*columns, console=Console(stderr=True))
            self.bar.start()
            text = f"Explaining {counted(self.total, 'sample')} by {self.name}"
            self.task = self.bar.add_task(text, total=self.total)
        return self

    def within(self, start: int, rows: int, share: float) -> None:
        """Say which share of a batch is done; its end is said when the batch has been written down."""
        if share < 1:
            self(start + share * rows)

    def __call__(self, done: float) -> None:
        """Say how many samples are done."""
        if done <= self.done:
            return
        self.done = done
        if callable(self.progress):
            self.progress(done, self.total)
        elif self.bar is not None:
            self.bar.update(self.task, completed=done)

    def __exit__(self, *exception: object) -> None:
        if self.bar is not None:
            self.bar.stop()


def check(model: keras.Model | str | os.PathLike[str], x: Any = None) -> pd.DataFrame:
    """Return which methods fit a model, and why the others do not.

    Args:
        model: a built Keras model, or a path to one.
        x: a few samples; None: random ones in the model's shape (sizes left open become 32).

    Returns:
        A table with ``method``, ``fits``, ``why`` (what is missing, or what the method needs from you).
    """
    import pandas as pd

    model = load_model(model)
    session = open_session(model, x)
    rows = []
    for name, method in registry.METHODS.items():
        fits, why = True, ""
        try:
            method.check(session)
        except MissingBaselineError as error:
            why = str(error)
        except KerascopeError as error:
            fits, why = False, str(error)
        rows.append({"method": name, "fits": fits, "why": why})
    return pd.DataFrame(rows)


def open_session(model: keras.Model, x: Any = None) -> Session:
    """Trace a model on samples, or on random ones in its shape where there are none."""
    if x is None:
        declared = getattr(model, "inputs", None)
        if not declared:
            raise BadInputError(f"Model {model.name!r} does not say what shape it takes: give a few samples as x.")
        rng = np.random.default_rng(0)
        shapes = [(2, *(size or 32 for size in tensor.shape[1:])) for tensor in declared]
        x = signature_of(model, None).pack(
            [
                rng.random(shape) if keras.backend.is_float_dtype(tensor.dtype) else np.zeros(shape, int)
                for shape, tensor in zip(shapes, declared, strict=True)
            ]
        )
    signature = signature_of(model, x)
    arrays = read_samples(x, signature, dtype=precision(model)).arrays
    return Session(ModelView(model, signature, [array[:2].copy() for array in arrays]), compile=False)
