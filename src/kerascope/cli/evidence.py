"""`kerascope evidence`: tested rows, columns and stretches, with drops and p-values."""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kerascope.cli import options as opt

if TYPE_CHECKING:
    from kerascope.evidence.record import Evidence

DETAILED = 20
"""Samples whose findings are printed; the rest is counted."""
Background = Annotated[
    str, typer.Option(help="FILE[::KEY] of samples of all classes: what is found is compared with them.")
]
BackgroundLabels = Annotated[
    str | None, typer.Option(help="FILE with the class of each background sample; else the model says.")
]
References = Annotated[str | None, typer.Option(help="FILE[::KEY] of inputs known to hold no evidence.")]
Ordered = Annotated[str | None, typer.Option(help="The axes along which neighbours mean something, as time.")]
Groups = Annotated[
    str | None,
    typer.Option(
        help="Lines tested together: 'correlated', a correlation as 0.7, or FILE with the group of each line; "
        "DIM=… says along which axis."
    ),
]
Level = Annotated[float, typer.Option(help="Level of the test, over all lines of one matrix.")]
Sign = Annotated[str, typer.Option(help="Evidence for the class (positive), against it (negative), or both.")]
NoCheck = Annotated[bool, typer.Option("--no-check", help="Do not measure drops with the model: quicker.")]
OneMethod = Annotated[
    str | None, typer.Option("--method", "-m", help="The map's method; else integrated gradients with 16 steps.")
]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the command line asked for, word by word."""

    model: Path
    data: list[str]
    background: str
    background_labels: str | None
    references: str | None
    method: str | None
    target: str | None
    class_names: str | None
    preprocess: str | None
    dims: str | None
    ordered: str | None
    groups: str | None
    coord: list[str]
    option: list[str]
    samples: str | None
    level: float
    sign: str
    no_check: bool
    out: Path | None
    report: Path | None
    batch_size: int
    seed: int
    json: bool
    force: bool
    unsafe: bool
    custom_objects: list[Path]
    quiet: bool

    @property
    def inputs(self) -> list[str | Path]:
        """Every file that is read."""
        named = (self.background, self.background_labels, self.references, self.class_names)
        return [self.model, *self.data, *(name for name in named if name)]


def evidence(
    model: opt.Model,
    data: opt.Data,
    background: Background,
    background_labels: BackgroundLabels = None,
    references: References = None,
    method: OneMethod = None,
    target: opt.Target = None,
    class_names: opt.ClassNames = None,
    preprocess: opt.Preprocess = None,
    dims: opt.Dims = None,
    ordered: Ordered = None,
    groups: Groups = None,
    coord: opt.Coord = None,
    option: opt.Option = None,
    samples: opt.Samples = None,
    level: Level = 0.05,
    sign: Sign = "positive",
    no_check: NoCheck = False,
    out: opt.Out = None,
    report: opt.Report = None,
    batch_size: opt.BatchSize = 32,
    seed: opt.Seed = 0,
    json: opt.Json = False,
    force: opt.Force = False,
    unsafe: opt.Unsafe = False,
    custom_objects: opt.CustomObjects = None,
    quiet: opt.Quiet = False,
) -> None:
    """Say which rows, columns and stretches speak for the class, and how sure that is.

    Each line is compared with the strongest line of every background sample of another class; what is called is
    checked by replacing it with other samples' values. --out saves tables and maps, --report writes a page to look
    at.

    Example: `kerascope evidence model.keras data.npz::x_test --background data.npz::x_train
    --background-labels y_train.csv --dims time,sensor --ordered time --report evidence.html`
    """
    given = dict(locals())
    for name in ("coord", "option", "custom_objects"):
        given[name] = given[name] or []
    run(Request(**given))


def run(request: Request) -> None:
    """Do what the command line asked for."""
    from kerascope.cli import outputs, parse, terminal

    parse.samples(request.samples)  # wrong usage is said before anything heavy is imported
    parse.dims(request.dims)
    places = outputs.plan(request.out, request.report, ["evidence"], force=request.force, inputs=request.inputs)
    with terminal.only_json(request.json):
        terminal.start_backend(quiet=request.quiet)
        found = _find(request)
        for path in places.stores:
            found.save(path, overwrite=request.force)
        if places.report:
            found.report(places.report, overwrite=request.force)
    if request.json:
        terminal.print_json(as_data(found) | {"report": str(places.report) if places.report else None})
        return
    _print(found)
    if request.out or request.report:
        terminal.stdout().print()
    for what, place in (("Saved", request.out), ("Report", request.report)):
        if place:
            terminal.stdout().print(f"{what} {place}", soft_wrap=True)


def _find(request: Request) -> Evidence:
    from kerascope.cli import io, parse, targets, terminal
    from kerascope.cli.custom import load_custom_objects
    from kerascope.cli.pictures import pictures_of
    from kerascope.errors import KerascopeWarning
    from kerascope.evidence.pipeline import evidence as find
    from kerascope.model.load import load_model

    model = load_model(request.model, unsafe=request.unsafe, custom_objects=load_custom_objects(request.custom_objects))
    inputs = [tensor.name for tensor in getattr(model, "inputs", None) or ()]
    pictures = pictures_of(model, request.preprocess)
    read = functools.partial(io.read_array, inputs=inputs, pictures=pictures)
    data = io.read_data(request.data, inputs=inputs, pictures=pictures).chosen(parse.samples(request.samples))
    names = parse.class_names(request.class_names)
    dims, coords = data.named(parse.dims(request.dims))
    coords.update(parse.coords(request.coord))
    if data.samples is not None:
        coords["sample"] = data.samples
    options = parse.options_by_method([request.method], parse.options(request.option))[0] if request.option else {}
    background = read(request.background)
    references = None if request.references is None else read(request.references)
    labels = request.background_labels
    pictures.check_used()
    with terminal.progress_bar("evidence", quiet=request.quiet) as progress, warnings.catch_warnings():
        warnings.simplefilter("ignore", KerascopeWarning)  # they stand in the result, and are printed with it
        found = find(
            model,
            data.values,
            background=background,
            background_labels=None if labels is None else parse.class_indices(labels, names),
            references=references,
            method=request.method,
            target=targets.target(request.target, names),
            dims=dims,
            coords=coords,
            class_names=names,
            ordered=parse.dims(request.ordered),
            groups=_groups(request.groups),
            level=request.level,
            sign=request.sign,  # type: ignore[arg-type]  # checked there, and refused by name
            check=not request.no_check,
            batch_size=request.batch_size,
            seed=request.seed,
            progress=progress,
            **options,
        )
    return pictures.noted_evidence(found)


def _groups(text: str | None) -> Any:
    """Return `correlated`, a correlation, or a file's groups, numbers or names; in a dict where `DIM=` leads."""
    from kerascope.cli import io

    if text is None:
        return None
    dim, equals, value = text.rpartition("=")
    found: Any = value
    if value != "correlated":
        try:
            found = float(value)
        except ValueError:
            found = io.read_names(value, "--groups")
    return {dim.strip(): found} if equals else found


