"""`kerascope fit-patterns`: learn what makes each neuron of a model answer, for the pattern methods."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kerascope.cli import options as opt

if TYPE_CHECKING:
    from rich.console import Console

    from kerascope.patterns.store import Patterns

Estimator = Annotated[
    list[str] | None,
    typer.Option(
        help="relu (from active observations where a ReLU follows, else linear) or linear; LAYER=relu, LAYER=linear, "
        "LAYER=relu_negative for one layer or a glob; repeatable."
    ),
]


def fit_patterns(
    model: opt.Model,
    data: opt.Data,
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write.")] = Path("patterns.npz"),
    estimator: Estimator = None,
    preprocess: opt.Preprocess = None,
    samples: opt.Samples = None,
    batch_size: opt.BatchSize = 32,
    json: opt.Json = False,
    force: opt.Force = False,
    unsafe: opt.Unsafe = False,
    custom_objects: opt.CustomObjects = None,
    quiet: opt.Quiet = False,
) -> None:
    """Learn the patterns of a model's neurons from training data, for patternnet and pattern_attribution.

    Example: `kerascope fit-patterns model.keras data.npz::x_train --out patterns.npz`

    Example: `kerascope explain model.keras data.npz::x_test -m pattern_attribution --patterns patterns.npz`
    """
    from kerascope.cli import outputs, parse, terminal

    chosen = parse.samples(samples)
    if any(Path(str(used).rpartition("::")[0] or str(used)).resolve() == out.resolve() for used in (model, *data)):
        raise typer.BadParameter(f"{out} is one of the inputs.", param_hint="--out")
    outputs.check_file(out, force=force)
    with terminal.only_json(json):
        terminal.start_backend(quiet=quiet)
        wanted = parse.estimator(estimator or [])
        found, warned = _fit(
            *(model, data, chosen, wanted, batch_size, preprocess),
            unsafe=unsafe,
            custom_objects=custom_objects or [],
            quiet=quiet,
        )
        found.save(out, overwrite=force)
    if json:
        terminal.print_json({**_as_data(found, model, data, out), "warnings": list(warned)})
    else:
        _print(terminal.stdout(), found, warned, out)


def _fit(
    path: Path,
    data: Sequence[str],
    chosen: slice | None,
    estimator: Any,
    batch_size: int,
    preprocess: str | None,
    *,
    unsafe: bool,
    custom_objects: Sequence[Path],
    quiet: bool,
) -> tuple[Patterns, tuple[str, ...]]:
    """Read the model and the data, and fit; return what to know beside the patterns."""
    from kerascope.cli import io, terminal
    from kerascope.cli.custom import load_custom_objects
    from kerascope.cli.pictures import pictures_of
    from kerascope.errors import BadInputError, KerascopeWarning, UnknownNameError
    from kerascope.model.load import load_model
    from kerascope.patterns.store import Patterns

    model = load_model(path, unsafe=unsafe, custom_objects=load_custom_objects(custom_objects))
    inputs = [tensor.name for tensor in getattr(model, "inputs", None) or ()]
    pictures = pictures_of(model, preprocess)
    read = io.read_data(data, inputs=inputs, pictures=pictures).chosen(chosen)
    pictures.check_used()
    with terminal.progress_bar("Fitting patterns", quiet=quiet) as progress, warnings.catch_warnings():
        warnings.simplefilter("ignore", KerascopeWarning)  # printed with the table
        try:
            found = Patterns.fit(model, read.values, estimator=estimator, batch_size=batch_size, progress=progress)
            return found, (*found.warnings, *pictures.warnings)
        except UnknownNameError as error:
            raise terminal.wrong_usage(error, "--estimator") from error
        except BadInputError as error:
            if str(error).startswith("x "):  # the argument's name in Python; here the file's says more
                raise BadInputError(f"{read.source}: {error}") from error
            raise


def _as_data(found: Patterns, model: Path, data: Sequence[str], out: Path) -> dict[str, Any]:
    """Return everything that is printed as plain data."""
    from kerascope._version import __version__

    return {
        "kerascope": __version__,
        "model": str(model),
        "data": list(data),
        "patterns": str(out),
        **{name: getattr(found, name) for name in ("fingerprint", "estimator", "samples")},
        "layers": found.table().to_dict("records"),
    }


def _print(console: Console, found: Patterns, warned: Sequence[str], out: Path) -> None:
    """Print a table of the layers for people."""
    from rich.table import Table
    from rich.text import Text

    from kerascope.errors import counted

    console.print(Text(f"Patterns of model {found.model!r} from {counted(found.samples, 'sample')}", style="bold"))
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for title in ("layer", "kind", "estimator"):
        table.add_column(title, no_wrap=title == "layer")
    for title in ("neurons", "each reads", "observations", "fewest positive", "dead"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in found.table().to_dict("records"):
        numbers = (f"{row[key]:,}" for key in ("neurons", "reads", "observations", "fewest", "dead"))
        table.add_row(*(Text(str(row[key])) for key in ("layer", "kind", "estimator")), *numbers)
    console.print(table)
    for text in warned:
        console.print(Text(f"Warning: {text}", style="yellow"), soft_wrap=True)
    console.print(f"Saved {out}", soft_wrap=True)
