"""`Patterns`: what was learned of a model's neurons, and the file that keeps it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerascope.errors import BadInputError, KerascopeError, OutputExistsError, unknown_name

if TYPE_CHECKING:
    import keras
    import pandas as pd

ESTIMATORS = ("relu", "linear", "relu_negative")
"""Which observations a pattern is learned from: those above the threshold, all, those below."""

FORMAT = 1
"""Version of the file; one with a higher version is refused."""
_MARK = "kerascope patterns"
_UNREADABLE = (OSError, ValueError, EOFError, KeyError, TypeError, RuntimeError)


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerPattern:
    """The patterns of one layer's neurons.

    ``values``: in the shape of the kernel, ``sum(w * a) = 1`` over what each neuron reads; 0 for dead ones.
    ``other``: the pattern on the other side of the threshold, None under ``"linear"``. ``neurons``: the
    kernel's axes that number neurons. ``observations``: samples times positions. ``positives`` and ``dead``:
    per neuron, in the order of the kernel's axes; ``positives`` is how often it was above 0.
    """

    name: str
    kind: str
    form: str
    estimator: str
    values: np.ndarray
    other: np.ndarray | None
    neurons: tuple[int, ...]
    observations: int
    positives: np.ndarray
    dead: np.ndarray
    kernel_norm: float

    @property
    def positive(self) -> np.ndarray:
        """The pattern above the threshold; the one pattern there is under ``"linear"``."""
        return self.other if self.estimator == "relu_negative" and self.other is not None else self.values

    @property
    def negative(self) -> np.ndarray:
        """The pattern below the threshold; the one pattern there is under ``"linear"``."""
        return self.other if self.estimator == "relu" and self.other is not None else self.values


@dataclass(frozen=True, eq=False)
class Patterns:
    """The patterns of a model's neurons: which direction in its input makes each neuron answer.

    A neuron answers ``y = w x``. Its pattern a is the direction along which the data move when y does,
    ``a = cov(x, y) / var(y)`` (``"linear"``), or the same from the observations in which a following ReLU is
    active (``"relu"``): ``a = c / (w c)`` with ``c = E+[x y] - E+[x] E[y]``. The filter w itself is no such
    direction: it must also cancel what disturbs.

    Made by `Patterns.fit` or `Patterns.open`; it holds no model, and knows by a fingerprint which one it
    belongs to.

    Args:
        fingerprint: of the model's weights.
        model: its name.
        estimator: what was asked for.
        samples: how many samples were seen.
        layers: one `LayerPattern` per layer, in the order of the graph.

    Reference: Kindermans et al. 2018, "Learning how to explain neural networks: PatternNet and
    PatternAttribution", ICLR; Haufe et al. 2014, NeuroImage 87: 96-110.
    """

    fingerprint: str
    model: str
    estimator: str
    samples: int
    layers: tuple[LayerPattern, ...]

    @classmethod
    def fit(
        cls,
        model: keras.Model | str | os.PathLike[str],
        x: Any,
        *,
        estimator: str | Mapping[str, str] = "relu",
        batch_size: int = 32,
        progress: bool | Callable[[int, int], None] = False,
    ) -> Patterns:
        """Learn the patterns of a model's neurons from samples, in one pass.

        Every pair of sample and output position is one observation, what a filter reads there its x (with
        zero padding the zeros count). BatchNormalization is folded into the kernels first. A sum of tensors
        is a neuron with weights 1 per channel. Memory: a few copies of the kernels in float64.

        Args:
            model: a built Keras model, or a path to one.
            x: samples (N, *S) like those the model was trained on; a dict or list for several inputs.
            estimator: ``"relu"``: from active observations where a ReLU follows, linear elsewhere; ``"linear"``
                everywhere; or a mapping from layer name (or glob) to ``"relu"``, ``"linear"`` or
                ``"relu_negative"``, with ``"relu"`` for the rest.
            batch_size: samples per pass, fewer if sums would be long; but for rounding, patterns do not depend on it.
            progress: True shows a bar; a function is called with (samples done, samples in all).

        Returns:
            The patterns. Neurons that never fired, or never varied, have pattern 0; a warning counts them.

        Raises:
            BadInputError: for samples that the model cannot take.
            UnknownNameError: for an estimator, or a layer in it, that does not exist.
            IncompatibleMethodError: if the model has no kernel.

        Example:
            >>> import keras, numpy as np
            >>> model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2)])
            >>> x = np.random.default_rng(0).normal(size=(50, 3))
            >>> Patterns.fit(model, x).layers[0].values.shape
            (3, 2)
        """
        from kerascope.patterns.fit import fit

        return fit(model, x, estimator=estimator, batch_size=batch_size, progress=progress)

    def __getitem__(self, name: str) -> LayerPattern:
        """Return the patterns of one layer by name."""
        found = {layer.name: layer for layer in self.layers}
        if name not in found:
            raise unknown_name("layer in patterns", name, found)
        return found[name]

    def __contains__(self, name: object) -> bool:
        """Whether there is a layer of that name."""
        return any(layer.name == name for layer in self.layers)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the layers."""
        return (layer.name for layer in self.layers)

    def __len__(self) -> int:
        """Return the number of layers."""
        return len(self.layers)

    def replaced(self, values: Mapping[str, np.ndarray]) -> Patterns:
        """Return a copy with patterns of your own for some layers, in the shape of their kernels.

        Raises:
            UnknownNameError: for a layer that does not exist.
            BadInputError: for another shape.
        """
        layers = {layer.name: layer for layer in self.layers}
        for name, given in values.items():
            array, layer = np.asarray(given, "float64"), self[name]
            if array.shape != layer.values.shape:
                raise BadInputError(f"The pattern of {name!r} must have shape {layer.values.shape}; got {array.shape}.")
            layers[name] = replace(layer, values=array)
        return replace(self, layers=tuple(layers.values()))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader should know: layers with dead neurons, and how many."""
        dead = [(layer.name, int(layer.dead.sum()), layer.dead.size) for layer in self.layers if layer.dead.any()]
        if not dead:
            return ()
        where = ", ".join(f"{name!r} ({count} of {size})" for name, count, size in dead)
        return (
            f"{sum(count for _, count, _ in dead)} neurons have no pattern, because they never fired or never varied "
            f"on the {self.samples} samples: {where}. Nothing is sent through them; give more samples to Patterns.fit.",
        )

    def table(self) -> pd.DataFrame:
        """Return one row per layer.

        Columns ``layer, kind, estimator, neurons, reads`` (cells that a neuron reads), ``observations, fewest``
        (the smallest number of positive observations of any neuron) and ``dead``.
        """
        import pandas as pd

        rows = [
            {
                "layer": layer.name,
                "kind": layer.kind,
                "estimator": layer.estimator,
                "neurons": layer.dead.size,
                "reads": layer.values.size // layer.dead.size,
                "observations": layer.observations,
                "fewest": int(layer.positives.min()),
                "dead": int(layer.dead.sum()),
            }
            for layer in self.layers
        ]
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        """Say in one line what these are; a result's record holds this text."""
        return (
            f"Patterns(fingerprint={self.fingerprint!r}, model={self.model!r}, estimator={self.estimator!r}, "
            f"samples={self.samples}, layers={len(self.layers)})"
        )

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Save as one ``.npz`` file, which `Patterns.open` reads; it appears whole or not at all.

        Args:
            path: the file.
            overwrite: replace a file that is there.

        Returns:
            The path.

        Raises:
            OutputExistsError: something is there and ``overwrite`` is False.
            BadInputError: what is there is a folder.
            KerascopeError: it could not be written, e.g. the disk is full.
        """
        place = Path(os.path.realpath(path))
        if place.is_dir():
            raise BadInputError(f"{str(place)!r} is a folder: name a file, such as patterns.npz.")
        if place.exists() and not overwrite:
            raise OutputExistsError(f"{str(place)!r} exists already. Give overwrite=True (--force) or another path.")
        temporary = place.parent / f".{place.name}.{secrets.token_hex(6)}.part"
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "xb") as file:
                np.savez(file, allow_pickle=False, **self._arrays())
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, place)
        except OSError as error:
            raise KerascopeError(
                f"Could not write {str(place)!r}: {error.strerror or error}. Nothing was left there. Free some "
                "space or choose another place, and save again."
            ) from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        return place

    def _arrays(self) -> dict[str, Any]:
        """Return what stands in the file: one text with the facts, and arrays named ``layer/array``."""
        plain = ("name", "kind", "form", "estimator", "neurons", "observations", "kernel_norm")
        about = {
            "what": _MARK,
            "format": FORMAT,
            **{name: getattr(self, name) for name in ("fingerprint", "model", "estimator", "samples")},
            "layers": [{name: getattr(layer, name) for name in plain} for layer in self.layers],
        }
        arrays: dict[str, Any] = {"about": np.frombuffer(json.dumps(about).encode(), np.uint8)}
        for i, layer in enumerate(self.layers):
            for name in ("values", "other", "positives", "dead"):
                array = getattr(layer, name)
                if array is not None:
                    arrays[f"{i}/{name}"] = array
        return arrays

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Patterns:
        """Open what `Patterns.save` wrote.

        Raises:
            BadInputError: there is no such file, it holds no patterns, or it is damaged.
        """
        place = os.path.abspath(path)
        if not os.path.isfile(place):
            what = "is a folder" if os.path.isdir(place) else "does not exist"
            raise BadInputError(f"{place!r} {what}. Give the file that Patterns.save wrote.")
        try:
            with open(place, "rb") as handle:  # NumPy leaves a broken file open
                file = np.load(handle, allow_pickle=False)
                held = {name: file[name] for name in file.files} if hasattr(file, "files") else {}
            about = json.loads(bytes(held.pop("about", np.zeros(0, np.uint8))) or b"{}")
        except (
            OSError,
            ValueError,
            EOFError,
            KeyError,
            TypeError,
            RuntimeError,
            zipfile.BadZipFile,
            zlib.error,
        ) as error:
            raise BadInputError(
                f"{place!r} holds no patterns, or is damaged ({error}). Fit them: ks.Patterns.fit(model, x_train)."
            ) from error
        return cls._read(place, about, held)

    @classmethod
    def _read(cls, place: str, about: Any, held: Mapping[str, np.ndarray]) -> Patterns:
        if not isinstance(about, dict) or about.get("what") != _MARK:
            raise BadInputError(f"{place!r} is no file of patterns. Give one that Patterns.save wrote.")
        if not isinstance(about.get("format"), int) or about["format"] > FORMAT:
            raise BadInputError(
                f"{place!r} has format {about.get('format')}; this version of kerascope reads up to {FORMAT}. Update "
                "kerascope."
            )
        try:
            layers = tuple(_layer_of(i, facts, held) for i, facts in enumerate(about["layers"]))
            facts = (str(about["fingerprint"]), str(about["model"]), str(about["estimator"]), int(about["samples"]))
        except (KeyError, TypeError, ValueError) as error:
            raise BadInputError(f"{place!r} is damaged: it lacks {error}. Fit the patterns again.") from error
        return cls(*facts, layers)


def _layer_of(i: int, facts: Mapping[str, Any], held: Mapping[str, np.ndarray]) -> LayerPattern:
    """Return a layer from the facts and arrays of a file, checked against each other."""
    values, positives, dead = held[f"{i}/values"], held[f"{i}/positives"], held[f"{i}/dead"]
    other = held.get(f"{i}/other")
    neurons = tuple(map(int, facts["neurons"]))
    count = (
        int(np.prod([values.shape[axis] for axis in neurons], dtype=int))
        if max(neurons, default=0) < values.ndim
        else -1
    )
    fitting = values.dtype.kind == "f" and positives.shape == dead.shape == (count,)
    if not fitting or (other is not None and other.shape != values.shape) or facts["estimator"] not in ESTIMATORS:
        raise ValueError(f"arrays of layer {facts['name']!r} that fit each other")
    return LayerPattern(
        name=str(facts["name"]),
        kind=str(facts["kind"]),
        form=str(facts["form"]),
        estimator=str(facts["estimator"]),
        values=values,
        other=other,
        neurons=neurons,
        observations=int(facts["observations"]),
        positives=positives,
        dead=dead,
        kernel_norm=float(facts["kernel_norm"]),
    )
