"""`create_analyzer`: iNNvestigate's way of asking."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any, Literal

import keras
import numpy as np

from kerascope.errors import BadInputError, BadTargetError, IncompatibleMethodError, unknown_name, warn
from kerascope.explain import Explainer
from kerascope.innvestigate.absent import ATTRIBUTES
from kerascope.innvestigate.methods import Postprocessed, Propagated
from kerascope.innvestigate.names import ANALYZERS, estimator_of, options_of
from kerascope.methods.base import Method
from kerascope.model.load import load_model
from kerascope.patterns.store import Patterns
from kerascope.target import Class

Conventions = Literal["kerascope", "innvestigate"]

_MODES = ("max_activation", "index", "all")
_FIT = ("batch_size", "verbose", "pattern_type", "disable_no_training_warning")


class Analyzer:
    """What `create_analyzer` returns: a model and a method behind iNNvestigate's interface.

    Attributes:
        name: iNNvestigate's name.
        model: the model.
        method: the kerascope method that does the work.
    """

    def __init__(self, name: str, model: Any, given: Mapping[str, Any], conventions: Conventions) -> None:
        options = options_of(name, given, its_numbers=conventions == "innvestigate")
        entry = ANALYZERS[name]
        self.name, self._conventions = name, conventions
        self._mode, self._chose_mode = options["neuron_selection_mode"], "neuron_selection_mode" in given
        if self._mode not in _MODES:
            raise unknown_name("neuron_selection_mode", str(self._mode), _MODES)
        make = entry.ours if conventions == "kerascope" else entry.theirs
        if make is None:
            raise BadInputError(f"{name}: {entry.differs}. Use conventions='kerascope'.")
        if self._mode == "all" and conventions == "kerascope" and not entry.sums:
            raise IncompatibleMethodError(
                f"neuron_selection_mode='all' explains the sum of all outputs, and {name} explains one output. Take "
                "'max_activation' (the top class of each sample) or 'index' (a class, given to analyze); 'gradient' "
                "and 'lrp' take sums."
            )
        self.model = load_model(model)
        self._options = {**options, "model": self.model}
        self._use(make(self._options))
        if options["disable_model_checks"]:
            warn("disable_model_checks=True does nothing here: what a method refuses stays refused.")
        if conventions == "innvestigate" and entry.differs and not isinstance(self.method, Propagated):
            warn(f"{name} as in iNNvestigate 2.1.2: {entry.differs}. conventions='kerascope' does without.")

    def _use(self, method: Method) -> None:
        how = self._options.get("postprocess")
        self.method = method if how is None else Postprocessed(method, how)
        self._explainer = Explainer(self.model, self.method)

    def __getattr__(self, name: str) -> Any:
        """Say what to use instead of an attribute that iNNvestigate's analyzers have."""
        if name in ATTRIBUTES:
            raise AttributeError(f"iNNvestigate's {name} is not here: {ATTRIBUTES[name]}.".replace("`", ""))
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def fit(self, X: Any, batch_size: int = 32, **options: Any) -> Analyzer:
        """Fit patterns (pattern.net, pattern.attribution); for everything else there is nothing to fit.

        Args:
            X: samples (N, *S) like those the model was trained on.
            batch_size: samples per pass.
            **options: ``pattern_type`` in place of the analyzer's; ``verbose``: whether to show progress;
                ``disable_no_training_warning``, which changes nothing.

        Raises:
            UnknownNameError: for other options and types of pattern.
        """
        for key in options:
            if key not in _FIT:
                raise unknown_name("parameter of fit", key, _FIT)
        estimator = estimator_of({"pattern_type": "relu", **self._options, **options}["pattern_type"])
        if self.name.startswith("pattern."):
            progress = bool(options.get("verbose", False))
            self._options["patterns"] = Patterns.fit(
                self.model, X, estimator=estimator, batch_size=batch_size, progress=progress
            )
            self._use(ANALYZERS[self.name].ours(self._options))
        return self

    def analyze(self, X: Any, neuron_selection: Any = None) -> Any:
        """Return the map of every sample, an array of the shape of X; a list (or dict) of them where X is one.

        Args:
            X: samples (N, *S); for several inputs a list (or dict) of them.
            neuron_selection: a class, or one per sample, where ``neuron_selection_mode`` is ``"index"`` or was not
                given.

        Raises:
            BadInputError: where mode and selection do not fit each other.
        """
        found = self._explainer(X, target=self._target(neuron_selection), seed=0)
        return _like(found.values, X, self._options.get("stddev", 1))

    def _target(self, selection: Any) -> Any:
        if selection is None:
            if self._mode == "index":
                raise BadInputError("neuron_selection_mode='index' needs neuron_selection= in analyze().")
            return _every_output if self._mode == "all" else None
        if self._chose_mode and self._mode != "index":
            raise BadInputError(
                f"neuron_selection needs neuron_selection_mode='index'; it is {self._mode!r}. Leave one of them out."
            )
        chosen = np.ravel(selection)
        if chosen.dtype.kind not in "iu":
            raise BadTargetError(
                f"neuron_selection must be a class, a whole number, or one for each sample; got {selection!r}. A mode "
                "goes to create_analyzer: neuron_selection_mode='all'."
            )
        return Class(int(chosen[0]) if chosen.size == 1 else chosen)


def _like(values: Any, X: Any, factor: float) -> Any:
    """Return maps, times a factor, in the shape and structure of the samples."""
    if isinstance(values, dict):
        return {key: _like(value, X[key], factor) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [_like(value, x, factor) for value, x in zip(values, X, strict=True)]
    if isinstance(X, dict):
        (X,) = X.values()
    elif isinstance(X, (list, tuple)) and len(X) == 1 and hasattr(X[0], "shape"):
        X = X[0]
    shape = np.shape(X)
    found = np.asarray(values) * factor
    return found.reshape(shape) if math.prod(shape) == found.size else found


def _every_output(logits: Any) -> Any:
    heads = logits if isinstance(logits, list) else [logits]
    return sum(keras.ops.sum(keras.ops.reshape(z, (keras.ops.shape(z)[0], -1)), axis=1) for z in heads)


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
    return Analyzer(name, model, options, conventions)
