"""`kerascope explain`: from a model file and data to ranked tables, a store and a report."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerascope.cli import options as opt

if TYPE_CHECKING:
    from kerascope.cli.io import Data
    from kerascope.cli.outputs import Outputs
    from kerascope.explain import Explainer
    from kerascope.explanation import Explanation


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the command line asked for, word by word."""

    model: Path
    data: Sequence[str]
    method: Sequence[str]
    target: str | None
    background: str | None
    baseline: str | None
    patterns: Path | None
    labels: str | None
    class_names: str | None
    preprocess: str | None
    dims: str | None
    coord: Sequence[str]
    option: Sequence[str]
    samples: str | None
    out: Path | None
    report: Path | None
    figures: Path | None
    batch_size: int
    memory_budget: str
    seed: int
    json: bool
    force: bool
    unsafe: bool
    custom_objects: Sequence[Path]
    quiet: bool

    @property
    def inputs(self) -> list[str | Path]:
        """Every file that is read."""
        named = (self.background, self.baseline, self.patterns, self.labels, self.class_names)
        return [self.model, *self.data, *(name for name in named if name)]


def explain(
    model: opt.Model,
    data: opt.Data,
    method: opt.Method = None,
    target: opt.Target = None,
    background: opt.Background = None,
    baseline: opt.Baseline = None,
    patterns: opt.Patterns = None,
    labels: opt.Labels = None,
    class_names: opt.ClassNames = None,
    preprocess: opt.Preprocess = None,
    dims: opt.Dims = None,
    coord: opt.Coord = None,
    option: opt.Option = None,
    samples: opt.Samples = None,
    out: opt.Out = None,
    report: opt.Report = None,
    figures: opt.Figures = None,
    batch_size: opt.BatchSize = 32,
    memory_budget: opt.MemoryBudget = "1GiB",
    seed: opt.Seed = 0,
    json: opt.Json = False,
    force: opt.Force = False,
    unsafe: opt.Unsafe = False,
    custom_objects: opt.CustomObjects = None,
    quiet: opt.Quiet = False,
) -> None:
    """Explain what a model says about samples: which rows, columns and stretches made it say so.

    Prints the ranked rows, columns and stretches of each sample; --out saves the maps, --report writes a page
    to look at, --figures pictures.

    Example: `kerascope explain model.keras data.npz::x_test --report report.html`

    Example: `kerascope explain model.keras data.npz::x_test -m integrated_gradients
    --background data.npz::x_train --dims time,sensor --class-names classes.txt --out maps.zarr`

    Example: `kerascope explain vgg16.keras photo.jpg -m grad_cam --preprocess vgg16 --report report.html`
    """
    given = dict(locals())
    for name in ("method", "coord", "option", "custom_objects"):
        given[name] = given[name] or []
    run(Request(**given))


def run(request: Request) -> None:
    """Do what the command line asked for."""
    from kerascope.cli import parse
    from kerascope.cli.terminal import only_json, start_backend

    parse.samples(request.samples)  # wrong usage is said before anything heavy is imported
    parse.dims(request.dims)
    parse.memory(request.memory_budget)
    outputs = _plan(request)
    with only_json(request.json):
        start_backend(quiet=request.quiet)
        work = _Work(request)
        explanations = work.explanations()
        _write(explanations, outputs, work.pictures.files, force=request.force)
    if request.json:
        _print_json(request, work, explanations, outputs)
    else:
        _print(request, work, explanations, outputs)


def _plan(request: Request) -> Outputs:
    """Check the places of the results, and the methods' names only where they name stores."""
    from kerascope.cli import outputs

    how: dict[str, Any] = {"figures": request.figures, "force": request.force, "inputs": request.inputs}
    return outputs.plan(request.out, request.report, request.method, **how)


