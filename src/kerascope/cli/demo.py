"""`kerascope demo`: matrices whose answer is known, then real ones."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kerascope.cli import options as opt

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from rich.console import Console

    from kerascope.datasets import Dataset, Planted
    from kerascope.explanation import Explanation

PLANTED, MOTIONS = "planted", "basic_motions"


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to make for the results.")] = Path("kerascope-demo"),
    force: opt.Force = False,
    quiet: opt.Quiet = False,
) -> None:
    """Explain two shipped models: matrices whose answer is known, then the motions of people.

    First planted matrices: each class is marked by a motif in a row of its own, so the right answer is known,
    and how often it is found is counted. Then BasicMotions: 100 time steps of 6 sensors, 4 activities.

    Example: `kerascope demo --out demo`
    """
    from kerascope.cli import terminal

    with _finished_folder(out, force=force) as folder:
        terminal.start_backend(quiet=quiet)
        console = terminal.stdout()
        _planted(console, folder, quiet=quiet)
        _motions(console, folder, quiet=quiet)
    console.print()
    for name in (PLANTED, MOTIONS):
        console.print(f"Report {out / name / 'report.html'}", soft_wrap=True)
        for store in sorted((out / name).glob("*.zarr")):
            console.print(f"Saved  {store}", soft_wrap=True)


@contextlib.contextmanager
def _finished_folder(out: Path, *, force: bool) -> Iterator[Path]:
    """Give a hidden folder beside `out` that becomes `out` when all went well, and goes away when not."""
    from kerascope.cli.outputs import check_folder

    check_folder(out, force=force, made_of=(PLANTED, MOTIONS))
    folder = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        folder.chmod(0o755)  # as any folder that one makes
        yield folder
        if out.exists():
            shutil.rmtree(out)
        folder.rename(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _planted(console: Console, folder: Path, *, quiet: bool) -> None:
    """Explain planted matrices and count how often the planted row and stretch come first."""
    from kerascope import datasets

    data = datasets.planted(60, seed=1)
    _title(console, "1. Matrices whose answer is known")
    console.print(
        f"{len(data)} matrices of {data.x.shape[1]} rows and {data.x.shape[2]} columns. A motif in one of "
        f"{len(data.class_names) - 1} rows marks the class; the last class has none.",
        soft_wrap=True,
    )
    background = datasets.planted(50, seed=2).x
    found = _explained(PLANTED, data, background, folder, quiet=quiet, truth=data.truth)
    _print(console, found, data)
    console.print()
    for explanation in found:
        _count(console, explanation, data)


def _motions(console: Console, folder: Path, *, quiet: bool) -> None:
    """Explain the test samples of BasicMotions."""
    from kerascope import datasets

    train, data = datasets.basic_motions("train"), datasets.basic_motions("test")
    _title(console, "2. The motions of people (BasicMotions)")
    console.print(
        f"{len(data)} samples of {data.x.shape[1]} {data.dims[0]} steps and {data.x.shape[2]} "
        f"{data.dims[1]}s: "
        f"{', '.join(data.class_names)}.",
        soft_wrap=True,
    )
    _print(console, _explained(MOTIONS, data, train.x, folder, quiet=quiet), data)


def _title(console: Console, text: str) -> None:
    from rich.text import Text

    console.print(Text(f"\n{text}", style="bold reverse"))


def _explained(
    name: str, data: Dataset, background: np.ndarray, folder: Path, *, quiet: bool, truth: Any = None
) -> list[Explanation]:
    """Explain a shipped model's samples by two methods; save the stores and the report."""
    from kerascope import datasets
    from kerascope.cli.terminal import progress_bar
    from kerascope.errors import KerascopeWarning
    from kerascope.explain import explain
    from kerascope.model.load import load_model
    from kerascope.report import report

    model = load_model(datasets.demo_file(f"{name}.keras"))
    names = {**data.names, "coords": {**data.coords, "sample": _sample_names(data)}}
    wanted: dict[str, dict[str, Any]] = {
        "expected_gradients": {"background": _as_taken(model, background), "draws": 400},
        "lrp.epsilon": {},
    }
    found = []
    for method, given in wanted.items():
        with progress_bar(f"{name}, {method}", quiet=quiet) as progress, warnings.catch_warnings():
            warnings.simplefilter("ignore", KerascopeWarning)
            found.append(explain(model, _as_taken(model, data.x), method, progress=progress, **names, **given))
        found[-1].save(folder / name / f"{method}.zarr")
    report(found, folder / name / "report.html", truth=truth)
    return found


def _as_taken(model: Any, x: np.ndarray) -> np.ndarray:
    """Return samples (N, H, W) with a channel axis of size 1 where the model takes one."""
    return x[..., None] if len(model.input_shape) == 4 else x


def _sample_names(data: Dataset) -> list[str]:
    """Return a name for each sample: its true class and a number, as "walking 3"."""
    count = dict.fromkeys(range(len(data.class_names)), 0)
    names = []
    for y in data.y.tolist():
        count[y] += 1
        names.append(f"{data.class_names[y]} {count[y]}")
    return names


def _print(console: Console, found: list[Explanation], data: Dataset) -> None:
    """Print what was explained, and by the first method the tables of one sample of each class."""
    import numpy as np

    from kerascope.cli.show import print_method, print_samples

    print_method(console, found[0])
    first_of_each = np.sort(np.unique(data.y, return_index=True)[1])
    print_samples(console, found[0][first_of_each])
    console.print(f"\nAll {len(data)} samples are in the report, by {found[1].method_name} as well.")


def _count(console: Console, explanation: Explanation, data: Planted) -> None:
    """Print how often the planted row and the planted stretch were ranked first."""
    import numpy as np

    marked = np.flatnonzero((data.row >= 0) & (np.asarray(explanation.target) == data.y)).tolist()
    rows = _first(explanation.rows())
    stretches = _first(explanation.segments(data.dims[1]))
    row_first = sum(rows[i]["index"] == data.row[i] for i in marked)
    stretch_first = 0
    for i in marked:
        best = stretches.get(i, {"line": -1})
        if best["line"] == data.row[i]:
            both = min(best["stop"], data.stop[i]) - max(best["start"], data.start[i])
            either = max(best["stop"], data.stop[i]) - min(best["start"], data.start[i])
            stretch_first += both >= either / 2
    console.print(
        f"{explanation.method_name}: of {len(marked)} samples with a motif whose class the model got right, "
        f"the "
        f"planted row ranked first in {row_first}, the planted stretch (at least half in common) in "
        f"{stretch_first}.",
        style="bold",
        soft_wrap=True,
    )


def _first(table: pd.DataFrame) -> dict[int, dict[Any, Any]]:
    """Return the best line of a ranked table for each sample that has one."""
    best = table.drop_duplicates("sample").to_dict("records")
    return {int(line["sample"]): line for line in best}
