"""Maps as picture files: over the photograph in its own size, or as `Explanation.plot` draws them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kerascope.cli.pictures import Frame, read_picture
from kerascope.view.heatmap import lay_over, symmetric_limit
from kerascope.view.panel import counted_once, panel_of

if TYPE_CHECKING:
    from kerascope.explanation import Explanation

_ITSELF = Frame(None, None, 3, 2)
_LONGEST = 80  # characters of each part of a file's name


def write(explanations: Sequence[Explanation], folder: Path, photographs: Mapping[str, Path]) -> None:
    """Write one .png for each method, sample, target and input.

    Args:
        explanations: one for each method.
        folder: where to; it is made.
        photographs: the files that samples were read from, by the names of the samples.
    """
    folder.mkdir(exist_ok=True)
    for e in explanations:
        targets = e.explained.shape[1] if e.explained.ndim == 2 else 1
        samples = [str(name) for name in e.coords.get("sample", range(len(e)))]
        for i, sample in enumerate(_file_names(samples)):
            names = _file_names([e.target_name(i, t) for t in range(targets)])
            for target, name in enumerate(names):
                for key in e.input_names or (None,):
                    parts = [sample, e.method_name, name if targets > 1 else None, key]
                    path = folder / f"{'-'.join(part for part in parts if part)}.png"
                    _draw(e, i, target, key, photographs.get(samples[i]), path)


def _draw(e: Explanation, i: int, target: int, key: str | None, photograph: Path | None, path: Path) -> None:
    from PIL import Image

    from kerascope.view import figure

    if photograph is None or panel_of(e, key or "").kind != "picture":  # `plot` counts repeated channels itself
        figure.plot(e, i, target=target, input=key).savefig(path, dpi=150)
        return
    photo = read_picture(photograph, _ITSELF)
    cells = np.asarray(counted_once(e[i : i + 1]).matrix(0, target, input=key), dtype=np.float32)
    enlarged = Image.fromarray(cells).resize(photo.shape[1::-1], Image.Resampling.BILINEAR)
    Image.fromarray(lay_over(photo, np.asarray(enlarged), symmetric_limit(cells))).save(path)


def _file_names(texts: Sequence[str]) -> list[str]:
    """Return texts as parts of file names, with numbers in front where they would be the same."""
    names = [re.sub(r"[^\w.-]+", "_", text)[:_LONGEST] for text in texts]
    return names if len(set(names)) == len(names) else [f"{i}-{name}" for i, name in enumerate(names)]
