"""Trace every case model under the Keras of this environment and compare the graph with the model.

Each model of `tests/cases.py` is built and traced, and its graph, as traced and as canonized, run on its
samples at three batch sizes: the outputs must be the model's own. Prints one row a model; exit status 1 if any
row fails.
`make trace-matrix` runs this under the oldest and the newest Keras supported.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from rich.console import Console
from rich.table import Table

from kerascope.model.canonize import evaluate
from kerascope.model.view import ModelView, signature_of

TOLERANCE = 1e-5
HALF_TOLERANCE = 5e-3  # of models that compute in 16 bits, which their graphs do not
BATCHES = (1, 2, 3)


def distance(found: Sequence[Any], expected: Sequence[np.ndarray]) -> float:
    """Return the largest difference of any output, relative to that output's largest value where above 1."""
    if len(found) != len(expected):
        raise ValueError(f"the model has {len(expected)} outputs, the graph {len(found)}")
    worst = 0.0
    for a, b in zip(found, expected, strict=True):
        if a.shape != b.shape:
            raise ValueError(f"the model returns {b.shape}, the graph {a.shape}")
        worst = max(worst, float(np.abs(a - b).max(initial=0.0) / max(1.0, np.abs(b).max(initial=0.0))))
    return worst


def check(case: Any) -> tuple[int, float]:
    """Build and trace one case; return its number of operations and the largest difference."""
    model, x = case.build(), case.sample(max(BATCHES))
    signature = signature_of(model, x)
    arrays = signature.flatten(x)
    view = ModelView(model, signature, arrays)
    whole = replace(view.graph, outputs=tuple(head.final for head in view.heads))
    worst = 0.0
    for batch in BATCHES:
        part = [array[:batch] for array in arrays]
        expected, tensors = view.predict_raw(part), view.to_tensors(part)
        for graph in (view.traced, whole):
            worst = max(worst, distance(evaluate(graph, tensors), expected))
    return len(view.traced), worst


def rows(pattern: str) -> Iterator[tuple[bool, tuple[str, ...]]]:
    """Check every case whose name holds the pattern: whether it is good, and the cells of its row."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    for case in importlib.import_module("tests.cases").cases():
        if pattern not in case.name:
            continue
        start = time.perf_counter()
        keras.utils.clear_session()
        try:
            operations, worst = check(case)
        except Exception as error:  # one that fails must not hide the others
            yield False, (case.name, "", "", "", f"{type(error).__name__}: {error}")
            continue
        allowed = HALF_TOLERANCE if "half" in case.traits else TOLERANCE
        word = "exact" if worst == 0 else "ok" if worst <= allowed else "DIFFERS"
        seconds = f"{time.perf_counter() - start:.2f}"
        yield word != "DIFFERS", (case.name, str(operations), f"{worst:.1e}", seconds, word)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", metavar="TEXT", help="only the cases whose name holds this text")
    title = f"Keras {keras.__version__} on {keras.backend.backend()}, Python {sys.version.split()[0]}"
    table = Table("model", "operations", "difference", "seconds", "result", title=title)
    failed = total = 0
    for good, cells in rows(parser.parse_args().only):
        failed, total = failed + (not good), total + 1
        table.add_row(*cells, style="" if good else "bold red")
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table)
    console.print(f"{title}: {total - failed} of {total} models traced as they should be, {failed} not.")
    return 1 if failed or not total else 0


if __name__ == "__main__":
    sys.exit(main())