class _Work:
    """The model, the data and their names, read and checked; then the explanations."""

    def __init__(self, request: Request) -> None:
        from kerascope.cli import io, parse, targets
        from kerascope.cli.custom import load_custom_objects
        from kerascope.cli.pictures import pictures_of
        from kerascope.model.load import load_model

        self.request = request
        self.methods = parse.methods(request.method)
        self.model = load_model(
            request.model, unsafe=request.unsafe, custom_objects=load_custom_objects(request.custom_objects)
        )
        inputs = [tensor.name for tensor in getattr(self.model, "inputs", None) or ()]
        self.pictures = pictures = pictures_of(self.model, request.preprocess)
        every = io.read_data(request.data, inputs=inputs, pictures=pictures)
        chosen = parse.samples(request.samples)
        self.data: Data = every.chosen(chosen)
        self.class_names = parse.class_names(request.class_names)
        self.labels = parse.labels(request.labels, self.class_names, len(every), chosen)
        self.target = targets.target(request.target, self.class_names)
        self.dims, self.coords = self.data.named(parse.dims(request.dims))
        self.coords.update(parse.coords(request.coord))
        if self.data.samples is not None:
            self.coords["sample"] = self.data.samples
        where = request.background
        self.background = None if where is None else io.read_array(where, inputs=inputs, pictures=pictures)
        given = parse.options(request.option)
        if request.baseline is not None:
            given.append((None, "baseline", parse.baseline(request.baseline, inputs, pictures)))
        if request.patterns is not None:
            given.append((None, "patterns", parse.patterns(request.patterns)))
        with self._naming_the_option():
            self.options = parse.options_by_method(self.methods, given)
        pictures.check_used()

    def explanations(self) -> list[Explanation]:
        """Return one explanation per method; the model is traced once, and no method runs if one refuses it."""
        explainers = self._explainers()
        with self._naming_the_file():
            for explainer in explainers if len(explainers) > 1 else ():
                explainer.prepare(self.data.values, **self._asked())
            return [self._explain(explainer) for explainer in explainers]

    def _explainers(self) -> list[Explainer]:
        from kerascope.cli import parse
        from kerascope.explain import Explainer

        how: dict[str, Any] = {"background": self.background, "batch_size": self.request.batch_size}
        how["memory_budget"] = parse.memory(self.request.memory_budget)
        with self._naming_the_option():
            first = Explainer(self.model, self.methods[0], **how, **self.options[0])
            others = zip(self.methods[1:], self.options[1:], strict=True)
            return [first, *(first.using(name, **options) for name, options in others)]

    @contextlib.contextmanager
    def _naming_the_option(self) -> Iterator[None]:
        """Say where on the command line an unknown name stood: the model and the methods are known by now."""
        from kerascope.cli import terminal
        from kerascope.errors import UnknownNameError

        try:
            yield
        except UnknownNameError as error:
            own = [name for name in ("baseline", "patterns") if getattr(self.request, name) is not None]
            hint = next((f"--{name}" for name in own if f" {name!r}." in str(error)), "--option")
            raise terminal.wrong_usage(error, hint) from error

    @contextlib.contextmanager
    def _naming_the_file(self) -> Iterator[None]:
        from kerascope.errors import BadInputError

        try:
            yield
        except BadInputError as error:
            if str(error).startswith("x "):  # the argument's name in Python; here the file's says more
                raise BadInputError(f"{self.data.source}: {error}") from error
            raise

    def _explain(self, explainer: Explainer) -> Explanation:
        from kerascope.cli.terminal import progress_bar
        from kerascope.errors import KerascopeWarning
        from kerascope.registry import name_of

        bar = progress_bar(name_of(explainer.method), quiet=self.request.quiet)
        with bar as progress, warnings.catch_warnings():
            warnings.simplefilter("ignore", KerascopeWarning)  # they stand in the result, and are printed with it
            return self.pictures.noted(self._run(explainer, progress))

    def _run(self, explainer: Explainer, progress: Callable[[float, int], None]) -> Explanation:
        return explainer(self.data.values, progress=progress, **self._asked())

    def _asked(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "seed": self.request.seed,
            "dims": self.dims,
            "coords": self.coords,
            "class_names": self.class_names,
        }


def _write(
    explanations: Sequence[Explanation], outputs: Outputs, photographs: Mapping[str, Path], *, force: bool
) -> None:
    """Save the stores, the report and the figures; all has been computed by now."""
    if outputs.folder is not None:
        outputs.folder.mkdir(exist_ok=True)
    for explanation, path in zip(explanations, outputs.stores, strict=False):
        explanation.save(path, overwrite=force)
    if outputs.report is not None:
        from kerascope.report import report

        report(list(explanations), outputs.report, overwrite=force)
    if outputs.figures is not None:
        from kerascope.cli import figures

        figures.write(explanations, outputs.figures, photographs)


def _print(request: Request, work: _Work, explanations: Sequence[Explanation], outputs: Outputs) -> None:
    """Print tables for people, and where the files are."""
    from kerascope.cli import show, terminal

    console = terminal.stdout()
    for explanation in explanations:
        show.print_explanation(console, explanation, labels=work.labels)
    if outputs.stores or outputs.report or outputs.figures:
        console.print()
    for path in outputs.stores:
        console.print(f"Saved {path}", soft_wrap=True)
    if outputs.report:
        console.print(f"Report {outputs.report}", soft_wrap=True)
    if outputs.figures:
        console.print(f"Figures {outputs.figures}", soft_wrap=True)


def _print_json(request: Request, work: _Work, explanations: Sequence[Explanation], outputs: Outputs) -> None:
    """Print everything as JSON."""
    from kerascope.cli import show, terminal

    attrs = explanations[0].attrs
    stores = [*map(str, outputs.stores), *[None] * len(explanations)]
    found = [
        {**show.as_data(explanation, labels=work.labels), "store": store}
        for explanation, store in zip(explanations, stores, strict=False)
    ]
    terminal.print_json(
        {
            **{name: attrs.get(name) for name in ("kerascope", "keras", "backend", "seed")},
            "model": str(request.model),
            "data": work.data.source,
            "class_names": work.class_names,
            "explanations": found,
            "report": str(outputs.report) if outputs.report else None,
            "figures": str(outputs.figures) if outputs.figures else None,
        }
    )
