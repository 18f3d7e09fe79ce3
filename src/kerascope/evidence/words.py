"""What a reader of evidence is told beside the numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kerascope.evidence import sentences
from kerascope.evidence.drops import Drops
from kerascope.evidence.lines import Lines
from kerascope.explanation import Explanation

_AGREE = 0.5
"""Below this correlation sums and drops are said to disagree."""
_FEW = 5
"""Fewer lines (or samples) than this say nothing about agreement (or absence)."""


def agreement(sums: NDArray[np.float64], drops: Drops) -> float | None:
    """Return the correlation of line sums with drops (Pearson: strong lines count); None where nothing varies."""
    if len(sums) < _FEW or np.ptp(sums) == 0 or np.ptp(drops.mean) == 0:
        return None
    return float(np.corrcoef(sums, drops.mean)[0, 1])


def of_disagreement(found: dict[str, float | None], *, grouped: bool) -> list[str]:
    """Say along which dims the map and the check by the model tell different stories; ``grouped``: with groups."""
    advice = "" if grouped else " (groups='correlated' tests them together)"
    return [
        f"The map and the check by the model disagree along {dim!r}: over the lines replaced, sums and drops have a "
        f"correlation of {value:.2f}. Correlated lines{advice}, or fills far from the data, can be the reason."
        for dim, value in found.items()
        if value is not None and value < _AGREE
    ]


def _beyond(ratio: float) -> str:
    """Say how far the largest class of references is above the cleanest."""
    if np.isinf(ratio):
        return "one class typically has some where the cleanest class never does"
    return f"one class's typical maximum is {ratio:.1f} times what the cleanest class reaches at most"


def of_mixtures(tested: dict[str, Lines]) -> list[str]:
    """Say where references carry part of the evidence themselves."""
    return [
        f"Some of the references carry part of the evidence: along {dim!r} {_beyond(max(lines.mixed))}. p is then "
        "too large; 'p_clean' is against the cleanest classes alone, and references= takes inputs that have no "
        "evidence at all."
        for dim, lines in tested.items()
        if lines.mixed
    ]


def of_references(source: str, sign: str, *, linear: bool, strangers: Sequence[int]) -> list[str]:
    """Say where references may carry what they should be free of; `Study.source` says where they come from."""
    texts = []
    if strangers and source != "given":
        texts.append(
            f"background_labels holds {', '.join(map(str, strangers[:5]))}, which is no class of the model: those "
            "samples are references of every class. Classes are counted from 0."
        )
    if source == "background":
        texts.append(
            "What is explained is no class: the whole background serves as references, also samples that carry what is "
            "looked for, and p is then too large. Give references= without it."
        )
    if source == "other classes" and sign == "both":
        texts.append(
            "References of other classes carry evidence against the class explained: with sign='both' one maximum "
            "holds for both signs, and p is then too large. Give references= free of both, or seek one sign."
        )
    if linear:
        texts.append(
            "The model's one output has no sigmoid: it is taken for the logit of a class, and background samples above "
            "zero for that class. For regression give references=."
        )
    return texts


def of_absence(classes: NDArray[np.int64], tested: Sequence[Lines], found: Explanation) -> list[str]:
    """Name the classes of which no sample has a called line, where evidence for them was sought."""
    called = np.any([lines.called.any(axis=1) for lines in tested], axis=0)
    silent = [int(c) for c in np.unique(classes) if np.sum(classes == c) >= _FEW and not called[classes == c].any()]
    if not silent:
        return []
    named = [_class_name(label, found) for label in silent]
    return [
        f"No line was called in any sample of {', '.join(named)}: the model seems to recognise it by the absence of "
        "the other classes' evidence, or its evidence is spread too thin."
    ]


def _class_name(label: int, found: Explanation) -> str:
    name = sentences.of_class(found, label, "this target")
    return repr(name) if name in (found.class_names or ()) else name


def of_few_references(counts: dict[int, int], level: float, least: int) -> list[str]:
    """Say where there are too few references for anything to be called."""
    if not counts or min(counts.values()) >= least:
        return []
    count = min(counts.values())
    return [
        f"Only {count} references: p cannot go below 1/{count + 1}, so nothing can be called at level {level:g}. At "
        f"least {least} are needed: give more background samples of other classes."
    ]
