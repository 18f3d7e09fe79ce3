"""Write docs/api.md from the docstrings of everything public.

Usage: make_api_docs.py [--check]

With --check nothing is written; the exit status is 1 if the page is not what the docstrings say.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import os
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import kerascope as ks
from kerascope import registry

PAGE = Path(__file__).resolve().parent.parent / "docs" / "api.md"

SECTIONS: dict[str, tuple[str, ...]] = {
    "Explaining": ("explain", "Explainer", "check", "methods", "load_model"),
    "Evidence": ("evidence", "Evidence", "cohort", "Cohort"),
    "Targets": ("Target", "TopClass", "Class", "Contrast", "Neuron", "Output"),
    "The result": ("Explanation", "Relevances", "open", "report"),
    "Patterns": ("Patterns", "signal_quality", "plot_signal_quality"),
    "Coming from iNNvestigate": ("create_analyzer",),
    "Methods as objects": (
        "Method",
        "Gradient",
        "Saliency",
        "SmoothGrad",
        "SquareGrad",
        "VarGrad",
        "NoiseGrad",
        "InputXGradient",
        "IntegratedGradients",
        "ExpectedGradients",
        "DeepLIFT",
        "DeepLiftSHAP",
        "GuidedBackprop",
        "DeconvNet",
        "PatternNet",
        "PatternAttribution",
        "LRP",
        "DeepTaylor",
        "CAM",
        "GradCAM",
        "GradCAMPlusPlus",
        "XGradCAM",
        "HiResCAM",
        "LayerCAM",
        "ScoreCAM",
        "AblationCAM",
        "EigenCAM",
        "Occlusion",
        "LIME",
        "KernelSHAP",
        "ShapleySampling",
        "ExactShapley",
        "Random",
        "Input",
        "Edges",
    ),
    "Rules and composites": ("Composite", "first_layer"),
}
RULES = ("Rule", "Zero", "Epsilon", "Gamma", "AlphaBeta", "ZPlus", "ZBox", "WSquare", "Flat", "Pass")
TESTING = ("check_method", "check_rule")


def page() -> str:
    """Return the whole page."""
    lines = [
        "# The public names of kerascope",
        "",
        "`import kerascope as ks`. Made from the docstrings by `scripts/make_api_docs.py`; do not edit by hand.",
        "",
        "Symbols: `N` samples, `S` the shape of one sample as the model takes it, `T` targets per sample, `K` output",
        "units, `M` background samples. A map has the units of the explained number, a logit unless said otherwise.",
        "",
    ]
    lines += list(_method_table())
    for title, names in SECTIONS.items():
        lines += [f"## {title}", ""]
        for name in names:
            lines += list(_entry(f"ks.{name}", getattr(ks, name)))
    for title, prefix, module, names in (
        ("Rules: `ks.rules`", "ks.rules", ks.rules, RULES),
        ("Truth sets: `ks.datasets`", "ks.datasets", ks.datasets, _public(ks.datasets)),
        ("For your own classes: `ks.testing`", "ks.testing", ks.testing, TESTING),
    ):
        lines += [f"## {title}", "", *_text(module), ""]
        for name in names:
            lines += list(_entry(f"{prefix}.{name}", getattr(module, name)))
    lines += ["## Errors", "", "All derive from `ks.KerascopeError`; each says what came and what to do.", ""]
    for name in sorted(n for n in ks.__all__ if n.endswith(("Error", "Warning"))):
        error = getattr(ks, name)
        bases = ", ".join(base.__name__ for base in error.__bases__)
        lines += [f"- **`ks.{name}`** ({bases}): {inspect.getdoc(error)}"]
    return "\n".join(lines).rstrip() + "\n"


def _public(module: Any) -> tuple[str, ...]:
    return tuple(name for name in module.__all__ if callable(getattr(module, name)))


def _method_table() -> Iterator[str]:
    yield "## Methods by name"
    yield ""
    yield "| name | family | the question it answers | needs | values sum to | paper |"
    yield "|---|---|---|---|---|---|"
    for name, method in registry.METHODS.items():
        yield (
            f"| `{name}` | {method.family} | {method.question} | {method.needs or '-'} | "
            f"{method.promise or '-'} | {method.paper} |"
        )
    yield ""


def _entry(name: str, value: Any) -> Iterator[str]:
    yield f"### `{name}`"
    yield ""
    signature = _signature(value)
    if signature:
        yield from ["```python", f"{name}{signature}", "```", ""]
    yield from _text(value)
    yield ""
    if inspect.isclass(value):
        yield from _members(name, value)


def _signature(value: Any) -> str:
    if not callable(value):
        return ""
    try:
        text = str(inspect.signature(value))
    except ValueError:
        return ""
    text = re.sub(r"<[^<>]* at 0x[0-9a-f]+>", "...", text)
    text = re.sub(r"kerascope\.[a-z_.]+\.", "", text)
    return re.sub(r"<factory>", "...", text).replace("'", "")


_LISTS = ("Args", "Attributes", "Raises")
_PROSE = ("Returns", "Yields", "Note")


def _text(value: Any) -> Iterator[str]:
    """Turn a Google-style docstring into Markdown."""
    return _markdown(inspect.getdoc(value) or "")


def _markdown(text: str) -> Iterator[str]:
    section = ""
    for line in text.splitlines():
        line = line if line.lstrip().startswith((">>>", "...")) else line.replace("*S", "\\*S")
        title = line.rstrip(":") if line.endswith(":") and not line.startswith(" ") else ""
        if section == "Example" and (title or (line and not line.startswith(" "))):
            yield "```"
            section = ""
        if title in (*_LISTS, *_PROSE):
            section = title
            yield from (f"*{title}*", "")
        elif title == "Example":
            section = title
            yield "```python"
        elif not line.startswith(" "):
            section = section if not line else ""
            yield line
        elif section in _LISTS and not line.startswith("     ") and ": " in line:
            name, _, rest = line.strip().partition(": ")
            yield f"- `{name}`: {rest}"
        elif section in _LISTS:
            yield "  " + line.strip()
        else:
            yield line[4:] if section else line
    if section == "Example":
        yield "```"


def _members(name: str, cls: Any) -> Iterator[str]:
    fields = {item.name for item in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else set()
    for member, value in vars(cls).items():
        if (member.startswith("_") and member != "__call__") or member in fields:
            continue
        target = value.fget if isinstance(value, property) else value
        if not callable(target) or not inspect.getdoc(target):
            continue
        text = inspect.getdoc(target) or ""
        if text.startswith("See `"):
            continue
        call = "" if isinstance(value, property) else _signature(target).replace("(self, ", "(").replace("(self)", "()")
        title = f"{name.split('.')[-1].lower()}(…)" if member == "__call__" else f".{member}{call}"
        yield f"- **`{title}`**"
        yield textwrap.indent("\n".join(_markdown(text)), "  ")
        yield ""


def main() -> int:
    """Write or check the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    made = page()
    if not parser.parse_args().check:
        PAGE.write_text(made, "utf-8")
        return 0
    if PAGE.exists() and PAGE.read_text("utf-8") == made:
        return 0
    print("docs/api.md is not what the docstrings say: run scripts/make_api_docs.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
