"""From a report's data to one self-contained HTML file."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from kerascope.errors import OutputExistsError
from kerascope.report.data import SHOWN_ROWS, Curve, Report, Stretch, Tables, View
from kerascope.view.panel import Axis, Panel, count_drawn
from kerascope.view.text import number, percent

GRADES = {"good": "gap < 1 %", "fair": "gap < 5 %", "poor": "gap ≥ 5 %"}


def render(report: Report) -> str:
    """Return the whole file as text.

    All text goes through Jinja2's autoescape or through JSON without ``<``, ``>`` and ``&``. The
    Content-Security-Policy lists the hashes of the file's own scripts: no other runs, nothing is requested.
    """
    import jinja2
    from markupsafe import Markup

    folder = resources.files("kerascope.report") / "templates"
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        loader=jinja2.FunctionLoader(lambda name: (folder / name).read_text("utf-8")),
    )
    environment.filters.update(signed=lambda x: number(x, signed=True), percent=percent, drawn=drawn_curve)
    scripts = [*_bokeh_scripts(), (folder / "report.js").read_text("utf-8")]
    sizes = (
        len(report.samples),
        len(report.methods),
        len(report.panels),
        *(m.targets for m in report.methods),
    )
    return environment.get_template("report.html").render(
        report=report,
        policy=policy(scripts),
        css=Markup((folder / "report.css").read_text("utf-8")),
        data=Markup(safe_json(page_data(report))),
        scripts=[Markup(script) for script in scripts],
        choices=max(sizes) > 1,
        boxes=any(report.stretch_dims),
        all_drawn=any(view.tables.all_drawn for view in report.views),
        truth=any(i.outline for s in report.samples for i in s.inputs),
        shown_rows=SHOWN_ROWS,
        grades=GRADES,
    )


def drawn_curve(curve: Curve, width: int = 520, height: int = 120) -> dict[str, Any]:
    """Return a curve in pixels: points of its line and its band, the level of zero, and the labels of its ends."""
    at, mean, spread = (np.asarray(v, dtype=float) for v in (curve.at, curve.mean, curve.spread))
    low, high = float((mean - spread).min()), float((mean + spread).max())
    room = (high - low) or 1.0
    x = (at - at[0]) / ((at[-1] - at[0]) or 1.0) * width

    def y(values: Any) -> Any:
        return height - (np.asarray(values) - low) / room * height

    def points(xs: Any, ys: Any) -> str:
        return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(xs, ys, strict=True))

    return {
        "width": width,
        "height": height,
        "line": points(x, y(mean)),
        "band": points(np.concatenate([x, x[::-1]]), np.concatenate([y(mean - spread), y(mean + spread)[::-1]])),
        "zero": float(y(0.0)) if low <= 0 <= high else None,
        "ends": (f"{at[0]:g}", f"{at[-1]:g}"),
        "range": (number(low), number(high)),
    }


def _bokeh_scripts() -> list[str]:
    """Return BokehJS without widgets, tables, WebGL and MathJax."""
    from bokeh.resources import Resources

    return list(Resources(mode="inline", components=["bokeh"], log_level="error").js_raw)


def policy(scripts: Sequence[str]) -> str:
    """Return a Content-Security-Policy under which the given scripts run and nothing is loaded."""
    codes = [base64.b64encode(hashlib.sha256(s.encode("utf-8")).digest()).decode("ascii") for s in scripts]
    own = " ".join(f"'sha256-{code}'" for code in codes)
    return (
        f"default-src 'none'; script-src {own}; style-src 'unsafe-inline'; img-src data:; font-src data:; "
        "connect-src 'none'; base-uri 'none'; form-action 'none'"
    )


def safe_json(value: Any) -> str:
    """Return JSON that may stand inside a script element: no ``<``, ``>``, ``&``, nor line separators."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for mark in "<>&\u2028\u2029":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return text


