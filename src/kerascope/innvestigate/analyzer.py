"""`create_analyzer`: iNNvestigate's way of asking."""

from __future__ import annotations

import os
import warnings
from typing import Any, Literal

import keras
import numpy as np

from kerascope.errors import BadInputError, KerascopeWarning, unknown_name
from kerascope.explain import Explainer
from kerascope.innvestigate.names import ANALYZERS, options_of
from kerascope.patterns.store import Patterns

Conventions = Literal["kerascope", "innvestigate"]

_MODES = ("max_activation", "index", "all")


class Analyzer:
    """What `create_analyzer` returns: a model and a method behind iNNvestigate's interface.

    Attributes:
        name: iNNvestigate's name.
        method: the kerascope method that does the work.
    """

    def __init__(self, name: str, model: Any, options: dict[str, Any], conventions: Conventions) -> None:
        entry = ANALYZERS[name]
        self.name, self.model, self._options, self._conventions = name, model, options, conventions
        self._mode = options["neuron_selection_mode"]
        if self._mode not in _MODES:
            raise unknown_name("neuron_selection_mode", str(self._mode), _MODES)
        make = entry.ours if conventions == "kerascope" else entry.theirs
        if make is None:
            raise BadInputError(f"{name}: {entry.differs}. Use conventions='kerascope'.")
        self.method = make(options)
        self._explainer = Explainer(model, self.method)
        if conventions == "innvestigate" and entry.differs:
            warnings.warn(
                f"{name} as in iNNvestigate 2.1.2: {entry.differs}. conventions='kerascope' does without.",
                KerascopeWarning,
                stacklevel=3,
            )

    def fit(self, X: Any, **_: Any) -> Analyzer:
        """Fit patterns (pattern.net, pattern.attribution); for everything else there is nothing to fit."""
        if self.name.startswith("pattern."):
            estimator = "linear" if self._options["pattern_type"] == "linear" else "relu"
            self._options["patterns"] = Patterns.fit(self.model, X, estimator=estimator)
            self.method = ANALYZERS[self.name].ours(self._options)
            self._explainer = Explainer(self.model, self.method)
        return self

    def analyze(self, X: Any, neuron_selection: Any = None) -> np.ndarray:
        """Return the map of every sample, an array of the shape of X.

        Args:
            X: samples (N, *S).
            neuron_selection: with ``neuron_selection_mode="index"`` a class, or one per sample.

        Raises:
            BadInputError: where mode and selection do not fit each other.
        """
        target = self._target(neuron_selection)
        values = np.asarray(self._explainer(X, target=target, seed=0).values) * self._options.get("stddev", 1)
        postprocess = self._options.get("postprocess")
        if postprocess is None:
            return np.asarray(values.reshape(np.shape(X)) if values.size == np.size(X) else values)
        if postprocess not in ("abs", "square"):
            raise unknown_name("postprocess", str(postprocess), ("abs", "square"))
        if self.name == "input_t_gradient":  # there it is applied before the product
            sign = np.sign(np.asarray(X).reshape(values.shape))
            return np.asarray(np.abs(values) * sign if postprocess == "abs" else _squared(values, np.asarray(X)))
        return np.asarray(np.abs(values) if postprocess == "abs" else np.square(values))

    def _target(self, selection: Any) -> Any:
        if self._mode == "index":
            if selection is None:
                raise BadInputError("neuron_selection_mode='index' needs neuron_selection= in analyze().")
            return int(selection) if np.ndim(selection) == 0 else np.asarray(selection).ravel()
        if selection is not None:
            raise BadInputError(f"neuron_selection needs neuron_selection_mode='index'; it is {self._mode!r}.")
        return _every_output if self._mode == "all" else None


def _every_output(logits: Any) -> Any:
    return keras.ops.sum(keras.ops.reshape(logits, (keras.ops.shape(logits)[0], -1)), axis=1)


def _squared(products: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return x times the squared gradient from x times the gradient."""
    x = x.reshape(products.shape)
    gradient = np.divide(products, x, out=np.zeros_like(products), where=x != 0)
    return np.asarray(x * np.square(gradient))


def create_analyzer(
    name: str,
    model: keras.Model | str | os.PathLike[str],
    conventions: Conventions = "kerascope",
    **options: Any,
) -> Analyzer:
    """Make an analyzer by its iNNvestigate name.

    Args:
        name: as there: ``"gradient"``, ``"input_t_gradient"``, ``"lrp.sequential_preset_a_flat"``, ``"pattern.net"`` …
        model: a built Keras model, or a path to one; a final softmax may stay on.
        conventions: ``"kerascope"``: our method of that name, with our conventions; ``"innvestigate"``: the numbers of
            version 2.1.2, with a warning of what is wrong in them.
        **options: its parameters, by their names there.

    Returns:
        An `Analyzer` with ``.analyze(X, neuron_selection=None)`` and, for patterns, ``.fit(X)``.

    Raises:
        UnknownNameError: for a name or parameter that iNNvestigate does not have.

    Example:
        >>> import keras, numpy as np
        >>> model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2, activation="softmax")])
        >>> create_analyzer("lrp.epsilon", model).analyze(np.ones((4, 3))).shape
        (4, 3)
    """
    if conventions not in ("kerascope", "innvestigate"):
        raise unknown_name("conventions", str(conventions), ("kerascope", "innvestigate"))
    its_numbers = conventions == "innvestigate"
    return Analyzer(name, model, options_of(name, options, its_numbers=its_numbers), conventions)
