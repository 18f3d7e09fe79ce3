"""`--custom-objects module.py`: the user's own layers, made known to Keras."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from kerascope.errors import BadInputError

_NOT_OWN = ("keras", "tensorflow", "torch", "jax", "numpy", "builtins", "typing")


def load_custom_objects(files: Sequence[Path]) -> dict[str, Any]:
    """Run Python files and return the classes and functions they define or import, by name.

    Raises:
        BadInputError: when a file is missing, fails, or defines nothing.
    """
    found: dict[str, Any] = {}
    for file in files:
        module = _run(file)
        own = {
            name: value
            for name, value in vars(module).items()
            if (inspect.isclass(value) or inspect.isfunction(value))
            and str(value.__module__).split(".")[0] not in _NOT_OWN
        }
        if not own:
            raise BadInputError(f"--custom-objects {file} defines no class and no function.")
        found.update(own)
    return found


def _run(file: Path) -> ModuleType:
    """Run a Python file as a module of its own; files beside it can be imported."""
    if not file.is_file():
        raise BadInputError(f"--custom-objects: there is no file {file}.")
    name = f"kerascope_custom_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise BadInputError(f"--custom-objects: {file} is not a Python file; its name must end in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(file.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # anything can go wrong in there; it is the user's own code
        del sys.modules[name]
        raise BadInputError(
            f"--custom-objects {file} fails{_line(file, error)}: {type(error).__name__}: {error}"
        ) from error
    finally:
        sys.path.remove(str(file.resolve().parent))
    return module


def _line(file: Path, error: BaseException) -> str:
    """Return where in a file an error came from."""
    trace, line = error.__traceback__, None
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename) == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    if isinstance(error, SyntaxError):
        line = error.lineno
    return f" in line {line}" if line else ""
