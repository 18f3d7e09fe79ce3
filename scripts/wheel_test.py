"""Install a wheel with its JAX extra into an empty environment and use it outside the checkout.

Usage: wheel_test.py dist/kerascope-0.1.0-py3-none-any.whl

The wheel must hold the files beside the code; the command line must start, and the README's first ten lines
of code must run.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from environment import create, python_in

ROOT = Path(__file__).resolve().parent.parent
LINES = 10
WANTED = (r"kerascope/py\.typed", r"kerascope/report/templates/.+", r"kerascope/.+\.keras")
UNWANTED = (r"tests/.*", r".*\.py[co]", r"(src|docs|scripts)/.*")


def readme_lines() -> str:
    """Return the README's first lines of Python, comments and blank lines left out of the count."""
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    if not blocks:
        raise SystemExit("README.md shows no Python")
    lines = [line for line in blocks[0].splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return "\n".join(lines[:LINES]) + "\n"


def check_contents(wheel: Path) -> None:
    """Stop unless the wheel holds the data files and nothing of the checkout's other folders."""
    names = zipfile.ZipFile(wheel).namelist()
    missing = [pattern for pattern in WANTED if not any(re.fullmatch(pattern, name) for name in names)]
    extra = [name for name in names if any(re.fullmatch(pattern, name) for pattern in UNWANTED)]
    if missing or extra:
        raise SystemExit(f"{wheel.name}: missing {missing}, unwanted {extra}")


def run(*command: object, folder: Path) -> None:
    """Run a command in a folder, as a user's shell would, and stop where it fails."""
    hidden = ("PYTHONPATH", "KERAS_BACKEND", "KERAS_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    words = [str(word) for word in command]
    print("$", " ".join(Path(words[0]).name if i == 0 else word for i, word in enumerate(words)), flush=True)
    done = subprocess.run(words, cwd=folder, env={**environment, "KERAS_HOME": str(folder / "keras")}, check=False)
    if done.returncode:
        raise SystemExit(f"exit status {done.returncode}")


def main() -> int:
    """Make the environment, install, and try."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("wheel", type=Path)
    wheel = parser.parse_args().wheel.resolve()
    check_contents(wheel)
    with tempfile.TemporaryDirectory(prefix="kerascope-wheel-") as name:
        folder = Path(name)
        create(folder / "venv")
        python = python_in(folder / "venv")
        pip = (
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-compile",
            "--constraint",
            ROOT / "constraints.txt",
        )
        run(*pip, f"{wheel}[jax]", folder=folder)
        run(python.with_name("kerascope"), "--help", folder=folder)
        run(python.with_name("kerascope"), "methods", folder=folder)
        code = readme_lines()
        print(code)
        (folder / "readme.py").write_text(code, encoding="utf-8")
        run(python, "readme.py", folder=folder)
    print(f"{wheel.name} works in an empty environment.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
