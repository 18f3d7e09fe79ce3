"""The options of the commands, each explained once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[Path, typer.Argument(help="A .keras or .h5 file.", show_default=False)]
Data = Annotated[
    list[str],
    typer.Argument(
        help="Samples: .npy, .npz, Zarr or HDF5 (file::key picks an array); .csv, one matrix a file, or .png and "
        ".jpg, one picture a file, several files or a folder.",
        show_default=False,
    ),
]
Method = Annotated[
    list[str] | None,
    typer.Option("--method", "-m", help="A name from 'kerascope methods'; repeat it for several."),
]
Target = Annotated[
    str | None,
    typer.Option(
        help="What to explain: a class (number or name), one per sample (a,b,c or FILE), all, top:3, contrast:A,B, "
        "neuron:LAYER:3,4,0 or cell:3,4,0; @HEAD behind it names one of several outputs."
    ),
]
Background = Annotated[str | None, typer.Option(help="FILE[::KEY] of samples that stand for 'nothing special'.")]
Baseline = Annotated[str | None, typer.Option(help="The absent input: zeros, mean, median, a number, or FILE[::KEY].")]
Patterns = Annotated[
    Path | None, typer.Option(help="Patterns that 'kerascope fit-patterns' wrote, for patternnet, pattern_attribution.")
]
Preprocess = Annotated[
    str | None,
    typer.Option(
        help="How the numbers of pictures are prepared: as a module of keras.applications does (vgg16, "
        "mobilenet_v2, …), 0-1, -1-1, or none (0 to 255, as without it)."
    ),
]
Labels = Annotated[str | None, typer.Option(help="FILE with the true class of each sample, to show beside the answer.")]
ClassNames = Annotated[str | None, typer.Option(help="FILE with one name per class, or a,b,c.")]
Dims = Annotated[str | None, typer.Option(help="Names of one sample's axes, as time,sensor.")]
Coord = Annotated[
    list[str] | None,
    typer.Option(help="DIM=FILE, or DIM=a,b,c: names or numbers along an axis; repeatable."),
]
Option = Annotated[list[str] | None, typer.Option(help="[METHOD:]name=value, as steps=128; repeatable.")]
Samples = Annotated[str | None, typer.Option(help="Which samples, as 0:10.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Zarr store to write; with several methods a folder of stores."),
]
Report = Annotated[Path | None, typer.Option("--report", "-r", help="HTML report to write.")]
Figures = Annotated[
    Path | None,
    typer.Option(
        help="Folder to write a .png of each map to: over the photograph in its own size, where the samples are some."
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Samples per pass.")]
MemoryBudget = Annotated[
    str, typer.Option(help="What one pass over copies of samples (paths, noise, masks) may hold, as 512MiB or 2GiB.")
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything random.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
Unsafe = Annotated[
    bool,
    typer.Option("--unsafe", help="Run code that the model file holds. Only for files you trust."),
]
CustomObjects = Annotated[
    list[Path] | None,
    typer.Option("--custom-objects", help="Python file that defines the model's own layers; repeatable."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes on stderr.")]
