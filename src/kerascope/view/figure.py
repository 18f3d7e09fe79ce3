"""Figures for papers and notebooks: the only module that imports Matplotlib."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from kerascope.errors import BadInputError
from kerascope.record import Array, parts, position
from kerascope.view.heatmap import fading, outline, pale, palette, symmetric_limit
from kerascope.view.panel import Axis, Panel, count_drawn, counted_once, panel_of, pixel_height
from kerascope.view.text import headline, sample_label, single

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from kerascope.explanation import Explanation

POSITIVE, NEGATIVE, INK, TRUTH = "#c9302f", "#2166ac", "#1b2430", "#0a7d4b"
_LABEL, _TICKS, _BOXES = 24, 30, 8  # characters of a tick label, ticks with names, stretches drawn


class NotebookFigure(Figure):
    """A Matplotlib figure that shows itself in notebooks, without pyplot's global state."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=110)
        return buffer.getvalue()


def plot(
    explanation: Explanation,
    i: int = 0,
    *,
    target: int = 0,
    ax: Axes | None = None,
    segments: bool = True,
    truth: Array | None = None,
    figsize: tuple[float, float] | None = None,
    input: str | None = None,
) -> Figure:
    """Draw the input and the map of one sample.

    The matrix stands beside its map, on shared axes with real coordinates and names; the sums over rows and
    columns along the map's margins; colours are symmetric, white at zero. A sample with one axis is a line
    over its relevance, a picture is shown as such. Nothing is shown: ``figure.savefig(path)`` writes it.

    Args:
        explanation: what to draw.
        i: the sample.
        target: position along the axis of targets, if there is one.
        ax: draw the map alone, on these axes; None makes a figure.
        segments: outline the best stretches along the axis whose neighbours mean most.
        truth: bool array (N, rows, columns), or (rows, columns) for this sample, outlined with dashes.
        figsize: width and height in inches.
        input: which input, with several; None takes the first.

    Returns:
        The figure.

    Raises:
        BadInputError: no such sample or target, or ``truth`` has another shape.

    Example:
        >>> explanation.plot(3).savefig("sample_3.pdf")  # doctest: +SKIP
    """
    i = position("sample", i, len(explanation))
    count = explanation.explained.shape[1] if explanation.explained.ndim == 2 else 1
    one = single(explanation, i, position("target", target, count))
    key = input or (one.input_names[0] if one.input_names else None)
    panel = panel_of(one, key or "")
    drawing = _Drawing(one, panel, _mask(truth, i, len(explanation), panel), segments)
    if ax is not None:
        drawing.map(ax) if panel.kind != "line" else drawing.bars(ax)
        ax.set_title(headline(one, 0, 0, sample_label(explanation, i)), parse_math=False)
        return ax.get_figure(root=True) or ax.figure.figure
    title = f"{headline(one, 0, 0, sample_label(explanation, i))}\n{one.method_name}"
    figure = NotebookFigure(figsize=figsize or _size(panel, drawing.pixel))
    figure.suptitle(title, fontsize=11, y=1.0 - 0.1 / figure.get_figheight(), va="top", parse_math=False)
    drawing.line(figure) if panel.kind == "line" else drawing.matrices(figure)
    return figure


def plot_signal_quality(table: pd.DataFrame, *, ax: Axes | None = None) -> Figure:
    """Draw what `kerascope.signal_quality` found by layer: rho of pattern, filter and random direction.

    Args:
        table: from ``signal_quality(..., by="layer")``.
        ax: draw on these axes; None makes a figure.

    Returns:
        The figure. Layers run from the input upwards, rho from 0 to 1, which is perfect; the bar spans the neurons.

    Raises:
        BadInputError: for another table.

    Example:
        >>> plot_signal_quality(quality).savefig("quality.pdf")  # doctest: +SKIP
    """
    missing = {"layer", "rho", "rho_rectified", "filter", "random", "lowest", "highest"} - set(table.columns)
    if missing:
        raise BadInputError(
            f"Give a table of signal_quality(..., by='layer'); this lacks {', '.join(sorted(missing))}."
        )
    if ax is None:
        figure = NotebookFigure(figsize=(max(4.5, 1.6 + 0.55 * len(table)), 3.6), layout="constrained")
        ax = figure.add_subplot()
    at = np.arange(len(table))
    ax.vlines(at, table["lowest"], table["highest"], color=POSITIVE, alpha=0.35, linewidth=5)
    styles: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("rho", "pattern", {"color": POSITIVE, "marker": "o"}),
        ("rho_rectified", "pattern, answer behind the ReLU", {"color": POSITIVE, "marker": "^", "linestyle": ":"}),
        ("filter", "filter", {"color": NEGATIVE, "marker": "s"}),
        ("random", "random direction", {"color": "0.5", "marker": "x"}),
    )
    for column, label, style in styles:
        ax.plot(at, table[column].to_numpy(float), label=label, markersize=5, linewidth=1, **style)
    names = [_short(str(name)) for name in table["layer"]]
    ax.set_xticks(at, names, rotation=50, ha="right", parse_math=False)
    ax.set(ylim=(-0.03, 1.05), ylabel="rho: 1 - correlation left in the residual")
    ax.legend(fontsize=8, frameon=False)
    return ax.get_figure(root=True) or ax.figure.figure


