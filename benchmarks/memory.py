"""Peak memory of methods that run many copies of a sample, beside that of a plain gradient.

    KERAS_BACKEND=torch python benchmarks/memory.py

VGG16 with drawn weights, batch 8. Each figure is the peak resident size of a process of its own while it explains,
above what it held when the model had been built and run once (Linux: the kernel's peak is set back between). Half and
the whole of a tenth of the work (5 and 10 backgrounds of DeepLiftSHAP's 100, 100 and 200 of KernelSHAP's 2000 masks,
15 and 30 of 300 steps) must take the same within 10 %, and no more than 1.5 times the gradient's peak plus the memory
budget. Exit status 1 otherwise. On PyTorch, because TensorFlow's allocator keeps what building the model took, and
explaining would use it again unseen.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

BUDGET = 2**30
BLOCKS: dict[str, Any] = {"groups": ("blocks", (28, 28)), "fills": 1}
GROWTH = 1.1
"""Twice the work may take so much more: what the allocator keeps varies."""
WORK: dict[str, tuple[str, dict[str, Any]]] = {
    "gradient": ("gradient", {}),
    "deeplift_shap, 5 backgrounds": ("deeplift_shap", {"background": 5}),
    "deeplift_shap, 10 backgrounds": ("deeplift_shap", {"background": 10}),
    "kernel_shap, 100 masks": ("kernel_shap", {"background": 1, "draws": 100, **BLOCKS}),
    "kernel_shap, 200 masks": ("kernel_shap", {"background": 1, "draws": 200, **BLOCKS}),
    "integrated_gradients, 15 steps": ("integrated_gradients", {"baseline": "zeros", "steps": 15}),
    "integrated_gradients, 30 steps": ("integrated_gradients", {"baseline": "zeros", "steps": 30}),
}


def explain(name: str) -> None:
    """Explain in this process, and print its peak in bytes."""
    from nets import build, images

    import kerascope as ks

    warnings.simplefilter("ignore", ks.KerascopeWarning)
    model, (method, options) = build("VGG16"), dict(WORK)[name]
    x, options = images(8, 224, seed=5), dict(options)
    if "background" in options:
        options["background"] = images(options["background"], 224, seed=6)
    model.predict(x[:1], verbose=0)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what has been freed is given back, or explaining would reuse it unseen
    held = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    ks.explain(model, x, method, batch_size=8, memory_budget=BUDGET, **options)
    print(_status("VmHWM") - held)


def _status(name: str) -> int:
    """Return a line of the kernel's account of this process, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def main() -> int:
    """Measure each in a process of its own; print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "memory.md")
    arguments = parser.parse_args()
    if arguments.one:
        explain(arguments.one)
        return 0
    peaks = {}
    for name in WORK:
        done = subprocess.run(
            [sys.executable, __file__, "--one", name],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parent,
            env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072"},  # what is freed goes back at once
        )
        peaks[name] = int(done.stdout.split()[-1])
        print(f"{name:34s}{peaks[name] / 2**30:6.2f} GiB", flush=True)
    bound = 1.5 * peaks["gradient"] + BUDGET
    lines = [
        "# Peak memory",
        "",
        f"VGG16, batch 8, memory budget 1 GiB; GiB above what the process held with the model built and run once. "
        f"Allowed: {bound / 2**30:.2f} GiB. Made by `benchmarks/memory.py`.",
        "",
        "| work | GiB |",
        "|---|---|",
        *(f"| {name} | {peak / 2**30:.2f} |" for name, peak in peaks.items()),
    ]
    arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    return 0 if _bounded(peaks, bound) else 1


def _bounded(peaks: dict[str, int], bound: float) -> bool:
    """Say, and print, whether every peak stays below the bound and does not grow with the work."""
    names = list(peaks)[1:]
    bad = [f"{name} takes {peaks[name] / 2**30:.2f} GiB" for name in names if peaks[name] > bound]
    for half, whole in zip(names[::2], names[1::2], strict=True):
        if peaks[whole] > GROWTH * peaks[half]:
            bad.append(f"{whole} takes more than {half}")
    print("\n".join(bad) or "Within bounds, and no growth.")
    return not bad


if __name__ == "__main__":
    sys.exit(main())