def page_data(report: Report) -> dict[str, Any]:
    """Return what report.js reads: plots, axes, and for each view its profiles, colour limits and boxes."""
    from bokeh.embed import json_item

    from kerascope.report.plots import frame, layout

    panels = []
    for index, panel in enumerate(report.panels):
        item = dict(json_item(layout(report, index)))
        panels.append(_panel(panel, report.stretch_dims[index]) | {"item": item})
    order = [[v.key for v in report.views if v.input == k] for k in range(len(report.panels))]
    place = {key: i for keys in order for i, key in enumerate(keys)}
    return {
        "panels": panels,
        "methods": [{"targets": list(range(m.targets))} for m in report.methods],
        "samples": [
            {
                "outlines": [i.outline for i in s.inputs],
                "frames": [frame(panel, i.pixel) for panel, i in zip(report.panels, s.inputs, strict=True)],
            }
            for s in report.samples
        ],
        "views": {v.key: _view(v, report.panels[v.input], place[v.key]) for v in report.views},
    }


def _panel(panel: Panel, dims: Sequence[str]) -> dict[str, Any]:
    def axis(of: Axis) -> dict[str, Any]:
        return {"dim": of.dim, "names": of.names, "start": of.start, "step": of.step}

    return {
        "kind": panel.kind,
        "upright": panel.upright,
        "line": (" as the model gets it" if panel.kind == "picture" else "")
        + (", mean over channels" if panel.depth > 1 else ""),
        "down": axis(panel.down),
        "across": axis(panel.across),
        "stretchDims": list(dims),
    }


def _view(view: View, panel: Panel, place: int) -> dict[str, Any]:
    down, across = (view.row_sums, view.column_sums) if panel.upright else (view.column_sums, view.row_sums)
    lines = view.tables.rows if panel.upright else view.tables.columns
    return {
        "map": place,
        "target": view.target_name,
        "limit": view.limit,
        "tight": view.tight,
        "ends": {"limit": number(view.limit), "tight": number(view.tight)},
        "down": _floats(down),
        "across": _floats(across),
        "lead": max(lines, key=lambda r: r.sum).index if lines else 0,
        "boxes": {
            dim: [
                {"lines": s.lines or (s.line,), "start": s.start, "stop": s.stop, "sign": s.sign}
                for s in _drawn(view.tables, dim)
            ]
            for dim in view.tables.stretches
        },
    }


def _drawn(tables: Tables, dim: str) -> Sequence[Stretch]:
    shown = tables.shown(dim)
    return shown if tables.all_drawn else shown[: count_drawn([s.score for s in shown])]


def _floats(values: Any) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype="<f4").tobytes()).decode("ascii")


def write(report: Report, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write the file so that a half-written one never has its name: beside it first, then renamed.

    Raises:
        OutputExistsError: there is such a file, and ``overwrite`` is False.
    """
    target = Path(path)
    refuse_existing(target, overwrite)
    text = render(report)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())
        _publish(Path(name), target, overwrite)
    finally:
        Path(name).unlink(missing_ok=True)
    return target


def refuse_existing(target: Path, overwrite: bool) -> None:
    """Raise OutputExistsError where a report would overwrite something unasked."""
    if target.is_dir():
        raise OutputExistsError(f"{target} is a folder; give the path of a file, such as report.html.")
    if target.exists() and not overwrite:
        raise OutputExistsError(f"{target} exists already. Give overwrite=True (--force) or another path.")


def _publish(temporary: Path, target: Path, overwrite: bool) -> None:
    """Give the finished file its name; without ``overwrite``, fail if the name was taken meanwhile."""
    if overwrite:
        os.replace(temporary, target)
        return
    try:
        os.link(temporary, target)
    except FileExistsError:
        refuse_existing(target, overwrite)
    except OSError:  # no hard links here
        os.replace(temporary, target)


def _umask() -> int:
    """Return the process's umask, which mkstemp does not follow."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
