"""From the attributions of batches to an `Explanation` that says where its numbers come from."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from kerascope import backend, registry
from kerascope._version import __version__
from kerascope.errors import KerascopeError, counted
from kerascope.explanation import Explanation
from kerascope.inputs import Labels, Samples
from kerascope.methods.base import COUNTED, Attribution, Method
from kerascope.methods.session import Session
from kerascope.model.origin import is_logit, is_probability
from kerascope.model.trace import exact
from kerascope.target import Function, Selection, Target

_LOOSE = 0.05
"""A completeness gap above this share of what the values must sum to is warned of,"""
_SLIGHT = 0.2
"""or of this share of the sum of absolute values, where that is more,"""
_ROUNDING = 1e-5
"""unless it is below this share of the sum of absolute values."""
_SATURATED = 0.001
"""A probability as near to 0 or 1 hardly answers to the input."""


@dataclass(frozen=True)
class Recorder:
    """Knows everything about a call but its results."""

    method: Method
    session: Session
    selection: Selection
    target: Target
    method_reason: str | None

    def record(
        self, samples: Samples, x: Any, parts: Sequence[Attribution], labels: Labels, seed: int, seconds: float
    ) -> Explanation:
        """Put the batches together and verify them.

        Raises:
            KerascopeError: if a value is not finite.
        """
        signature = self.session.view.signature
        self._check_shapes(samples, parts)
        values = [self._squeezed(np.concatenate(column)) for column in zip(*(p.values for p in parts), strict=True)]
        self._check_finite(values)
        logits, explained = self._explained(samples, parts)
        gap, absorbed, expected = self._gap(parts, values)
        errors = _joined(parts, lambda p: p.standard_error)
        return Explanation(
            values=signature.restore(values, x),
            inputs=signature.restore(samples.arrays, x),
            outputs=self._outputs(samples, logits),
            explained=self._squeezed(explained),
            target=self._target(logits),
            method=self.method,
            baseline=None if parts[0].baseline is None else signature.restore(parts[0].baseline, x),
            completeness_gap=gap,
            absorbed=absorbed,
            standard_error=None if errors is None else signature.restore([self._squeezed(e) for e in errors], x),
            group_values=self._field(parts, "group_values"),
            layer_map=self._field(parts, "layer_map"),
            warnings=self._warnings(samples, parts, values, logits, self._squeezed(explained), gap, expected),
            attrs=self._attrs(parts, seed, seconds),
            dims=labels.dims,
            coords=labels.coords,
            class_names=labels.class_names,
        )

    def _squeezed(self, array: np.ndarray) -> np.ndarray:
        return array[:, 0] if self.selection.squeeze else array

    def _field(self, parts: Sequence[Attribution], name: str) -> np.ndarray | None:
        arrays = [getattr(part, name) for part in parts]
        return None if any(array is None for array in arrays) else self._squeezed(np.concatenate(arrays))

    def _check_shapes(self, samples: Samples, parts: Sequence[Attribution]) -> None:
        """Say what a method of the user's own has to return, where it does not."""
        done = 0
        for part in parts:
            rows = min(self.session.batch_size, len(samples) - done)
            wanted = [(rows, self.selection.count, *array.shape[1:]) for array in samples.arrays]
            came = [np.shape(array) for array in part.values]
            if came != wanted:
                raise KerascopeError(
                    f"{registry.name_of(self.method)}.attribute must return one array (B, T, *S) per input, here of "
                    f"shape {wanted}; it returned {came}."
                )
            done += rows

    def _check_finite(self, values: Sequence[np.ndarray]) -> None:
        bad = sum(int(np.sum(~np.isfinite(array))) for array in values)
        if bad:
            raise KerascopeError(
                f"{registry.name_of(self.method)} returned {bad} values that are not finite. The model's own numbers "
                "may overflow: try the model in float64, or another method."
            )

    def _explained(self, samples: Samples, parts: Sequence[Attribution]) -> tuple[list[np.ndarray], np.ndarray]:
        if all(part.logits is not None for part in parts):
            logits = [np.concatenate(column) for column in zip(*(part.logits or [] for part in parts), strict=True)]
        else:
            logits = self.session.logits(samples.arrays, self.selection)
        if all(part.explained is not None for part in parts):
            return logits, np.concatenate([part.explained for part in parts if part.explained is not None])
        return logits, self.selection.numbers_own(logits)

    def _outputs(self, samples: Samples, logits: list[np.ndarray]) -> Any:
        """Return what the model returns, from the logits where they are at hand."""
        view = self.session.view
        if self.selection.graph.outputs != view.logits.outputs:
            everything = Selection(view.logits, np.zeros((len(samples), 1), "int32"), "outputs", "", fn=_nothing)
            logits = self.session.logits(samples.arrays, everything)
        with backend.inference(), exact(view.dtype):
            finals = view.finish([ops.convert_to_tensor(z) for z in logits])
        arrays = [backend.to_numpy(tensor) for tensor in finals]
        if len(arrays) == 1:
            return arrays[0]
        return {h.name: array for h, array in zip(view.heads, arrays, strict=True)} if view.keyed else arrays

    def _target(self, logits: list[np.ndarray]) -> Any:
        if isinstance(self.target, Function):
            return self.target.fn
        if self.selection.kind != "class":
            return self.target
        return self._squeezed(self.selection.fixed(logits).codes).astype("int64")

    def _gap(
        self, parts: Sequence[Attribution], values: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        """Return sum - what it must sum to, what was absorbed, and what it must sum to (nan: no promise)."""
        axes = 1 if self.selection.squeeze else 2
        total = sum(array.astype("float64").sum(axis=tuple(range(axes, array.ndim))) for array in values)
        absorbed = self._field(parts, "absorbed")
        expected = np.full(total.shape, np.nan)
        if all(part.expected is not None for part in parts):
            expected = self._squeezed(np.concatenate([part.expected for part in parts if part.expected is not None]))
            expected = expected.astype("float64") - (0 if absorbed is None else absorbed)
        return total - expected, absorbed, expected

    def _warnings(
        self,
        samples: Samples,
        parts: Sequence[Attribution],
        values: Sequence[np.ndarray],
        logits: list[np.ndarray],
        explained: np.ndarray,
        gap: np.ndarray,
        expected: np.ndarray,
    ) -> list[str]:
        texts = [*samples.notes, *self.method.caveats, *_added_up(text for part in parts for text in part.warnings)]
        texts += self._about_the_target(logits, explained, values)
        largest = self._field(parts, "largest")
        axes = explained.ndim
        size = sum(np.abs(v, dtype="float64").sum(axis=tuple(range(axes, v.ndim))) for v in values)
        # Where what is shared out is next to nothing, a share of it says nothing: measure by the map too.
        scale = np.maximum(np.abs(expected), _SLIGHT * size)
        scale = scale if largest is None else np.maximum(scale, np.abs(largest))
        with np.errstate(invalid="ignore"):
            # At the baseline itself nothing is shared out, and what is left of the logits is their rounding.
            rounding = _ROUNDING * np.maximum(size, np.abs(explained))
            loose = np.abs(gap) > np.maximum(_LOOSE * scale, rounding)
        if np.any(loose):
            worst = float(np.max(np.abs(gap[loose])))
            texts.append(
                f"The values of {_samples(loose)} miss what they must sum to by more than {_LOOSE:.0%} "
                f"(largest gap {worst:.3g}): use more steps or draws, or float64."
            )
        return list(dict.fromkeys(texts))

    def _about_the_target(
        self, logits: list[np.ndarray], explained: np.ndarray, values: Sequence[np.ndarray]
    ) -> list[str]:
        selection, texts = self.selection, []
        head = self.session.view.head(selection.head) if selection.head else None
        single = head is not None and selection.kind == "class" and all(size == 1 for size in head.shape[1:])
        below = explained < 0
        if single and self.method.family != "control" and below.any():  # of maps that are not zero
            below &= np.any([np.any(v, axis=tuple(range(explained.ndim, v.ndim))) for v in values], axis=0)
        if single and self.method.family != "control" and below.any():
            shares = "what makes up that negative number, positive values raising it and negative ones lowering it"
            told = shares if self.method.shares_out else "that unit all the same, not what speaks against it"
            texts.append(
                f"The model has one output unit; its {self._word()} is negative for {_samples(below)}: their "
                f"maps show {told}."
            )
        saturated = (explained < _SATURATED) | (explained > 1 - _SATURATED)
        asks = self.method.family in ("perturbation", "control")  # what the output is at other inputs
        if saturated.any() and not asks and self._explains_probability():
            texts.append(
                f"What is explained comes out of a softmax or sigmoid, and is above {1 - _SATURATED} or below "
                f"{_SATURATED} for {_samples(saturated)}: there it hardly answers to small changes. Explain the logit: "
                "a class of the output, where its final softmax or sigmoid is taken off, or ks.Neuron(layer, index) "
                "for the layer that goes into it."
            )
        if selection.against is not None:
            settled = selection.fixed(logits)
            same = self._squeezed(settled.codes == settled.against)
            if same.any():
                texts.append(
                    f"The contrast is of the top class with itself for {_samples(same)}: there it is zero. Leave out "
                    "b, or name another class."
                )
        return texts

    def _word(self) -> str:
        """Say what kind of number was explained."""
        graph, taken = self.selection.graph, {head.logits for head in self.session.view.heads if head.taken_off}
        if not self.selection.is_logit:
            return "unit's value"
        # One unit that no sigmoid followed may be a regression's: "output" is right of both.
        single = {i for i in graph.outputs if graph.shapes[i][1:] == (1,)}
        logits = all(i in taken or (i not in single and is_logit(graph, i)) for i in graph.outputs)
        return "logit" if logits else "output"

    def _explains_probability(self) -> bool:
        selection = self.selection
        alone = selection.fn is None and selection.against is None and selection.taken_off is None
        return alone and is_probability(selection.graph, selection.graph.outputs[0])

    def _attrs(self, parts: Sequence[Attribution], seed: int, seconds: float) -> dict[str, Any]:
        view, selection = self.session.view, self.selection
        graph = view.logits
        first = parts[0]
        at_baseline = self._field(parts, "baseline_output")
        largest, log_scale = self._field(parts, "largest"), self._field(parts, "log_scale")
        noise = [part.noise for part in parts if part.noise is not None] or None
        index = [head.name for head in view.heads].index(selection.head) if selection.head else None
        return {
            "kerascope": __version__,
            "keras": keras.__version__,
            "backend": backend.name,
            "backend_version": backend.version(),
            "numpy": np.__version__,
            "python": platform.python_version(),
            "seed": seed,
            "batch_size": self.session.batch_size,
            "memory_budget": self.session.memory,
            "dtype": view.dtype,
            "seconds": round(seconds, 3),
            "model": {
                "name": view.model.name,
                "fingerprint": view.fingerprint,
                "parameters": int(view.model.count_params()),
            },
            "method": registry.config_of(self.method),
            "method_reason": self.method_reason,
            "target": {"kind": selection.kind, "text": selection.text},
            "output": {
                "head": selection.head,
                "index": index,
                "taken_off": selection.taken_off,
                "explained": self._word(),
            },
            "graph": {
                "operations": len(graph),
                "folded": list(graph.folded),
                "split": list(graph.split),
                "taken_off": list(graph.taken_off),
                "notes": list(graph.notes),
            },
            "rules": [
                {key: row[key] for key in ("node", "layer", "rule")}
                for row in self.method.rule_table(self.session.ending_in(selection.graph))
            ],
            "baseline": None
            if first.baseline is None
            else {
                "text": first.baseline_text,
                "count": len(first.baseline[0]),
                "output": None if at_baseline is None else at_baseline.tolist(),
            },
            "largest_sum": None if largest is None else largest.tolist(),
            "log_scale": None if log_scale is None else log_scale.tolist(),
            "noise": None if noise is None else np.concatenate(noise).tolist(),
            "ordered": None,
        }


def _samples(which: np.ndarray) -> str:
    """Say how many samples (or maps, with several targets) are meant."""
    return counted(int(np.sum(which)), "sample" if which.ndim == 1 else "map")


def _added_up(texts: Iterable[str]) -> list[str]:
    """Join the warnings of batches: those that differ only in the count of samples they begin with become one."""
    counts: dict[str, int | None] = {}
    for text in texts:
        match = COUNTED.fullmatch(text)
        if match is None:
            counts[text] = None
        else:
            counts[match[2]] = (counts.get(match[2]) or 0) + int(match[1])
    return [
        text if count is None else f"{count} {text if count > 1 else _of_one(text)}" for text, count in counts.items()
    ]


def _of_one(text: str) -> str:
    """Return a warning of several samples or maps as one of a single one."""
    return re.sub(r"\A((?:explained )?(?:sample|map|logit))s are\b", r"\1 is", text)


def _joined(
    parts: Sequence[Attribution], of: Callable[[Attribution], tuple[np.ndarray, ...] | None]
) -> list[np.ndarray] | None:
    found = [of(part) for part in parts]
    if any(arrays is None for arrays in found):
        return None
    return [np.concatenate(column) for column in zip(*(arrays or () for arrays in found), strict=True)]


def _nothing(logits: Any) -> Any:
    """Stand in for a target where only outputs are asked for."""
    return logits