# Inches around the frames of a figure: these hold titles, colour bars, tick labels and margins' profiles.
_TOP, _GAP, _RIGHT, _SIDE, _BELOW, _PER_CHARACTER = 1.02, 0.5, 0.14, 0.85, 0.7, 0.085


def _edges(panel: Panel) -> tuple[float, float]:
    """Return the room in inches left of the frames and below them, for names and labels."""
    down, across = (max(min(len(n), _LABEL) for n in axis.names) for axis in (panel.down, panel.across))
    left = 0.5 + _PER_CHARACTER * down
    return left, 0.5 + (0.75 * _PER_CHARACTER * across if _aslant(panel.across) else 0.0)


def _size(panel: Panel, pixel: float) -> tuple[float, float]:
    """Return the width and height of a figure in inches."""
    if panel.kind == "line":
        return 9.0, 4.4 + _edges(panel)[1]
    left, bottom = _edges(panel)
    width = 11.0
    height = 0.16 * panel.down.size if panel.down.size > 8 else 0.27 * panel.down.size
    if panel.kind == "picture":
        height = (width - left - _GAP - _SIDE - 2 * _RIGHT) / 2 * pixel * panel.down.size / panel.across.size
    return width, _TOP + bottom + _BELOW + _RIGHT + float(np.clip(height, 1.5, 4.5))


def _mask(truth: Array | None, i: int, count: int, panel: Panel) -> npt.NDArray[np.bool_] | None:
    """Return the truth of the sample, bool (rows, columns)."""
    if truth is None:
        return None
    mask, want = np.asarray(truth), (panel.rows.size, panel.columns.size)
    if mask.shape == (count, *want) or (panel.kind == "line" and mask.shape == (count, want[1])):
        mask = mask[i]
    if mask.shape not in (want, want[1:] if panel.kind == "line" else want):
        raise BadInputError(f"truth must have shape {(count, *want)} or {want}; got {np.shape(truth)}.")
    return mask.astype(bool).reshape(want)


class _Places:
    """Where the frames of a figure stand: in inches from the upper left corner of the first frame."""

    def __init__(self, figure: Figure, panel: Panel, pixel: float) -> None:
        self.figure = figure
        self.left, bottom = _edges(panel)
        total = figure.get_size_inches()
        self.width = max(0.5, (total[0] - self.left - _GAP - _SIDE - 2 * _RIGHT) / 2)
        self.height = max(0.5, total[1] - _TOP - bottom - _BELOW - _RIGHT)
        if panel.kind == "picture":
            scale = min(self.width / panel.across.size, self.height / (pixel * panel.down.size))
            self.width, self.height = scale * panel.across.size, scale * pixel * panel.down.size

    def axes(self, x: float, y: float, width: float, height: float, **shared: Any) -> Axes:
        """Add axes; x and y count from the first frame's upper left corner, to the right and down."""
        across, down = self.figure.get_size_inches()
        top = down - _TOP - y - height
        at = ((self.left + x) / across, top / down, width / across, height / down)
        axes: Axes = self.figure.add_axes(at, **shared)
        return axes


