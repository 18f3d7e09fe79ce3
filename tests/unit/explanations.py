"""Explanations made of drawn numbers, for tests of the record, its tables and its store."""

from __future__ import annotations

from typing import Any

import numpy as np

from kerascope.explanation import Explanation


def make(*, n: int = 4, targets: int | None = None, shape: tuple[int, ...] = (3, 5), **fields: Any) -> Explanation:
    """One input, three classes; `targets` adds an axis of so many targets."""
    rng = np.random.default_rng(0)
    lead = (n,) if targets is None else (n, targets)
    names = {1: ("feature",), 2: ("row", "column"), 3: ("row", "column", "channel")}
    made: dict[str, Any] = {
        "values": rng.normal(size=lead + shape).astype(np.float32),
        "inputs": rng.normal(size=(n, *shape)).astype(np.float32),
        "outputs": rng.normal(size=(n, 3)).astype(np.float32),
        "explained": rng.normal(size=lead).astype(np.float32),
        "target": rng.integers(0, 3, size=lead),
        "method": "lrp.epsilon",
        "dims": names.get(len(shape), tuple(f"axis_{i}" for i in range(len(shape)))),
        "attrs": {"method": {"name": "lrp.epsilon", "question": "where?"}, "target": {"text": "top class"}},
    }
    return Explanation(**(made | fields))


def make_full(**fields: Any) -> Explanation:
    """Two targets, three channels, and every field in use."""
    rng = np.random.default_rng(1)
    full: dict[str, Any] = {
        "coords": {
            "sample": np.array(["a", "b", "c", "d"]),
            "row": np.array(["weiß", "语言", "x y/z"]),
            "column": np.array([0.25, 0.5, 0.75, 1.0, np.nan]),
        },
        "class_names": ("no", "maybe", "ja — 是"),
        "completeness_gap": np.array([[0.0, np.nan], [1e-7, 1.0], [2.0, 3.0], [np.inf, -1.0]]),
        "absorbed": rng.normal(size=(4, 2)),
        "standard_error": rng.normal(size=(4, 2, 3, 5, 3)),
        "baseline": rng.normal(size=(6, 3, 5, 3)).astype(np.float32),
        "group_values": rng.normal(size=(4, 2, 7)),
        "layer_map": rng.normal(size=(4, 2, 2, 3)).astype(np.float16),
        "warnings": ("the logit is negative", "<b>"),
        "attrs": {
            "seed": 3,
            "dtype": "float32",
            "epsilon": 1e-6,
            "compiled": True,
            "nothing": None,
            "method": {
                "name": "lrp.epsilon",
                "options": {"epsilon": 1e-6, "window": (1, 2)},
                "question": "where?",
            },
            "odd": [float("nan"), float("inf"), (1, (2, "3"))],
            "largest_sum": [1.0, 2.0, 3.0, 4.0],
            "baseline": {"text": "mean", "count": 6, "output": [0.1, 0.2, 0.3, 0.4]},
            "ordered": None,
        },
    }
    return make(targets=2, shape=(3, 5, 3), **(full | fields))


def make_several(kind: type = dict, **fields: Any) -> Explanation:
    """Two inputs with different sizes along dims of the same names, two heads."""
    rng = np.random.default_rng(2)
    shapes = {"left/in": (3, 5), "right": (2, 4, 2)}

    def arrays(lead: int) -> Any:
        found = {name: rng.normal(size=(lead, *shape)) for name, shape in shapes.items()}
        return found if kind is dict else kind(found.values())

    made: dict[str, Any] = {
        "values": arrays(4),
        "inputs": arrays(4),
        "baseline": arrays(2),
        "standard_error": arrays(4),
        "outputs": {"a/b": rng.normal(size=(4, 3)), "c": rng.normal(size=(4, 6, 2))},
        "dims": {"left/in": ("row", "column"), "right": ("row", "column", "channel")},
    }
    return make(**(made | fields))