def _print(found: Evidence) -> None:
    """Print a sentence for every finding of the first samples, and what to know."""
    from rich.text import Text

    from kerascope.cli import terminal
    from kerascope.evidence import sentences
    from kerascope.view.picture import PREPARED
    from kerascope.view.text import sample_label

    console = terminal.stdout()
    console.print()
    console.print(Text(f"Evidence at level {found.attrs['level']:g}", style="bold underline"))
    counts = sentences.of_references(found)
    console.print(f"  map: {found.explanation.method_name}; references: {counts}", soft_wrap=True)
    pictures = found.explanation.attrs.get(PREPARED)
    if pictures:
        console.print(f"  pictures: {pictures['text']}", soft_wrap=True)
    for warning in found.warnings:
        console.print(Text(f"  Warning: {warning}", style="yellow"), soft_wrap=True)
    for sample in range(min(len(found), DETAILED)):
        title = sentences.title(found, sample, sample_label(found.explanation, sample))
        console.print()
        console.print(Text(title, style="bold"), soft_wrap=True)
        for text in sentences.of_sample(found, sample) or ["nothing stands out from the references"]:
            console.print(f"  {text}", soft_wrap=True)
    if len(found) > DETAILED:
        console.print(f"\n… and {len(found) - DETAILED} more samples: all of them with --json or --out.")


def as_data(found: Evidence) -> dict[str, Any]:
    """Return the findings as plain data: called lines and stretches of every sample."""
    from kerascope.evidence import sentences
    from kerascope.view.picture import PREPARED

    attrs = found.explanation.attrs
    return {
        **{name: attrs.get(name) for name in ("kerascope", "keras", "backend", "seed")},
        **found.attrs,
        "preprocess": (attrs.get(PREPARED) or {}).get("name"),
        "warnings": list(found.warnings),
        "samples": [
            {
                "sample": sample,
                "class": int(found.classes[sample]),
                "class_name": sentences.class_name(found, sample),
                "explained": float(found.explanation.explained[sample]),
                **{
                    name: table.drop(columns=["sample", "target"]).to_dict("records")
                    for name, table in zip(("rows", "columns", "segments"), found.of(sample), strict=True)
                },
            }
            for sample in range(len(found))
        ],
    }
