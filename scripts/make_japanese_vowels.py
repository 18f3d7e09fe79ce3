"""Make src/kerascope/demo/japanese_vowels.npz from the equal-length files of JapaneseVowels in aeon's wheel.

python scripts/make_japanese_vowels.py aeon-1.6.0-py3-none-any.whl
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
from make_basic_motions import parse_ts, read_source

TARGET = Path(__file__).resolve().parents[1] / "src" / "kerascope" / "demo" / "japanese_vowels.npz"
SHA256 = {
    "JapaneseVowels_eq_TRAIN.ts": "8958279c6296b97c8e34038346407935222db171492b84dffa3b930d087bc2d6",
    "JapaneseVowels_eq_TEST.ts": "bb83bb1aa6bfb17faae269f6829b7cac71de36fdd3264ee34137fe90270d5895",
}


def main() -> None:
    """Read both files, check them against their known digests, and write the .npz."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="a wheel of aeon, or a folder of .ts files")
    source = parser.parse_args().source
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    for split in ("train", "test"):
        name = f"JapaneseVowels_eq_{split.upper()}.ts"
        content = read_source(source, name)
        if hashlib.sha256(content).hexdigest() != SHA256[name]:
            raise SystemExit(f"{name} in {source} is not the file this script was written for.")
        x, labels, classes = parse_ts(content.decode("utf-8"))
        arrays[f"x_{split}"] = x
        arrays[f"y_{split}"] = np.array([classes.index(label) for label in labels], dtype=np.int64)
    np.savez_compressed(TARGET, allow_pickle=False, **arrays)
    print(f"{TARGET.name}: {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
