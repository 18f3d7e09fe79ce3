"""The Bokeh plots of a report: empty frames with linked axes and named data sources, which report.js fills.

It also sizes the frames of photographs and sets the ticks of all axes that show values.

One layout for each input. Nothing here uses CustomJS: that would need ``unsafe-eval`` in the file's
Content-Security-Policy. Text that comes from the user goes through :func:`plain`, so that Bokeh never takes
it for TeX and never asks for MathJax.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from bokeh.layouts import gridplot
from bokeh.models import (
    BasicTicker,
    BasicTickFormatter,
    ColumnDataSource,
    CrosshairTool,
    FixedTicker,
    HoverTool,
    LinearColorMapper,
    Model,
    Range1d,
)
from bokeh.models.annotations import ColorBar, Span
from bokeh.plotting import figure

from kerascope.report.data import Report
from kerascope.view.heatmap import fading, pale, palette, to_hex
from kerascope.view.panel import Axis, Panel

POSITIVE, NEGATIVE, INK, MUTED, TRUTH = "#c9302f", "#2166ac", "#1b2430", "#5d6875", "#0a7d4b"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif"

_TOOLS = "pan,wheel_zoom,box_zoom,reset,save"
_LABEL, _TICKS = 22, 40  # longest tick label in characters; most names that all get a tick
_WIDTH = 1150


def plain(text: str) -> str:
    r"""Break the delimiters of TeX ($$, \(, \[) with a zero-width space, so that text stays text."""
    for mark in ("$$", "\\(", "\\["):
        text = text.replace(mark, f"{mark[0]}\u200b{mark[1:]}")
    return text


def short(text: str, most: int = _LABEL) -> str:
    """Cut a label; its full length stands in the tables and on hover."""
    return plain(text if len(text) <= most else f"{text[: most - 1]}…")


def layout(report: Report, index: int) -> Model:
    """Return the Bokeh layout of one input; its stores and sources hang on ``tags`` and have names."""
    panel = report.panels[index]
    first = report.samples[0].inputs[index].pixel
    root = _line_layout(panel) if panel.kind == "line" else _matrix_layout(panel, report.value_limits[index], first)
    root.tags = [{"stores": _stores(report, index)}]
    return root


def _stores(report: Report, index: int) -> list[ColumnDataSource]:
    """Return the arrays of all samples and views as drawn; Bokeh sends each as base64."""
    panel = report.panels[index]
    inputs = [panel.drawn(s.inputs[index].cells) for s in report.samples]
    maps = [panel.drawn(v.cells) for v in report.views if v.input == index]
    stores = [
        ColumnDataSource({"image": list(map(np.ascontiguousarray, arrays))}, name=name)
        for name, arrays in (("inputs", inputs), ("maps", maps))
    ]
    photos = [s.inputs[index].photo for s in report.samples]
    colours = [_rgba(p) for p in photos if p is not None]
    greys = [np.ascontiguousarray(pale(p)[..., 0]) for p in photos if p is not None]
    return [*stores, ColumnDataSource({"image": colours, "grey": greys}, name="photos")]


def _rgba(photo: Any) -> Any:
    """Pack red, green, blue bytes (H, W, 3) into opaque uint32 (H, W)."""
    opaque = np.full((*photo.shape[:2], 1), 255, dtype=np.uint8)
    return np.ascontiguousarray(np.concatenate([photo, opaque], axis=-1)).view(np.uint32)[..., 0]


def _matrix_layout(panel: Panel, limits: tuple[float, float], pixel: float) -> Model:
    """Input and map side by side, sums over lines along the map, and below the input one of its lines."""
    left, (width, height) = _left(panel), frame(panel, pixel)
    x = Range1d(start=panel.across.edge(0), end=panel.across.edge(panel.across.size), name="x")
    y = Range1d(start=panel.down.edge(panel.down.size), end=panel.down.edge(0), name="y")
    cells = _empty("cells", "image", "value", "shade", "down", "across")
    bottom = _bottom(panel.across)
    given = _plot("Input", (left, _TOP, 6), (width, height), x_range=x, y_range=y)
    relevance = _plot("Relevance", (_INNER, _TOP, 6), (width, height), x_range=x, y_range=y)
    by_down = _down_sums(panel.down, height, y)
    by_across = _across_sums(panel.across, width, bottom, x)
    given.name, relevance.name, by_down.name, by_across.name = "input-plot", "map-plot", "down-plot", "across-plot"
    _draw_input(given, panel, cells, limits)
    _draw_map(relevance, panel, cells)
    _marks((given, relevance))
    _set_axis(given.yaxis[0], panel.down, vertical=True)
    _mute(relevance.yaxis)
    _mute((*given.xaxis, *relevance.xaxis))
    one_line = _one_line(panel, (left, 26, bottom), (width, 110), x)
    one_line.name = "line-plot"
    level, upright = Span(dimension="width", **_CROSS), Span(dimension="height", **_CROSS)
    for plot in (given, relevance):
        plot.add_tools(CrosshairTool(overlay=(level, upright)))
    for plot, span in ((by_down, level), (by_across, upright), (one_line, upright)):
        plot.add_tools(CrosshairTool(overlay=span))
    return _grid([[given, relevance, by_down], [one_line, by_across, None]])


def _grid(rows: list[list[Any]]) -> Model:
    """Put plots into a grid with one toolbar for all."""
    return gridplot(rows, merge_tools=True, toolbar_location="right", toolbar_options={"logo": None})


def _mute(axes: Any) -> None:
    """Hide the labels of axes that are labelled elsewhere."""
    for axis in axes:
        axis.major_label_text_font_size = "0px"


# Borders around a frame, in pixels. They are fixed and large enough for axes, titles and colour bars, so that
# the frames of a grid line up.
_INNER, _RIGHT, _TOP, _SIDE, _THIN = 56, 8, 54, 112, 14

_CROSS: dict[str, Any] = {"line_color": "#1b2430", "line_alpha": 0.35, "line_width": 1}


def _bottom(axis: Axis) -> int:
    """Return the height of an axis below a frame; names that stand aslant need more."""
    longest = max((min(len(n), _LABEL) for n in axis.names), default=1)
    return 46 + (5 * longest if _aslant(axis) else 0)


def _aslant(axis: Axis) -> bool:
    return axis.labelled and sum(min(len(n), _LABEL) for n in axis.names) > 60


def _left(panel: Panel) -> int:
    """Return the room left of the input, for the names of its lines."""
    return 50 + 7 * max((min(len(n), _LABEL) for n in panel.down.names), default=1)


def frame(panel: Panel, pixel: float) -> tuple[int, int]:
    """Return width and height of a matrix: a picture's own proportions, else rows of a readable height."""
    width = (_WIDTH - _left(panel) - _INNER - _SIDE - 3 * _RIGHT - _THIN) // 2
    if panel.kind == "picture":
        ratio = pixel * panel.down.size / panel.across.size
        height = min(460, round(width * ratio))
        return max(40, round(height / ratio)), max(40, height)
    per_row = 34 if panel.down.size <= 8 else 19
    return width, int(np.clip(panel.down.size * per_row, 170, 440))


def _plot(title: str, borders: tuple[int, int, int], size: tuple[int, int], **ranges: Any) -> Any:
    """Return an empty plot in the report's style.

    Args:
        title: text above the frame.
        borders: pixels to the left, above and below the frame.
        size: width and height of the frame in pixels.
        ranges: given to Bokeh's figure.
    """
    left, top, bottom = borders
    plot: Any = figure(
        title=plain(title), tools=_TOOLS, toolbar_location=None, active_scroll=None, active_drag=None,
        width=left + size[0] + _RIGHT, height=top + size[1] + bottom,
        min_border_left=left, min_border_right=_RIGHT, min_border_top=top, min_border_bottom=bottom,
        background_fill_color="#ffffff", border_fill_color="#ffffff", outline_line_color="#c8cfd6", **ranges,
    )  # fmt: skip
    plot.title.text_font, plot.title.text_font_size, plot.title.text_font_style = FONT, "12px", "bold"
    plot.title.text_color = INK
    plot.grid.grid_line_color = None
    for axis in (*plot.xaxis, *plot.yaxis):
        axis.axis_label_text_font = axis.major_label_text_font = FONT
        axis.axis_label_text_font_size = axis.major_label_text_font_size = "11px"
        axis.axis_label_text_font_style = "normal"
        axis.axis_label_text_color = axis.major_label_text_color = MUTED
        axis.axis_line_color = axis.major_tick_line_color = "#c8cfd6"
        axis.minor_tick_line_color, axis.major_tick_in, axis.formatter = None, 0, _numbers()
    return plot


def _set_axis(axis: Any, of: Axis, *, vertical: bool) -> None:
    """Label an axis: every name where they are few, else those that fit; real coordinates as numbers."""
    axis.axis_label = plain(short(of.dim, 40))
    if of.real:
        return
    plain_index = not of.labelled and of.names[:1] == ("0",) and of.names[-1] == str(of.size - 1)
    if of.labelled and of.size <= _TICKS:
        axis.ticker = FixedTicker(ticks=[of.at(i) for i in range(of.size)])
    else:
        axis.ticker = BasicTicker(min_interval=1, desired_num_ticks=8, num_minor_ticks=0)
    if not plain_index:
        axis.major_label_overrides = {of.at(i): short(name) for i, name in enumerate(of.names)}
    if not vertical and _aslant(of):
        axis.major_label_orientation = 0.9


def _empty(name: str, *columns: str) -> ColumnDataSource:
    """Return a named source that report.js will fill."""
    return ColumnDataSource({column: [] for column in columns}, name=name)


def _place(panel: Panel) -> dict[str, float]:
    """Return where an image lies: row 0 at the lowest coordinate, which the reversed range draws on top."""
    down, across = panel.down, panel.across
    size = {"dw": across.step * across.size, "dh": down.step * down.size}
    return {"x": across.edge(0), "y": down.edge(0), **size}


def _tips(panel: Panel) -> list[tuple[str, str]]:
    return [
        (plain(panel.down.dim), "@down"), (plain(panel.across.dim), "@across"),
        ("value", "@value"), ("relevance", "@image"),
    ]  # fmt: skip


def _draw_input(plot: Any, panel: Panel, cells: ColumnDataSource, limits: tuple[float, float]) -> None:
    """Draw the input: the picture, or its cells in colours that are not those of the map."""
    low, high = limits
    if low < 0 < high:
        colours, end = to_hex(palette("signed")), max(-low, high)
        low, high = -end, end
    else:
        colours = to_hex(palette("plain"))
    mapper = LinearColorMapper(palette=colours, low=low, high=high, nan_color="#bebebe", name="value-colours")
    image = plot.image("shade", source=cells, color_mapper=mapper, **_place(panel))
    if panel.kind == "picture":
        image.glyph.global_alpha = 0.0
        photo = _empty("photo", "image", "grey")
        plot.image_rgba("image", source=photo, level="image", **_place(panel))
    else:
        plot.add_layout(_colour_bar(mapper, "value-bar"), "above")
    plot.add_tools(HoverTool(renderers=[image], tooltips=_tips(panel)))


def _draw_map(plot: Any, panel: Panel, cells: ColumnDataSource) -> None:
    """Draw the map: white at zero, or clear at zero over a pale picture."""
    solid = palette("relevance")
    bar = LinearColorMapper(palette=to_hex(solid), low=-1, high=1, nan_color="#bebebe", name="colours")
    mapper = bar
    if panel.kind == "picture":
        photo = _empty("pale", "image", "grey")
        greys = LinearColorMapper(palette=to_hex(palette("grey")), low=0, high=255)
        plot.image("grey", source=photo, color_mapper=greys, **_place(panel))
        mapper = LinearColorMapper(palette=to_hex(fading(solid)), low=-1, high=1, name="clear-colours")
    image = plot.image("image", source=cells, color_mapper=mapper, **_place(panel))
    plot.add_layout(_colour_bar(bar, "bar"), "above")
    plot.add_tools(HoverTool(renderers=[image], tooltips=_tips(panel)))


def _numbers() -> BasicTickFormatter:
    """Return a formatter that writes small numbers out."""
    return BasicTickFormatter(power_limit_low=-6)


def _colour_bar(mapper: LinearColorMapper, name: str) -> ColorBar:
    return ColorBar(
        name=name, color_mapper=mapper, orientation="horizontal", height=8, padding=2, margin=0, width="auto",
        ticker=FixedTicker(), formatter=_numbers(), major_tick_line_color=None,
        bar_line_color="#c8cfd6",
        major_label_text_font=FONT, major_label_text_font_size="10px", major_label_text_color=MUTED,
        border_line_color=None, background_fill_alpha=0.0,
    )  # fmt: skip


def _marks(plots: tuple[Any, ...]) -> None:
    """Draw stretches as boxes with their ranks, and the truth as a dashed border."""
    boxes = _empty("boxes", "left", "right", "top", "bottom", "rank")
    truth = _empty("truth", "x0", "y0", "x1", "y1")
    for plot in plots:
        for colour, thick in (("#ffffff", 3.4), (INK, 1.4)):
            edge: dict[str, Any] = {"line_color": colour, "line_width": thick}
            plot.quad("left", "right", "top", "bottom", source=boxes, fill_alpha=0, **edge)
        for colour, thick, dash in (("#ffffff", 4, "solid"), (TRUTH, 2.4, "dashed")):
            edge = {"line_color": colour, "line_width": thick, "line_dash": dash}
            plot.segment("x0", "y0", "x1", "y1", source=truth, **edge)
        plot.text(
            "left", "top", "rank", source=boxes, text_font={"value": FONT}, text_font_size="10px",
            text_color="#ffffff", text_baseline="top", background_fill_color=INK, padding=1,
        )  # fmt: skip


def _down_sums(axis: Axis, height: int, y: Range1d) -> Any:
    """Return the profile right of the map: the sum of each of its lines."""
    ends = Range1d(start=0, end=1, name="down-ends")
    title = f"Sum by {axis.dim}" if len(axis.dim) <= 10 else "Sum"
    size, above = (_SIDE, height), {"x_axis_location": "above"}
    plot = _plot(title, (_THIN, _TOP, 6), size, x_range=ends, y_range=y, **above)
    source = _empty("down-sums", "at", "sum", "name", "colour")
    bars = plot.hbar(y="at", right="sum", left=0, height=_thick(axis), color="colour", source=source)
    plot.yaxis.visible = False
    plot.xaxis[0].name, plot.xaxis[0].ticker = "down-ticks", FixedTicker()
    plot.xaxis.major_label_text_font_size = "10px"
    _finish(plot, bars, axis, "height")
    return plot


def _across_sums(axis: Axis, width: int, bottom: int, x: Range1d) -> Any:
    """Return the profile below the map: the sum at each place across."""
    ends = Range1d(start=0, end=1, name="across-ends")
    plot = _plot(f"Sum by {short(axis.dim, 40)}", (_INNER, 26, bottom), (width, 110), x_range=x, y_range=ends)
    source = _empty("across-sums", "at", "sum", "name", "colour")
    bars = plot.vbar(x="at", top="sum", bottom=0, width=_thick(axis), color="colour", source=source)
    _set_axis(plot.xaxis[0], axis, vertical=False)
    plot.yaxis[0].name, plot.yaxis[0].ticker = "across-ticks", FixedTicker()
    plot.yaxis.major_label_text_font_size = "10px"
    _finish(plot, bars, axis, "width")
    return plot


def _thick(axis: Axis) -> float:
    """Return the width of bars: with gaps while they are few."""
    return (0.86 if axis.size <= 60 else 1.0) * axis.step


def _finish(plot: Any, bars: Any, axis: Axis, dimension: Any) -> None:
    plot.add_tools(HoverTool(renderers=[bars], tooltips=[(plain(axis.dim), "@name"), ("sum", "@sum")]))
    plot.add_layout(Span(location=0, dimension=dimension, line_color="#9aa5b1"))


def _one_line(panel: Panel, borders: tuple[int, int, int], size: tuple[int, int], x: Range1d) -> Any:
    """Return the input along one line, the strongest at first, with its stretches shaded."""
    ends = Range1d(start=0, end=1, name="line-ends")
    plot = _plot("Input", borders, size, x_range=x, y_range=ends)
    plot.title.name = "line-title"
    source = _empty("line", "at", "value", "name")
    shade = _empty("line-shade", "x0", "x1", "colour")
    plot.vstrip(x0="x0", x1="x1", source=shade, fill_color="colour", fill_alpha=0.16, line_color=None)
    line = plot.line("at", "value", source=source, line_color=INK, line_width=1.3)
    if panel.across.size <= 60:
        plot.scatter("at", "value", source=source, size=4, color=INK)
    _set_axis(plot.xaxis[0], panel.across, vertical=False)
    plot.yaxis[0].name, plot.yaxis[0].ticker = "line-ticks", FixedTicker()
    tips = [(plain(panel.across.dim), "@name"), ("value", "@value")]
    plot.add_tools(HoverTool(renderers=[line], tooltips=tips, mode="vline"))
    return plot


def _line_layout(panel: Panel) -> Model:
    """A sample with one axis: its values over shading by relevance, and relevance as bars."""
    axis, left = panel.columns, 70
    x = Range1d(start=axis.edge(0), end=axis.edge(axis.size), name="x")
    width = _WIDTH - left - _RIGHT
    mapper = LinearColorMapper(palette=to_hex(palette("relevance")), low=-1, high=1, name="colours")
    source = _empty("points", "at", "x0", "x1", "value", "sum", "name", "colour")
    ends, sums = Range1d(start=0, end=1, name="line-ends"), Range1d(start=0, end=1, name="across-ends")
    top = _plot("Input, shaded by relevance", (left, _TOP, 6), (width, 220), x_range=x, y_range=ends)
    shade = {"field": "sum", "transform": mapper}
    strength = 0.45 if axis.labelled else 1.0
    top.vstrip(x0="x0", x1="x1", source=source, fill_color=shade, fill_alpha=strength, line_color=None)
    if not axis.labelled:
        top.line("at", "value", source=source, line_color=INK, line_width=1.4)
    if axis.size <= 200:
        size = 9 if axis.labelled else 5
        top.scatter("at", "value", source=source, size=size, fill_color=INK, line_color="#ffffff")
    top.add_layout(_colour_bar(mapper, "bar"), "above")
    top.yaxis[0].name, top.yaxis[0].ticker = "line-ticks", FixedTicker()
    _mute(top.xaxis)
    bottom = _plot("Relevance", (left, 26, _bottom(axis)), (width, 150), x_range=x, y_range=sums)
    bars = bottom.vbar(x="at", top="sum", bottom=0, width=_thick(axis), color="colour", source=source)
    bottom.add_layout(Span(location=0, dimension="width", line_color="#9aa5b1"))
    bottom.yaxis[0].name, bottom.yaxis[0].ticker = "across-ticks", FixedTicker()
    _set_axis(bottom.xaxis[0], axis, vertical=False)
    _marks((bottom,))
    tips = [(plain(axis.dim), "@name"), ("value", "@value"), ("relevance", "@sum")]
    cross = Span(dimension="height", **_CROSS)
    for plot, renderers in ((top, [top.renderers[0]]), (bottom, [bars])):
        plot.add_tools(HoverTool(renderers=renderers, tooltips=tips), CrosshairTool(overlay=cross))
    return _grid([[top], [bottom]])
