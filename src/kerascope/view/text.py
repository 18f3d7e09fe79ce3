"""Numbers as people write them, and what was explained in a phrase."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from kerascope.record import each

if TYPE_CHECKING:
    from kerascope.explanation import Explanation

SPACE = "\u00a0"
"""Space at which no line is broken."""


def number(value: float, *, signed: bool = False) -> str:
    r"""Return a number with three significant digits and a true minus sign.

    >>> number(-2.3456), number(0.0000123), number(4.0, signed=True)
    ('−2.35', '1.23\xa0×\xa010⁻⁵', '+4.00')
    """
    value = float(value)
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else ("infinite" if value > 0 else "−infinite")
    size = abs(value)
    sign = "−" if value < 0 else ("+" if signed and size > 0 else "")
    if size == 0:
        return "0"
    if size < 1e-3 or size >= 1e6:
        mantissa, exponent = f"{size:.2e}".split("e")
        return f"{sign}{mantissa}{SPACE}×{SPACE}10{str(int(exponent)).translate(_SUPERSCRIPT)}"
    digits = max(0, 2 - math.floor(math.log10(size)))
    return f"{sign}{size:.{digits}f}"


_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def percent(share: float) -> str:
    """Return a share as per cent: ``31 %``, ``0.4 %``, ``< 0.1 %``."""
    if not math.isfinite(share):
        return "not available"
    value = 100.0 * share
    if 0 < abs(value) < 0.1:
        return f"< 0.1{SPACE}%"
    text = f"{abs(value):.1f}" if 0 < abs(value) < 10 else f"{abs(value):.0f}"
    return f"{'−' if value < 0 else ''}{text}{SPACE}%"


def at(array: Any, sample: int, target: int) -> float:
    """Return one number of an array (N,) or (N, T); NaN where there is none."""
    if array is None:
        return math.nan
    row = np.asarray(array)[sample]
    return float(row if np.ndim(row) == 0 else row[target])


def target_phrase(explanation: Explanation, sample: int, target: int) -> str:
    """Return what was explained in a phrase: "class walking", "class 3", or the target in words."""
    name = explanation.target_name(sample, target)
    named = is_class(explanation) and name in (explanation.class_names or ())
    return f"class {name}" if named else name


def target_index(explanation: Explanation, sample: int, target: int) -> int:
    """Return the class index explained for a sample."""
    return int(at(explanation.target, sample, target))


def is_class(explanation: Explanation) -> bool:
    """Say whether the targets are classes."""
    targets = explanation.target
    return isinstance(targets, np.ndarray) and targets.dtype.kind in "iu"


def explained_word(explanation: Explanation) -> str:
    """Return what kind of number was explained: "logit", "output", "unit's value"."""
    return str((explanation.attrs.get("output") or {}).get("explained") or "logit")


def headline(e: Explanation, sample: int, target: int, label: str) -> str:
    """Return the heading: sample, class, number explained, as "Sample 3: class walking, logit 4.20".

    Args:
        e: the explanation.
        sample: its position.
        target: position along the axis of targets.
        label: the sample's name.
    """
    value = number(at(e.explained, sample, target))
    return f"{label}: {target_phrase(e, sample, target)}, {explained_word(e)} {value}"


def sample_label(e: Explanation, sample: int) -> str:
    """Return a sample's name: its coordinate, where samples have names, else its number."""
    names = e.coords.get("sample")
    return f"Sample {sample if names is None else names[sample]}"


def single(e: Explanation, sample: int, target: int = 0) -> Explanation:
    """Return an explanation of one sample and one target, without an axis of targets.

    Args:
        e: the explanation.
        sample: its position.
        target: position along the axis of targets.
    """
    one = e[sample]
    if one.explained.ndim == 1:
        return one

    def pick(arrays: Any) -> Any:
        return None if arrays is None else each(lambda array: array[:, target], arrays)

    names = (
        "values",
        "explained",
        "completeness_gap",
        "absorbed",
        "standard_error",
        "layer_map",
        "group_values",
    )
    classes = one.target[:, target] if isinstance(one.target, np.ndarray) else one.target
    return dataclasses.replace(one, target=classes, **{name: pick(getattr(one, name)) for name in names})
