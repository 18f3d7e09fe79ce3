"""Make or renew a virtual environment with kerascope in it, using nothing but Python and pip.

Usage: environment.py FOLDER --extras jax,test [--pin keras==3.8.0]

An environment that is complete and up to date is left alone. One whose making was interrupted is made anew.
This file must be readable by an old Python, which it then refuses.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036  # run by whatever Python the user has
    sys.exit(
        f"kerascope needs Python 3.11 or newer; {sys.executable} is {sys.version.split()[0]}. "
        "Name a newer one, for example: make PYTHON=python3.12 …"
    )

import argparse
import hashlib
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STAMP = ".complete"
UNFINISHED = ".unfinished"


def constraints(pins: list[str]) -> str:
    """Return constraints.txt with the pinned packages' lines replaced."""
    names = {re.split(r"[=<>~!]", pin, maxsplit=1)[0].lower() for pin in pins}
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if line.partition("==")[0].lower() not in names]
    return "\n".join([*kept, *pins, ""])


def fingerprint(extras: str, limits: str) -> str:
    """Return what an environment depends on, as one line; the stamp holds it."""
    described = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    parts = [repr(described["build-system"]), repr(described["project"]), limits, extras, sys.version]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def python_in(folder: Path) -> Path:
    """Return the environment's own interpreter."""
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def works(folder: Path) -> bool:
    """Return whether the environment has a Python that starts and a pip that answers."""
    try:
        done = subprocess.run([python_in(folder), "-m", "pip", "--version"], capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


def create(folder: Path) -> None:
    """Make an empty environment with pip in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / UNFINISHED).touch()
    # Debian's Python has no `ensurepip` unless python3-venv is installed: then pip comes from the outer pip.
    made = subprocess.run([sys.executable, "-m", "venv", folder], capture_output=True, check=False)
    if made.returncode:
        subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", folder], check=True)
        (folder / UNFINISHED).touch()
        subprocess.run(
            [sys.executable, "-m", "pip", "--python", python_in(folder), "install", "--quiet", "pip"],
            check=True,
        )


def install(folder: Path, extras: str, limits: str) -> None:
    """Install the checkout, editable, with its extras and within the limits."""
    limits_file = folder / "constraints.txt"
    limits_file.write_text(limits, encoding="utf-8")
    pip = (python_in(folder), "-m", "pip")
    target = f"{ROOT}[{extras}]" if extras else str(ROOT)
    (folder / UNFINISHED).touch()
    # Not compiled ahead: most of what TensorFlow and PyTorch bring is never imported.
    options = ("--quiet", "--no-compile", "--constraint", limits_file)
    subprocess.run([*pip, "install", *options, "--editable", target], check=True)
    subprocess.run([*pip, "check"], check=True, stdout=subprocess.DEVNULL)


def main() -> int:
    """Read the command line and bring the environment up to date."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--check", action="store_true", help="only say whether this Python will do")
    parser.add_argument("--extras", default="", help="comma-separated extras of pyproject.toml")
    parser.add_argument("--pin", action="append", default=[], help="overrides a line of constraints.txt")
    parser.add_argument("--adopt", action="store_true", help="declare the environment up to date as it is")
    arguments = parser.parse_args()
    if arguments.check:
        return 0
    if arguments.folder is None:
        parser.error("which folder?")
    folder = arguments.folder.absolute()
    limits = constraints(arguments.pin)
    wanted = fingerprint(arguments.extras, limits)
    stamp = folder / STAMP
    if arguments.adopt and not works(folder):
        parser.error(f"{arguments.folder} has no Python with pip in it")
    if not works(folder) or ((folder / UNFINISHED).exists() and not arguments.adopt):
        print(f"Making {arguments.folder} with Python {sys.version.split()[0]} …", flush=True)
        create(folder)
    elif stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        stamp.touch()
        return 0
    if not arguments.adopt:
        print(f"Installing kerascope[{arguments.extras}] into {arguments.folder} …", flush=True)
        install(folder, arguments.extras, limits)
    stamp.write_text(wanted, encoding="utf-8")
    (folder / UNFINISHED).unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as failure:
        sys.exit(f"This step failed: {' '.join(map(str, failure.cmd))}")
