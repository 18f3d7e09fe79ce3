"""`Explanation`: what was explained, how, and the relevance of every cell; tables, xarray, Zarr."""

from __future__ import annotations

import functools
import html
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerascope import record
from kerascope.errors import BadInputError, KerascopeError, counted, unknown_name
from kerascope.record import Array, Arrays, each, parts

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def _none() -> Any:
    """Default of optional fields; a plain default would hide that a field still lies in a store."""
    return None


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Explanation:
    """The relevance of every cell of N samples, for one number each (or for T numbers).

    S is the shape of one sample as the model takes it, channel included. With several inputs `values`,
    `inputs`, `baseline` and `standard_error` are dicts or lists of such arrays, in the structure of the
    model's input.

    Args:
        values: relevance, raw and signed: (N, *S), or (N, T, *S) where several targets were asked for.
        inputs: what was explained, (N, *S).
        outputs: what the model returns, (N, K); a dict or list with several heads.
        explained: the number explained, (N,) or (N, T): a logit unless `attrs["output"]` says otherwise.
        target: class indices like `explained`, else the target object (its text once saved and opened).
        method: the method object (its name where a store names one that is unknown here).
        baseline: the absent inputs used, (M, *S).
        dims: names of the axes S; with several inputs a dict, input name: dims (for a list in its order).
        coords: labels or positions per dim, (size,). ``"sample"`` may name the samples.
        class_names: one name per output unit.
        completeness_gap: sum of relevance - what it must sum to, like `explained`; nan where nothing is
            promised.
        absorbed: relevance that the walk did not pass on, like `explained`.
        standard_error: of `values`, same shape; for sampled methods.
        group_values: relevance of each group that moved together, (N, G) or (N, T, G).
        layer_map: the raw map of a CAM at the layer's resolution, (N, *spatial) or (N, T, *spatial).
        warnings: what to know before believing it.
        attrs: versions, seed, model, method, target, output, graph, rules; plain data.

    Raises:
        BadInputError: the shapes do not fit each other.
    """

    values: Arrays
    inputs: Arrays
    outputs: Arrays
    explained: Array
    target: Any
    method: Any
    baseline: Arrays | None = field(default_factory=_none)
    dims: tuple[str, ...] | dict[str, tuple[str, ...]]
    coords: dict[str, Array] = field(default_factory=dict)
    class_names: tuple[str, ...] | None = field(default_factory=_none)
    completeness_gap: Array | None = field(default_factory=_none)
    absorbed: Array | None = field(default_factory=_none)
    standard_error: Arrays | None = field(default_factory=_none)
    group_values: Array | None = field(default_factory=_none)
    layer_map: Array | None = field(default_factory=_none)
    warnings: list[str] = field(default_factory=list)
    attrs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Bring names and labels into one form, and check that all shapes fit."""
        given = self.dims
        dims = {k: tuple(d) for k, d in given.items()} if isinstance(given, dict) else tuple(given)
        coords = {dim: record.as_labels(dim, labels) for dim, labels in self.coords.items()}
        names = None if self.class_names is None else tuple(map(str, self.class_names))
        self.__dict__.update(dims=dims, coords=coords, class_names=names, warnings=list(self.warnings))
        record.check_record(self.__dict__)

    if not TYPE_CHECKING:  # a type checker would take any name for a field

        def __getattr__(self, name: str) -> Any:
            """Read a field that still lies in a store."""
            pending = self.__dict__.get("_pending", {})
            if name not in pending:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            self.__dict__[name] = value = pending[name].load()
            del pending[name]
            return value

    # Samples --------------------------------------------------------------------------

    def __len__(self) -> int:
        """Return the number of samples N."""
        return self._shapes("explained")[""][0]

    def __iter__(self) -> Iterator[Explanation]:
        """Yield an explanation of each sample."""
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int | slice | list[int] | list[bool] | Array) -> Explanation:
        """Choose samples; the axis N stays, also for one. Slices share memory with this explanation.

        Args:
            index: a sample's number, a slice, or an array (or list) of numbers or of N truth values.

        Raises:
            BadInputError: no such sample, or not an index.
        """
        chosen = record.sample_index(index, len(self))
        new = object.__new__(Explanation)
        new.__dict__["_pending"] = {
            name: array.take(chosen) for name, array in self.__dict__.get("_pending", {}).items()
        }
        for name in (f.name for f in fields(self)):
            if name in self.__dict__:
                new.__dict__[name] = self._taken(name, self.__dict__[name], chosen)
        return new

    def _taken(self, name: str, value: Any, index: slice | Array) -> Any:
        """Choose samples from the value of a field, if it has an axis of samples."""
        if name == "attrs":
            return record.taken_attrs(value, index, len(self))
        if name == "coords":
            return {dim: labels[index] if dim == record.SAMPLE else labels for dim, labels in value.items()}
        if name in ("target", "baseline", "method", "dims", "class_names", "warnings") or value is None:
            return value[index] if name == "target" and isinstance(value, np.ndarray) else value
        return each(lambda array: array[index], value)

    # Names ----------------------------------------------------------------------------

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the model's inputs; none where it takes one array."""
        return tuple(self.dims) if isinstance(self.dims, dict) else ()

    @property
    def method_name(self) -> str:
        """The method's name, e.g. "lrp.epsilon"."""
        config = self.attrs.get("method")
        if isinstance(config, Mapping) and "name" in config:
            return str(config["name"])
        return self.method if isinstance(self.method, str) else str(getattr(self.method, "name", repr(self.method)))

    def sample_dims(self, *, input: str | None = None) -> tuple[str, ...]:
        """Return the names of a sample's axes S, of one of several inputs if `input` names it."""
        part = self._part(input)
        return self.dims[part] if isinstance(self.dims, dict) else self.dims

    def matrix_dims(self, *, input: str | None = None) -> tuple[str, ...]:
        """Return the axes of rows and columns (one where a sample has one axis)."""
        from kerascope.matrices.profiles import matrix_dims

        return matrix_dims(self.sample_dims(input=input))

    def labels(self, dim: str, *, input: str | None = None) -> Array:
        """Return a name for each index along a dim: its coordinate, else e.g. "sensor 4".

        Raises:
            UnknownNameError: a sample has no such dim.
        """
        from kerascope.matrices.profiles import check_dim

        dims = self.sample_dims(input=input)
        check_dim(dim, dims)
        if dim in self.coords:
            return self.coords[dim]
        size = self._shapes("inputs")[self._part(input)][1 + dims.index(dim)]
        return np.array([f"{dim} {i}" for i in range(size)], dtype=object)

    def target_name(self, i: int, target: int = 0) -> str:
        """Return in words what sample i was explained for: the class's name, "class 3", or the target's text.

        Args:
            i: the sample.
            target: index along the axis of targets, if there is one.
        """
        if not isinstance(self.target, np.ndarray):
            return self._target_text()
        return self.class_name(int(self.target[i, target] if self.target.ndim == 2 else self.target[i]))

    def class_name(self, label: int) -> str:
        """Return the name of a class, "class 3" where there is none, or "the output unit" of a model with one."""
        units, names = {shape[-1] for shape in self._shapes("outputs").values() if len(shape) > 1}, self.class_names
        if names is not None and len(names) in units and 0 <= label < len(names):
            return names[label]
        return "the output unit" if units == {1} else f"class {label}"

    def _target_text(self) -> str:
        described = self.attrs.get("target")
        if not isinstance(described, Mapping) or "text" not in described:
            return str(self.target)
        if described.get("kind") != "contrast":
            return str(described["text"])
        return re.sub(r"class (\d+)", lambda found: self.class_name(int(found[1])), str(described["text"]))

    def _shapes(self, name: str) -> dict[str, tuple[int, ...]]:
        """Return the shapes of a field's arrays without reading them from a store."""
        if name in self.__dict__:
            names = self.input_names if name != "outputs" else None
            return {part: array.shape for part, array in parts(self.__dict__[name], names).items()}
        return dict(self.__dict__["_pending"][name].shapes)

    def _part(self, input: str | None) -> str:
        """Return the input meant: the only one, or the one named."""
        names = self.input_names
        if not names and input is not None:
            raise BadInputError(f"This model takes one input. Leave input={input!r} out.")
        if not names:
            return ""
        if input is None and len(names) > 1:
            raise BadInputError(f"This model takes several inputs. Say which: input={' or '.join(map(repr, names))}.")
        if input is not None and input not in names:
            raise unknown_name("input", input, names)
        return names[0] if input is None else input

    def _values(self, input: str | None) -> Array:
        return parts(self.values, self.input_names)[self._part(input)]

    # Rows, columns, stretches ---------------------------------------------------------

    def matrix(self, i: int, target: int = 0, *, input: str | None = None) -> Array:
        """Return the map of one sample: the signed sum over its channels and any further axes.

        Args:
            i: the sample; negative numbers count from the end.
            target: index along the axis of targets, if there is one.
            input: which input, with several.

        Returns:
            Array (H, W): rows, columns; (H, 1) where a sample has one axis.
        """
        from kerascope.matrices.profiles import matrix_dims, sum_to

        values, dims = self._values(input), self.sample_dims(input=input)
        one = values[record.position("sample", i, len(values))]
        count = len(one) if self.explained.ndim == 2 else 1
        position = record.position("target", target, count)
        one = one[position] if self.explained.ndim == 2 else one
        summed = sum_to(one, dims, matrix_dims(dims)).astype(values.dtype, copy=False)
        return summed if summed.ndim == 2 else summed[:, None]

    def profile(self, dim: str, *, absolute: bool = False, input: str | None = None) -> Array:
        """Sum relevance over all axes of a sample but one.

        Args:
            dim: the axis that stays.
            absolute: sum |map| instead, channels having been summed with their signs.
            input: which input, with several.

        Returns:
            Array (N, size) or (N, T, size), float64.

        Raises:
            UnknownNameError: a sample has no such dim.
        """
        from kerascope.matrices.profiles import profile

        return profile(self._values(input), self.sample_dims(input=input), dim, absolute=absolute)

    def rows(self, *, input: str | None = None) -> pd.DataFrame:
        """Rank the rows (indices of the first matrix dim) of each sample.

        Args:
            input: which input, with several.

        Returns:
            Columns `sample, target, index, name, sum, abs_sum, share`, ranked within each sample and target
            by the absolute value of `sum`, the signed sum of the row's relevance. `abs_sum`: sum of its
            absolute values, channels summed first. `share`: abs_sum over that of the whole sample. `target`:
            the class index, or the target's text.
        """
        return self._lines(0, input)

    def columns(self, *, input: str | None = None) -> pd.DataFrame:
        """Rank the columns (indices of the second matrix dim) of each sample; else as `rows`.

        Raises:
            BadInputError: a sample has one axis only.
        """
        return self._lines(1, input)

    def _lines(self, axis: int, input: str | None) -> pd.DataFrame:
        from kerascope.matrices.profiles import line_table

        dims = self.matrix_dims(input=input)
        if axis >= len(dims):
            raise BadInputError(f"A sample has one axis, {dims[0]!r}, so there are no columns. Use .rows().")
        values, names = self._values(input), self.labels(dims[axis], input=input)
        return line_table(values, self.sample_dims(input=input), dims[axis], names=names, targets=self._targets())

    def segments(self, dim: str, *, profile: bool = False, input: str | None = None) -> pd.DataFrame:
        """Rank the stretches along `dim`, within each line of the other matrix dim, that score most.

        All maximal scoring stretches (Ruzzo and Tompa 1999) of the map less an offset: 0 for a map with both
        signs, where stretches of -map are sought too (sign -1); else the 90 % quantile of the sample's own
        map. The offset stands in ``table.attrs``. These are candidates: no test is made.

        Args:
            dim: the matrix dim along which stretches run.
            profile: seek them on the profile along `dim`, all lines summed.
            input: which input, with several.

        Returns:
            Columns `sample, target, dim, line, name, sign, start, stop, length, score, share` (`stop`
            exclusive; `sign` 1 or -1; `score` = sign * sum of the map over the stretch - offset * length;
            `share` of the sum of absolute values), and `start_coord, stop_coord` of the first and the last
            cell where `dim` has coordinates.

        Raises:
            UnknownNameError: a sample has no such dim.
            BadInputError: neighbours along `dim` mean nothing (`ordered`), `dim` is no matrix dim, or the map
                is not finite.
        """
        from kerascope.matrices.profiles import check_dim
        from kerascope.matrices.segments import segment_table

        dims, matrix = self.sample_dims(input=input), self.matrix_dims(input=input)
        check_dim(dim, dims)
        ordered = self.attrs.get("ordered")
        if ordered is not None and dim not in ordered:
            raise BadInputError(
                f"Neighbours along {dim!r} mean nothing here: ordered={tuple(ordered)!r}. Seek stretches "
                f"along {' or '.join(map(repr, ordered)) or 'no dim'}, or leave 'ordered' out."
            )
        other = [d for d in matrix if d != dim]
        names = self.labels(other[0], input=input) if other else None
        return segment_table(
            self._values(input),
            dims,
            dim,
            coords=self.coords,
            names=names,
            targets=self._targets(),
            summed=profile,
        )

    def _targets(self) -> Array:
        """Return what tables write in the column `target`: array (N, T)."""
        shape = self.explained.shape if self.explained.ndim == 2 else (len(self), 1)
        if isinstance(self.target, np.ndarray):
            return self.target.reshape(shape)
        return np.full(shape, self._target_text(), dtype=object)

    # Out ------------------------------------------------------------------------------

    def to_xarray(self) -> xr.Dataset:
        """Return everything as an xarray dataset; arrays are shared, not copied.

        Returns:
            Variables `attribution, input, output, explained, target, completeness_gap, absorbed,
            standard_error, baseline, layer_map, group_values` where there are any, dims ``sample[, target]``
            and then `dims`. With several inputs ``attribution_<input>`` and so on, with several heads
            ``output_<head>``; with an axis of targets the class indices are `target_class`. Nested attributes
            are JSON text.
        """
        from kerascope.as_xarray import to_dataset

        held = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "method"}
        return to_dataset(held | {"method": self.method_name})

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Save as a Zarr store, which `kerascope.open` and `xarray.open_zarr` read.

        Args:
            path: the folder to make. It appears whole or not at all.
            overwrite: replace a store that is there.

        Returns:
            The path.

        Raises:
            OutputExistsError: something is there already.
            BadInputError: what is to be overwritten is not a Zarr store.
            KerascopeError: it could not be written, e.g. the disk is full.
        """
        from kerascope import store

        return store.write(self.to_xarray(), path, overwrite=overwrite)

    def plot(
        self,
        i: int = 0,
        *,
        target: int = 0,
        ax: Axes | None = None,
        segments: bool = True,
        truth: Array | None = None,
    ) -> Figure:
        """Draw the input and the map of sample i with Matplotlib: see `kerascope.view.figure.plot`."""
        from kerascope.view import figure

        return figure.plot(self, i, target=target, ax=ax, segments=segments, truth=truth)

    def report(
        self,
        path: str | os.PathLike[str],
        *,
        title: str | None = None,
        overwrite: bool = False,
        truth: Array | None = None,
        samples: Sequence[int] | None = None,
    ) -> Path:
        """Write a self-contained HTML report: see `kerascope.report`."""
        from kerascope.report import report

        return report(self, path, title=title, overwrite=overwrite, truth=truth, samples=samples)

    def __repr__(self) -> str:
        """Say in one line what this is, without reading from a store."""
        return f"<Explanation by {self.method_name}: {self._size()}>"

    def _size(self) -> str:
        shapes = self._shapes("inputs")
        dims = self.dims if isinstance(self.dims, dict) else {"": self.dims}
        each_input = [
            (f"{part}: " if part else "")
            + " x ".join(f"{size} {dim}" for dim, size in zip(dims[part], shape[1:], strict=True))
            for part, shape in shapes.items()
        ]
        targets = self._shapes("explained")[""][1:]
        count = counted(len(self), "sample")
        return f"{count}{f', {targets[0]} targets each' if targets else ''}, {'; '.join(each_input)}"

    def _repr_html_(self) -> str:
        """Return a small table for notebooks: text only, all of it escaped."""
        method, output = self.attrs.get("method"), self.attrs.get("output")
        lines = {"Method": self.method_name, "Size": self._size()}
        if isinstance(method, Mapping) and method.get("question"):
            lines["Question"] = str(method["question"])
        if isinstance(output, Mapping) and output.get("explained"):
            lines["Explained number"] = str(output["explained"])
        shown = [f"{self.target_name(i)}: {np.ravel(self.explained[i])[0]:.4g}" for i in range(min(3, len(self)))]
        lines["Targets"] = ", ".join(shown) + (", …" if len(self) > 3 else "")
        gap = np.abs(self.completeness_gap) if self.completeness_gap is not None else np.zeros(0)
        promised = np.isfinite(gap)
        lines["Completeness gap"] = f"at most {gap[promised].max():.3g}" if promised.any() else "nothing is promised"
        lines |= {f"Warning {i}": text for i, text in enumerate(self.warnings, 1)}
        cells = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in lines.items())
        return f"<table><caption>Explanation</caption>{cells}</table>"


def _method(config: object, name: str) -> Any:
    """Return the method object that attributes describe, or its name where it is unknown here."""
    if not isinstance(config, Mapping):
        return name
    try:
        from kerascope.registry import method_from_config

        return method_from_config(dict(config))
    except (ImportError, KerascopeError, LookupError, TypeError, ValueError):
        return name


def open_explanation(path: str | os.PathLike[str]) -> Explanation:
    """Open what `Explanation.save` wrote; arrays are read when first touched, and `e[3]` reads one sample.

    Args:
        path: the folder.

    Raises:
        BadInputError: there is no store, it is not an explanation, it is incomplete or damaged.
    """
    from kerascope import store

    place = os.path.abspath(path)
    check = functools.partial(store.check_stamp, place, store.stamp(place))
    return explanation_of(store.read(place), place, check)


def explanation_of(dataset: xr.Dataset, place: str, check: Callable[[], None]) -> Explanation:
    """Return the explanation in a dataset read from a store; ``check`` runs before anything more is read."""
    from kerascope.as_xarray import Later, from_dataset

    small, pending = from_dataset(dataset, check)
    missing = [name for name in ("values", "inputs", "outputs", "explained") if name not in pending]
    if missing:
        raise BadInputError(f"The store {place!r} lacks {', '.join(missing)}. Save the result again.")
    method = Later(functools.partial(_method, small["attrs"].get("method"), small.pop("method")))
    opened = object.__new__(Explanation)
    opened.__dict__["_pending"] = {**pending, "method": method}
    opened.__dict__.update({f.name: None for f in fields(Explanation) if f.name not in opened.__dict__["_pending"]})
    opened.__dict__.update(small)
    return opened
