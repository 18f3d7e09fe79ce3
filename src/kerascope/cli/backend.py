"""Which Keras backend the command line runs on: chosen before Keras is imported, without importing any.

Keras itself reads ``KERAS_BACKEND``, then ``keras.json``, then falls back to TensorFlow, and fails with an
import error where that one is not installed. The command line keeps what the user asked for where it can, and
otherwise takes an installed backend and says so.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from kerascope.errors import BackendError

# Modules that must be found for a backend to be usable, in the order of preference: Keras' own default first,
# so that the first run, before Keras writes its keras.json, and the second agree.
BACKENDS: Mapping[str, tuple[str, ...]] = {
    "tensorflow": ("tensorflow",),
    "jax": ("jax", "jaxlib"),
    "torch": ("torch",),
}


@dataclass(frozen=True)
class Choice:
    """The backend to run on.

    Attributes:
        name: `"tensorflow"`, `"jax"` or `"torch"`.
        note: why it is not the one that Keras would have taken; None where it is.
    """

    name: str
    note: str | None = None


def use_installed_backend() -> Choice:
    """Choose the backend and set `KERAS_BACKEND` for this process; call it before Keras is imported.

    Raises:
        BackendError: when none is installed, or the one that `KERAS_BACKEND` names is not.
    """
    if "keras" in sys.modules:  # too late to choose: another part of this process has
        return Choice(str(sys.modules["keras"].backend.backend()))
    choice = choose_backend(os.environ, _config_file(os.environ))
    os.environ["KERAS_BACKEND"] = choice.name
    return choice


def choose_backend(
    environ: Mapping[str, str], config_file: Path, *, installed: Callable[[str], bool] | None = None
) -> Choice:
    """Return the backend to run on: what the user set, else what `keras.json` names, else an installed one.

    Args:
        environ: the environment variables.
        config_file: where the user's `keras.json` would be.
        installed: tells whether a backend is installed; default: whether its modules are found.

    Raises:
        BackendError: when `KERAS_BACKEND` names one that cannot be used, or when none is installed.
    """
    check = installed or is_installed
    found = [name for name in BACKENDS if check(name)]
    if not found:
        raise BackendError(
            "Keras needs a backend, and none is installed here. Install one: pip install 'kerascope[jax]' "
            "(or kerascope[tensorflow], kerascope[torch])."
        )
    wanted = environ.get("KERAS_BACKEND", "")
    if wanted:
        return Choice(_as_asked(wanted, found))
    configured = _configured(config_file)
    if configured in found:
        return Choice(configured)
    chosen = found[0]
    if configured is None:
        note = None if chosen == "tensorflow" else "tensorflow, the default of Keras, is not installed here"
    elif configured in BACKENDS:
        note = f"{config_file} names {configured!r}, which is not installed here"
    else:
        note = f"{config_file} names {configured!r}, on which kerascope does not run"
    return Choice(chosen, note)


def _as_asked(wanted: str, found: list[str]) -> str:
    """Return `wanted`, the value of KERAS_BACKEND, or raise the error that says what to set instead."""
    if wanted in found:
        return wanted
    instead = f"Installed: {', '.join(found)}. Set KERAS_BACKEND to one of these, or unset it."
    if wanted not in BACKENDS:
        raise BackendError(f"KERAS_BACKEND is {wanted!r}, but kerascope runs on {', '.join(BACKENDS)} only. {instead}")
    raise BackendError(f"KERAS_BACKEND is {wanted!r}, which is not installed here. {instead}")


def is_installed(backend: str) -> bool:
    """Tell whether every module of a backend can be found; nothing is imported."""
    return all(_is_found(module) for module in BACKENDS[backend])


def _is_found(module: str) -> bool:
    """Tell whether `module` is there to import; a bare folder of that name does not count."""
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):  # ValueError: imported already, by something that left no spec
        return module in sys.modules
    return spec is not None and spec.origin is not None


def _config_file(environ: Mapping[str, str]) -> Path:
    """Return where Keras looks for its keras.json."""
    if "KERAS_HOME" in environ:
        return Path(environ["KERAS_HOME"]).expanduser() / "keras.json"
    home = os.path.expanduser("~")
    if not os.access(home, os.W_OK):
        home = "/tmp"  # as Keras does
    return Path(home) / ".keras" / "keras.json"


def _configured(config_file: Path) -> str | None:
    """Return the backend that keras.json names; None where there is no such file or nothing in it."""
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    backend = config.get("backend") if isinstance(config, dict) else None
    return backend if isinstance(backend, str) else None
