"""Files that come with the package, and the real data among them."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np

from kerascope.datasets.base import Dataset
from kerascope.errors import unknown_name

_SECONDS_PER_STEP = 0.1
"""Of BasicMotions."""


def basic_motions(split: str = "test") -> Dataset:
    """Load BasicMotions: ten seconds of a smart watch's accelerometer and gyroscope during four activities.

    80 recordings of four students, 20 per activity, half of them for training; from the UEA archive (Bagnall
    et al. 2018, arXiv:1811.00075). ``demo_file("README.md")`` states origin, licence and what is not known:
    the units, the order of the axes, and who recorded what, so that the halves may share people.

    Args:
        split: ``"train"`` or ``"test"``.

    Returns:
        A `Dataset` with x (40, 100, 6) float32, time by sensor, y (40,), and no truth; ``coords["time"]``
        holds seconds from the start, 0.0 to 9.9, ``coords["sensor"]`` the six names.

    Raises:
        UnknownNameError: when `split` is neither.

    Example:
        >>> from kerascope import datasets
        >>> data = datasets.basic_motions("train")
        >>> data.x.shape, data.class_names, str(data.coords["sensor"][0])
        ((40, 100, 6), ('standing', 'running', 'walking', 'badminton'), 'accelerometer x')
    """
    if split not in ("train", "test"):
        raise unknown_name("split", split, ("train", "test"))
    with np.load(demo_file("basic_motions.npz"), allow_pickle=False) as file:
        x, y = file[f"x_{split}"], file[f"y_{split}"]
        class_names, sensors = file["class_names"], file["sensor"]
    return Dataset(
        x=x,
        y=y,
        class_names=tuple(str(name) for name in class_names),
        dims=("time", "sensor"),
        coords={"time": np.round(np.arange(x.shape[1]) * _SECONDS_PER_STEP, 1), "sensor": sensors},
    )


def demo_file(name: str) -> Path:
    """Return the path of a file that comes with the package: a model, the data, or what describes them.

    Args:
        name: ``"planted.keras"``, ``"basic_motions.keras"``, ``"basic_motions.npz"``, ``"models.json"``
            (held-out accuracy, sizes, seeds and versions) or ``"README.md"`` (origin and licence).

    Returns:
        The path, readable as any file.

    Raises:
        UnknownNameError: when no file of that name comes with the package.

    Example:
        >>> from kerascope import datasets
        >>> datasets.demo_file("planted.keras").name
        'planted.keras'
    """
    folder = Path(str(resources.files("kerascope"))) / "demo"
    known = [path.name for path in sorted(folder.glob("*.*"))]
    if name not in known:
        raise unknown_name("demo file", name, known)
    return folder / name
