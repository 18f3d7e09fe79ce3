"""`evidence`: from samples, background and a model to tested rows, columns and stretches."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import NDArray

from kerascope.errors import BadInputError, KerascopeWarning, unknown_name, warn
from kerascope.evidence import grouping, null, words
from kerascope.evidence.drops import Replacer, with_intervals
from kerascope.evidence.lines import Direction, Lines, tested
from kerascope.evidence.record import Evidence
from kerascope.evidence.stretches import find
from kerascope.evidence.study import References, Study, classes_of, maps_of, matrix_axes
from kerascope.evidence.tables import Measured, line_table, segment_table
from kerascope.explain import Explainer, Progress
from kerascope.explanation import Explanation
from kerascope.matrices.profiles import matrix_dims
from kerascope.methods.base import Method
from kerascope.target import Selection

Floats = NDArray[np.float64]
Sign = Literal["positive", "negative", "both"]

_SPREAD = 8
"""So many uncalled lines of a matrix, spread over the ranking, are checked by the model beside the called ones."""


def evidence(
    model: keras.Model | str | os.PathLike[str],
    x: Any,
    *,
    background: Any,
    background_labels: Any = None,
    method: str | Method | None = None,
    target: Any = None,
    references: Any = None,
    dims: Any = None,
    coords: Mapping[str, Any] | None = None,
    class_names: Sequence[str] | None = None,
    ordered: Sequence[str] | None = None,
    groups: Any = None,
    level: float = 0.05,
    sign: Sign = "positive",
    check: bool = True,
    fills: int = 8,
    batch_size: int = 32,
    seed: int = 0,
    progress: Progress = False,
    **options: Any,
) -> Evidence:
    """Say which rows, columns and stretches of each matrix speak for its class, and how sure that is.

    1. Map: integrated gradients of the class's logit less the mean of the others, from the background's mean.
    2. Lines: the sum of each row (column) is compared with the largest of every reference, an input without the
       evidence that was explained for the same class; p = (1 + references at least as large) / (1 + N) holds for all
       lines of the matrix together. A line is called at p <= level if it has a quarter of the largest sum.
    3. Stretches: in a called line, along an ordered dim, the stretch over which the running sum rises.
    4. Check by the model: how much the explained number drops when the line, or the stretch, is replaced by other
       samples' values at the same cells. A stretch that holds less than 80 % of its line's drop is sought anew, in the
       drops; one that covers 75 % of its line is the whole line.

    Args:
        model: a built Keras model, or a path to a ``.keras`` or ``.h5`` file; one input.
        x: samples (N, *S) as the model takes them.
        background: samples (M, *S) of all classes that stand for "nothing special", at least 20 / level of other
            classes than the one explained, better more.
        background_labels: the class of each (M,), or None: as the model predicts.
        method: a name, a method object, or None: integrated gradients with 16 steps.
        target: a class index or one per sample, meaning that class's logit less the mean of the others (under
            sigmoids, which do not exclude each other, its logit); None: the top class; ``ks.Class(c)``: the plain
            logit; any other target object: what is no class needs ``references``.
        references: inputs without the evidence, in place of the background's samples of other classes. Those are,
            under sigmoids, the samples whose logit of this class is at most zero; for ``sign="negative"`` the
            samples of the class itself.
        dims: names of one sample's axes; the channel axis may be left out.
        coords: labels or positions by dim.
        class_names: one name per output unit.
        ordered: the dims along which neighbours mean something, so that stretches make sense; None: both.
        groups: lines tested together, where neighbouring or correlated ones share their evidence: a label (a whole
            number or a name) for each index along a dim; "correlated", or a correlation: those whose values in the
            background go together, at |r| >= .5 or as given (average linkage); or a dict of these by dim. Without a
            dict the dim is the one that is not ordered, or the first. A group is one line of the tables: its map is
            summed, it is replaced as a whole, ``name`` joins its names ("s03+s04"), ``index`` and ``line`` are its
            first, and ``attrs["groups"]`` lists all.
        level: of the test, family-wise over the lines of one matrix.
        sign: seek evidence for ("positive") or against ("negative") the class, or both with one maximum over both.
        check: measure drops with the model; False leaves them nan and stretches as the map has them.
        fills: how many background samples replace cells.
        batch_size: samples per pass.
        seed: of the fills, and of a sampled method.
        progress: True shows bars.
        **options: hyper-parameters of the method, where it is given by name or not at all.

    Returns:
        The `Evidence`: tables ``.rows``, ``.columns``, ``.segments``, the maps, and warnings.

    Raises:
        KerascopeError: see `kerascope.errors`.

    Example:
        >>> import kerascope as ks
        >>> data = ks.datasets.planted(3, seed=1)
        >>> background = ks.datasets.planted(100, seed=2)
        >>> model = ks.load_model(ks.datasets.demo_file("planted.keras"))
        >>> found = evidence(model, data.x[..., None], background=background.x[..., None], **data.names)
        >>> found.rows.loc[0, "name"], data.row_names[data.row[0]]
        ('r02', 'r02')
    """
    _check_options(level, sign, fills)
    if method is None:
        method, options = "integrated_gradients", {"steps": 16, **options}
    explainer = Explainer(model, method, background=background, batch_size=batch_size, **options)
    study = Study(explainer, background, background_labels, references, seed, sign)
    names = {"dims": dims, "coords": coords, "class_names": class_names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KerascopeWarning)  # they stand in the result, and are given below
        sample_dims, shape = study.prepare(x, **names)
        study.check()
        stretch_dims = _ordered(ordered, sample_dims)
        together = _groups(groups, sample_dims, shape, stretch_dims, study)
        found, selection = study.explain(x, target, progress, **names)
        analysis = _Analysis(study, found, selection, level, sign, progress, together)
        evidence_found = analysis.run(stretch_dims, fills if check else 0)
    for text in evidence_found.warnings:
        warn(text)
    return evidence_found


def _check_options(level: float, sign: str, fills: int) -> None:
    if not 0 < level < 1:
        raise BadInputError(f"level must lie between 0 and 1; got {level!r}.")
    if sign not in ("positive", "negative", "both"):
        raise unknown_name("sign", str(sign), ("positive", "negative", "both"))
    if isinstance(fills, bool) or not isinstance(fills, (int, np.integer)) or fills < 2:
        raise BadInputError(f"fills must be a whole number of at least 2, for an interval over them; got {fills!r}.")


def _ordered(ordered: Sequence[str] | None, sample_dims: tuple[str, ...]) -> tuple[str, ...]:
    known = matrix_dims(sample_dims)
    if ordered is None:
        return known
    named = (ordered,) if isinstance(ordered, str) else tuple(ordered)
    for dim in named:
        if dim not in known:
            raise unknown_name("ordered dim", dim, known)
    return named


def _groups(
    groups: Any, sample_dims: tuple[str, ...], shape: Sequence[int], ordered: Sequence[str], study: Study
) -> dict[str, grouping.Members]:
    axes = matrix_axes(sample_dims)
    sizes = [shape[axis] for axis in axes]

    def samples() -> Floats:
        """Return the background (M, H, W, C); W is 1 where a sample has one axis."""
        array = np.moveaxis(study.samples(), [1 + axis for axis in axes], range(1, 1 + len(axes)))
        return array.reshape(len(array), *sizes, *[1] * (2 - len(sizes)), -1)

    return grouping.resolve(groups, matrix_dims(sample_dims), sizes, ordered, samples)


@dataclass
class _Analysis:
    """One call's worth of work."""

    study: Study
    found: Explanation
    selection: Selection
    level: float
    sign: str
    progress: Progress
    groups: dict[str, grouping.Members]

    def run(self, stretch_dims: Sequence[str], fills: int) -> Evidence:
        """Test lines, find stretches, measure drops, and put the tables together."""
        found = self.found
        dims, classes = matrix_dims(found.sample_dims()), classes_of(self.selection)
        maps = maps_of(found)
        references = [self.study.references_of(i, self.selection, self.progress) for i in range(len(found))]
        sizes = maps.shape[1 : 1 + len(dims)]
        ways = {dim: Direction(sizes, axis, self.groups.get(dim)) for axis, dim in enumerate(dims)}
        tested = {dim: self._tested(maps, references, way) for dim, way in ways.items()}
        replacer = self._replacer(fills) if fills else None
        source = self.study.source(classes)
        base = replacer.whole() if replacer else np.full(len(maps), np.nan)
        measured = {dim: _drops(lines, replacer, base) for dim, lines in tested.items()}
        stretches = {}
        for dim in stretch_dims:
            across = next((other for other in dims if other != dim), None)
            lines = tested[across] if across else self._tested(maps, references, Direction(sizes, None))
            stretches[dim] = (lines, across, find(lines, replacer, base))
        tables = [line_table(found, classes, dim, lines, measured[dim]) for dim, lines in tested.items()]
        every = [*tested.values(), *(lines for lines, *_ in stretches.values())]
        agreement = {dim: _agreement(tested[dim], measured[dim]) for dim in dims}
        counts = {int(label): len(r.maps) for label, r in zip(classes, references, strict=True)}
        said = [
            *words.of_few_references(counts, self.level, null.needed(self.level)),
            *words.of_mixtures(tested),
            *words.of_references(
                source,
                self.sign,
                linear=self.study.is_linear_unit(self.selection),
                strangers=self.study.strangers(),
            ),
            *(words.of_absence(classes, every, found) if self.sign != "negative" else ()),
            *words.of_disagreement(agreement, grouped=bool(self.groups)),
        ]
        return Evidence(
            rows=tables[0],
            columns=tables[1] if len(tables) > 1 else tables[0].iloc[:0],
            segments=segment_table(found, classes, stretches),
            explanation=found,
            classes=classes,
            warnings=[*found.warnings, *said],
            attrs={
                "level": self.level,
                "sign": self.sign,
                "references": counts,
                "references_from": source,
                "fills": len(replacer.fills) if replacer else 0,
                "agreement": agreement,
                "seed": self.study.seed,
                "ordered": tuple(stretch_dims),
                "groups": {dim: [list(group) for group in members] for dim, members in self.groups.items()},
            },
        )

    def _tested(self, maps: Floats, references: list[References], direction: Direction) -> Lines:
        return tested(maps, references, direction, level=self.level, sign=self.sign)

    def _replacer(self, fills: int) -> Replacer:
        axes = matrix_axes(self.found.sample_dims())
        x = np.asarray(self.found.inputs)
        return Replacer(self.study.session, self.selection, x, self.study.fills(fills), axes)


def _drops(lines: Lines, replacer: Replacer | None, base: Floats) -> Measured | None:
    """Measure the drops of the called lines, and of some others for the comparison of sums with drops."""
    if replacer is None:
        return None
    sample, index = np.nonzero(lines.called | _spread(lines.scores, _SPREAD))
    direction, length = lines.direction, lines.view.shape[2]
    numbers = replacer.replaced(sample, lambda d: direction.mask(int(index[d]), 0, length))
    return sample, index, with_intervals(base[sample] - numbers)


def _spread(scores: Floats, count: int) -> NDArray[np.bool_]:
    """Choose some lines of each sample, evenly over their ranking."""
    chosen = np.zeros(scores.shape, dtype=np.bool_)
    places = np.unique(np.linspace(0, scores.shape[1] - 1, count).round().astype(int))
    np.put_along_axis(chosen, np.argsort(-scores, axis=1, kind="stable")[:, places], True, axis=1)
    return chosen


def _agreement(lines: Lines, measured: Measured | None) -> float | None:
    if measured is None:
        return None
    sample, index, drops = measured
    return words.agreement(lines.sums[sample, index], drops)
