"""The errors kerascope raises: each says what was expected, what came, and what to do."""

from __future__ import annotations

import difflib
import math
import numbers
import sys
import warnings
from collections.abc import Iterable


class KerascopeError(Exception):
    """Base of every error that kerascope raises on purpose."""


class BadInputError(KerascopeError, ValueError):
    """An array, file or number given by the user cannot be used."""


class BadTargetError(KerascopeError, ValueError):
    """The target names no output of this model."""


class UnknownNameError(KerascopeError, ValueError):
    """A name or an option is not known; the message lists the known ones."""


class MissingBaselineError(KerascopeError, ValueError):
    """A method needs an absent input (baseline, fill, bounds) and was given none."""


class MissingPatternsError(MissingBaselineError):
    """A pattern method was given no fitted patterns."""


class IncompatibleMethodError(KerascopeError, ValueError):
    """A method's assumptions do not hold for this model."""


class UnsupportedLayerError(IncompatibleMethodError):
    """A layer has no rule under the method asked for."""


class TraceError(KerascopeError):
    """The model could not be turned into a graph that computes the same numbers."""


class StaleModelError(KerascopeError):
    """The model's weights changed after the explainer was built."""


class UnsafeModelError(KerascopeError, ValueError):
    """A model file asks for code to be run, or for more memory than is sane."""


class OutputExistsError(KerascopeError, FileExistsError):
    """A file or folder to be written exists already."""


class BackendError(KerascopeError, ImportError):
    """No usable Keras backend is installed."""


class KerascopeWarning(UserWarning):
    """A result that may not mean what it seems to mean."""


def warn(text: str) -> None:
    """Issue a `KerascopeWarning` that names the line outside kerascope from which it was called."""
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] == "kerascope":
        frame, level = frame.f_back, level + 1
    warnings.warn(text, KerascopeWarning, stacklevel=level)


def unknown_name(kind: str, name: object, known: Iterable[str]) -> UnknownNameError:
    """Return the error for an unknown name, with the nearest known names first.

    Args:
        kind: what the name was meant to be, e.g. ``"method"``.
        name: the name that came.
        known: every name that would have been understood.
    """
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    return UnknownNameError(f"Unknown {kind} {name!r}.{hint} Known: {', '.join(names) or '(none)'}.")


def whole(value: object, name: str, least: int) -> int:
    """Return an option that must be a whole number of at least so much.

    Raises:
        BadInputError: it is none, or is less.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise BadInputError(f"{name} must be a whole number of at least {least}; got {value!r}.")
    return int(value)


def finite(value: object, name: str) -> float:
    """Return an option that must be a number, neither nan nor infinite.

    Raises:
        BadInputError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise BadInputError(f"{name} must be a finite number; got {value!r}.")
    return float(value)


def counted(count: int, what: str) -> str:
    """Return a number of things in words: ``counted(1, "sample")`` is "1 sample"."""
    return f"{count} {what}{'' if count == 1 else 's'}"