class _Drawing:
    """One sample and what is drawn of it; each method draws on axes or a figure given to it."""

    def __init__(self, one: Explanation, panel: Panel, truth: npt.NDArray[np.bool_] | None, segments: bool) -> None:
        self.one, self.panel, self.truth = counted_once(one), panel, truth
        self.pixel = pixel_height(one, panel)
        self.relevance = self.one.matrix(0, input=panel.key or None).reshape(panel.rows.size, panel.columns.size)
        self.given = parts(one.inputs, one.input_names)[panel.key][0]
        self.limit = symmetric_limit(self.relevance)
        self.boxes = self._boxes() if segments and np.isfinite(self.relevance).all() else []
        across, down = panel.across, panel.down
        self.extent = (across.edge(0), across.edge(across.size), down.edge(down.size), down.edge(0))

    def _boxes(self) -> list[tuple[float, float, float, float]]:
        """Return the best stretches as (left, top, width, height), in the coordinates drawn."""
        panel, found = self.panel, []
        for dim in panel.stretch_dims(self.one.attrs.get("ordered"))[:1]:
            best = self.one.segments(dim, input=panel.key or None).head(_BOXES)
            best = best.head(count_drawn(best["score"].tolist()))
            for line, start, stop in zip(best["line"], best["start"], best["stop"], strict=True):
                spans = {panel.across.dim: (max(0, line), max(0, line) + 1), panel.down.dim: (0, 1)}
                spans[panel.down.dim] = spans[panel.across.dim]
                spans[dim] = (start, stop)
                (a, b), (c, d) = spans[panel.across.dim], spans[panel.down.dim]
                left, top = panel.across.edge(a), panel.down.edge(c)
                found.append((left, top, panel.across.edge(b) - left, panel.down.edge(d) - top))
        return found

    def matrices(self, figure: Figure) -> None:
        """Draw the input beside the map, with profiles and colour bars along the margins."""
        place = _Places(figure, self.panel, self.pixel)
        left = place.axes(0.0, 0.0, place.width, place.height)
        right = place.axes(place.width + _GAP, 0.0, place.width, place.height, sharex=left, sharey=left)
        shown, image = self.input(left), self.map(right)
        for axes, mappable, name in ((left, shown, "Input"), (right, image, "Relevance")):
            axes.set_title(name, fontsize=10, pad=6 if mappable is None else 26)
            axes.tick_params(labelbottom=False, labelsize=9)
            axes.set_xlabel("")
            if mappable is not None:
                x = 0.0 if axes is left else place.width + _GAP
                bar = figure.colorbar(mappable, cax=place.axes(x, -0.13, place.width, 0.07), orientation="horizontal")
                bar.ax.xaxis.set_ticks_position("top")
                bar.ax.tick_params(labelsize=8, length=2)
                bar.outline.set_linewidth(0.4)
        right.tick_params(labelleft=False)
        right.set_ylabel("")
        self._profiles(place, right)

    def _profiles(self, place: _Places, axes: Axes) -> None:
        """Draw the sums of rows and columns as bars on axes shared with the map."""
        panel, drawn = self.panel, self.panel.drawn(self.relevance)
        x = place.width + _GAP
        side = place.axes(x + place.width + _RIGHT, 0.0, _SIDE - _RIGHT, place.height, sharey=axes)
        below = place.axes(x, place.height + _RIGHT, place.width, _BELOW - _RIGHT, sharex=axes)
        down, across = drawn.sum(axis=1), drawn.sum(axis=0)
        side.barh(_centres(panel.down), down, height=panel.down.step, color=_signs(down))
        below.bar(_centres(panel.across), across, width=panel.across.step, color=_signs(across))
        side.axvline(0.0, color="#9aa5b1", linewidth=0.8)
        below.axhline(0.0, color="#9aa5b1", linewidth=0.8)
        side.tick_params(labelleft=False, labelsize=8)
        below.tick_params(labelsize=8)
        side.xaxis.set_major_locator(MaxNLocator(2))
        below.yaxis.set_major_locator(MaxNLocator(3))
        _label(below, panel.across, "x")
        for margin in (side, below):
            margin.spines[["top", "right"]].set_visible(False)
        side.set_title("Sum", fontsize=9)
        below.set_ylabel("Sum", fontsize=9, rotation=0, ha="right", va="center")

    def input(self, axes: Axes) -> Any:
        """Draw the input; return what a colour bar needs, or None for a picture."""
        panel, shown = self.panel, None
        if panel.kind == "picture":
            axes.imshow(panel.photo(self.given), extent=self.extent, aspect=self.pixel, interpolation="nearest")
        else:
            cells = panel.drawn(panel.cells(self.given))
            low, high = float(np.nanmin(cells)), float(np.nanmax(cells))
            colours = palette("plain")
            if low < 0 < high:
                colours, high = palette("signed"), symmetric_limit(cells)
                low = -high
            shown = axes.imshow(
                cells, extent=self.extent, cmap=_colours(colours), vmin=low, vmax=high,
                aspect="auto", interpolation="nearest",
            )  # fmt: skip
        self._frame(axes)
        return shown

    def map(self, axes: Axes) -> Any:
        """Draw the map, over the pale picture where there is one; return what a colour bar needs."""
        panel, colours = self.panel, _colours(palette("relevance"))
        picture = panel.kind == "picture"
        if picture:
            axes.imshow(pale(panel.photo(self.given)), extent=self.extent, aspect=self.pixel, interpolation="nearest")
            colours = _colours(fading(palette("relevance")))
        image = axes.imshow(
            panel.drawn(self.relevance), extent=self.extent, cmap=colours, vmin=-self.limit, vmax=self.limit,
            aspect=self.pixel if picture else "auto", interpolation="nearest",
        )  # fmt: skip
        self._frame(axes)
        return image

    def _frame(self, axes: Axes) -> None:
        """Label the axes; draw boxes and the truth."""
        _label(axes, self.panel.across, "x")
        _label(axes, self.panel.down, "y")
        for left, top, width, height in self.boxes:
            axes.add_patch(Rectangle((left, top), width, height, fill=False, edgecolor="white", linewidth=2.2))
            axes.add_patch(Rectangle((left, top), width, height, fill=False, edgecolor=INK, linewidth=1.0))
        if self.truth is not None:
            lines = self._border()
            axes.add_collection(LineCollection(lines, colors="white", linewidths=2.6))
            axes.add_collection(LineCollection(lines, colors=TRUTH, linewidths=1.6, linestyles=(0, (3, 2))))

    def _border(self) -> list[list[tuple[float, float]]]:
        """Return the border of the truth as lines in the coordinates drawn."""
        panel = self.panel
        mask = panel.drawn(self.truth) if self.truth is not None else np.zeros((1, 1), dtype=bool)
        return [
            [(panel.across.edge(a), panel.down.edge(d)) for d, a in ((d0, a0), (d1, a1))]
            for d0, a0, d1, a1 in outline(mask)
        ]

    def line(self, figure: Figure) -> None:
        """Draw a sample with one axis: its values over shading by relevance, and bars."""
        figure.set_layout_engine("constrained", rect=(0.0, 0.0, 1.0, 1.0 - 0.5 / figure.get_figheight()))
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        axis, values = self.panel.columns, self.panel.cells(self.given)[0]
        room = 0.08 * float(np.ptp(values) or 1.0)
        ends = float(values.min()) - room, float(values.max()) + room
        image = top.imshow(
            self.relevance, extent=(*self.extent[:2], *ends), cmap=_colours(palette()), aspect="auto",
            vmin=-self.limit, vmax=self.limit, interpolation="nearest", alpha=0.5 if axis.labelled else 1.0,
        )  # fmt: skip
        style = {"linestyle": "none", "marker": "o"} if axis.labelled else {"linewidth": 1.2}
        top.plot(_centres(axis), values, color=INK, **style)
        top.set(ylim=ends, ylabel="input")
        figure.colorbar(image, ax=top, pad=0.01).ax.tick_params(labelsize=8)
        self.bars(bottom)

    def bars(self, axes: Axes) -> None:
        """Draw the relevance of a sample with one axis as bars; stretches and truth as bands."""
        axis, values = self.panel.columns, self.relevance[0]
        axes.bar(_centres(axis), values, width=axis.step, color=_signs(values))
        axes.axhline(0.0, color="#9aa5b1", linewidth=0.8)
        for left, _, width, _ in self.boxes:
            axes.axvspan(left, left + width, fill=False, edgecolor=INK, linewidth=1.0)
        for (x0, y0), (_, y1) in self._border() if self.truth is not None else ():
            if y0 != y1:
                axes.axvline(x0, color=TRUTH, linewidth=1.6, linestyle=(0, (3, 2)))
        axes.set(ylabel="relevance", xlim=self.extent[:2])
        _label(axes, axis, "x")


