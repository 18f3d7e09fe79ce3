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
    _check_split(split)
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


def japanese_vowels(split: str = "test") -> Dataset:
    """Load JapaneseVowels: twelve cepstrum coefficients of nine men who say two vowels after each other.

    270 utterances for training (30 of each man) and 370 for testing (24 to 88), stretched to 25 frames each; from
    the UEA archive's equal-length version (Bagnall et al. 2018, arXiv:1811.00075) of Kudo, Toyama and Shimbo 1999
    (Pattern Recognition Letters 20: 1103-1111). ``demo_file("README.md")`` states origin and licence.

    Args:
        split: ``"train"`` or ``"test"``.

    Returns:
        A `Dataset` with x (N, 25, 12) float32, frame by coefficient, y (N,), and no truth; ``coords["coefficient"]``
        holds their names, "LPC 1" to "LPC 12".

    Raises:
        UnknownNameError: when `split` is neither.

    Example:
        >>> from kerascope import datasets
        >>> data = datasets.japanese_vowels("train")
        >>> data.x.shape, data.dims, data.class_names[0]
        ((270, 25, 12), ('frame', 'coefficient'), 'speaker 1')
    """
    _check_split(split)
    with np.load(demo_file("japanese_vowels.npz"), allow_pickle=False) as file:
        x, y = file[f"x_{split}"], file[f"y_{split}"]
    return Dataset(
        x=x,
        y=y,
        class_names=tuple(f"speaker {i + 1}" for i in range(9)),
        dims=("frame", "coefficient"),
        coords={
            "frame": np.arange(x.shape[1]),
            "coefficient": np.array([f"LPC {i + 1}" for i in range(x.shape[2])]),
        },
    )


def _check_split(split: str) -> None:
    if split not in ("train", "test"):
        raise unknown_name("split", split, ("train", "test"))


def demo_file(name: str) -> Path:
    """Return the path of a file that comes with the package: a model, the data, or what describes them.

    Args:
        name: ``"planted.keras"``, ``"basic_motions.keras"``, ``"basic_motions.npz"``, ``"japanese_vowels.npz"``,
            ``"models.json"`` (held-out accuracy, sizes, seeds and versions) or ``"README.md"`` (origin and licence).

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