def _centres(axis: Axis) -> npt.NDArray[Any]:
    return axis.start + axis.step * np.arange(axis.size)


def _signs(values: npt.NDArray[Any]) -> list[str]:
    return [NEGATIVE if v < 0 else POSITIVE for v in values]


def _colours(colours: npt.NDArray[np.uint8]) -> ListedColormap:
    return ListedColormap((colours / 255.0).tolist())


def _short(text: str) -> str:
    return text if len(text) <= _LABEL else f"{text[: _LABEL - 1]}…"


def _aslant(axis: Axis) -> bool:
    return axis.labelled and sum(min(len(n), _LABEL) for n in axis.names) > 60


def _label(axes: Axes, of: Axis, which: str) -> None:
    """Label one axis: its dim; a tick for each name where they are words, else real coordinates."""
    (axes.set_xlabel if which == "x" else axes.set_ylabel)(_short(of.dim), parse_math=False)
    axis = axes.xaxis if which == "x" else axes.yaxis
    if of.labelled:
        every = -(-of.size // _TICKS)
        wide = which == "x" and _aslant(of)
        axis.set_ticks(
            [of.at(i) for i in range(0, of.size, every)],
            [_short(name) for name in of.names[::every]],
            parse_math=False,
            rotation=50 if wide else 0,
            ha="right" if wide or which == "y" else "center",
        )
    elif not of.real:
        axis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        axis.set_major_formatter(FuncFormatter(lambda at, _: _name_at(of, at)))


def _name_at(axis: Axis, at: float) -> str:
    index = round((at - axis.start) / axis.step)
    return axis.names[index] if 0 <= index < axis.size else ""
