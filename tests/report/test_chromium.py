"""The report in a browser with the network off: it draws, asks for nothing, and its selectors work."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from kerascope.report import report
from kerascope.report.build import Telling, build
from kerascope.report.data import Page, Stretch, Tables
from kerascope.report.html import write
from kerascope.view.heatmap import lay_over, pale, palette, to_hex
from kerascope.view.text import number
from tests.report import cases
from tests.report.browser import Browser

pytestmark = pytest.mark.backend_free

# Frames of the plots on the page: title, x, y, width, height.
FRAMES = """(() => {
  const found = [], walk = (view) => {
    if (view.frame && view.frame.bbox) {
      const page = view.el.getBoundingClientRect(), box = view.frame.bbox;
      found.push([view.model.title.text, page.x + box.x0, page.y + box.y0, box.width, box.height]);
    }
    for (const child of view.children_views ? view.children_views() : view.children()) walk(child);
  };
  for (const doc of Bokeh.documents) for (const root of doc.roots()) {
    const view = Bokeh.index.get_one(root);
    if (view && view.el.offsetParent !== null) walk(view);
  }
  return found;
})()"""

# Text of all tooltips shown; they live in shadow trees.
TOOLTIPS = """(() => {
  const out = [], walk = (node) => {
    if (node.classList && node.classList.contains("bk-Tooltip")) {
      const copy = [...(node.shadowRoot || node).querySelectorAll("div")].map((d) => d.innerText || "");
      out.push(copy.join(" "));
    }
    if (node.shadowRoot) for (const child of node.shadowRoot.children) walk(child);
    for (const child of node.children) walk(child);
  };
  walk(document.body);
  return out.join(" | ");
})()"""

MAP = "Array.from(Bokeh.documents.at(-1).get_model_by_name('cells').data.image[0])"


@pytest.fixture(scope="module")
def browser(chromium):
    with Browser(chromium) as started:
        yield started


def frames(browser):
    found = browser.js(FRAMES)
    return {title: box for title, *box in found}


def quiet(browser):
    """Nothing asked for but the file itself, no error, no violation, no dialog."""
    asked = [url for url in browser.requests if not url.startswith("data:")]
    assert len(asked) == 1, asked
    assert asked[0].startswith("file:")
    assert browser.complaints == []


@pytest.mark.parametrize(
    "make",
    [
        cases.sensors,
        cases.photo,
        lambda: cases.photo((48, 48), channels=1),
        cases.line,
        cases.table,
        cases.several_inputs,
        cases.hostile,
    ],
    ids=["sensors", "photo", "grey", "line", "table", "inputs", "hostile"],
)
def test_it_is_drawn_and_asks_for_nothing(browser, tmp_path, make, request):
    path = report(make(), tmp_path / f"{request.node.callspec.id}.html")
    browser.open(path)
    assert browser.js("document.body.dataset.shown") == "0-0-0-0"
    assert browser.js("document.getElementById('failed').hidden")
    assert browser.js("document.documentElement.scrollWidth") <= 1280
    drawn = "document.querySelector('.plots:not([hidden])').getBoundingClientRect().height"
    assert browser.js(drawn) > 250
    assert browser.js("typeof window.MathJax") == "undefined"
    quiet(browser)


def test_a_photograph_lies_under_its_map(browser, tmp_path):
    e = cases.prepared("means")
    browser.open(report(e, tmp_path / "photo.html"), "#sample=1")
    assert browser.js("document.querySelector('#answer h2').textContent").startswith("Sample 1: class dog, logit ")
    shown = "Bokeh.documents.at(-1).get_model_by_name({!r}).data"
    pixels = np.rint(cases.photo().inputs[1] * 255.0).astype(np.uint8)
    packed = np.array(browser.js(f"Array.from({shown.format('photo')}.image[0])"), dtype=np.uint32)
    np.testing.assert_array_equal(packed.view(np.uint8).reshape(96, 128, 4)[..., :3], pixels)
    grey = np.array(browser.js(f"Array.from({shown.format('pale')}.grey[0])")).reshape(96, 128)
    np.testing.assert_array_equal(grey, pale(pixels)[..., 0])
    np.testing.assert_allclose(browser.js(MAP), e.matrix(1).ravel(), rtol=1e-6)
    clear = browser.js("Bokeh.documents.at(-1).get_model_by_name('clear-colours').palette")
    assert (clear[127][-2:], clear[0][-2:], clear[-1][-2:]) == ("00", "bf", "bf")  # the photograph shows through
    quiet(browser)


def test_the_policy_holds(browser, tmp_path):
    """Break it on purpose: a script put in, a picture and a request from elsewhere."""
    path = report(cases.table(), tmp_path / "policy.html")
    browser.open(path)
    browser.js("""(async () => {
      const script = document.createElement('script');
      script.textContent = 'window.broken = true';
      document.body.append(script);
      document.body.append(Object.assign(new Image(), {src: 'https://example.invalid/x.png'}));
      await fetch('https://example.invalid/').catch(() => 0);
    })()""")
    assert browser.js("window.broken === undefined")
    browser.js("new Promise((done) => setTimeout(done, 50))")
    assert sum("Content Security Policy" in text for text in browser.complaints) >= 3


def two_methods():
    e = cases.sensors(3)
    return e, dataclasses.replace(e, values=-0.5 * e.values, explained=e.explained * 2, attrs=cases.attrs("lrp"))


def test_methods_stand_side_by_side(browser, tmp_path):
    """Every method's map as a small picture: colours of the same palette, and a click shows it in full."""
    e, other = two_methods()
    browser.open(report([e, other], tmp_path / "beside.html"), "#sample=1")
    colours = np.array([list(bytes.fromhex(code[1:7])) for code in to_hex(palette("relevance"))])
    for m, one in enumerate((e, other)):
        map_ = one.values[1].T
        canvas = f"document.getElementById('beside-{m}')"
        pixels = f"Array.from({canvas}.getContext('2d').getImageData(0, 0, {map_.shape[1]}, {map_.shape[0]}).data)"
        drawn = np.array(browser.js(pixels)).reshape(*map_.shape, 4)
        assert (drawn[..., 3] == 255).all()
        places = np.floor((map_ / np.abs(map_).max() + 1) / 2 * (len(colours) - 1) + 0.5).astype(int)
        assert np.mean(np.all(drawn[..., :3] == colours[places], axis=-1)) > 0.99  # float32 may round to a neighbour
    browser.js("document.querySelectorAll('.beside button')[1].click()")
    browser.wait("document.body.dataset.shown === '1-1-0-0'")
    assert browser.js("document.querySelectorAll('.beside button')[1].classList.contains('chosen')")
    quiet(browser)


def test_maps_side_by_side_are_printed_once_they_are_drawn(browser, tmp_path):
    browser.open(report(list(two_methods()), tmp_path / "printed.html"))
    shown = "getComputedStyle(document.querySelector('.beside button')).display"
    found = []
    for media in ("", "print"):
        browser.call("Emulation.setEmulatedMedia", media=media)
        found.append(browser.js(shown))
        browser.js("document.body.classList.remove('live')")
        found.append(browser.js(shown))
        browser.js("document.body.classList.add('live')")
    browser.call("Emulation.setEmulatedMedia", media="")
    assert found == ["block", "none", "block", "none"]


def test_selectors_change_map_texts_and_address(browser, tmp_path):
    e, other = two_methods()
    browser.open(report([e, other], tmp_path / "two.html"))
    np.testing.assert_allclose(browser.js(MAP), e.values[0].T.ravel(), rtol=1e-6)
    browser.choose("select-sample", "2")
    browser.wait("document.body.dataset.shown === '0-2-0-0'")
    np.testing.assert_allclose(browser.js(MAP), e.values[2].T.ravel(), rtol=1e-6)
    browser.choose("select-method", "1")
    browser.wait("document.body.dataset.shown === '1-2-0-0'")
    np.testing.assert_allclose(browser.js(MAP), other.values[2].T.ravel(), rtol=1e-6)
    head = browser.js("document.querySelector('#answer h2').textContent")
    assert head == f"Sample 2: class walking, logit {number(other.explained[2])}"
    assert "lrp" in browser.js("document.getElementById('method').textContent")
    assert browser.js("location.hash") == "#sample=2&method=1"
    colours = browser.js("(({low, high}) => [low, high])(Bokeh.documents[0].get_model_by_name('colours'))")
    assert colours[1] == -colours[0] == pytest.approx(np.abs(other.values[2]).max())
    sums = browser.js("Array.from(Bokeh.documents[0].get_model_by_name('down-sums').data.sum)")
    np.testing.assert_allclose(sums, other.values[2].sum(axis=0), rtol=1e-4, atol=1e-6)
    browser.js("document.getElementById('previous').click()")
    browser.wait("document.body.dataset.shown === '1-1-0-0'")
    quiet(browser)


def test_the_address_opens_a_view(browser, tmp_path):
    browser.open(report(cases.several_targets(), tmp_path / "targets.html"), "#sample=2&target=1")
    assert browser.js("document.body.dataset.shown") == "0-2-1-0"
    assert browser.js("document.querySelector('#answer h2').textContent").startswith("Sample 2: class running, ")
    assert browser.js("[...document.getElementById('select-target').options].map((o) => o.text)") == [
        "standing",
        "running",
        "walking",
    ]
    quiet(browser)


def test_inputs_have_plots_of_their_own(browser, tmp_path):
    e = cases.several_inputs()
    browser.open(report(e, tmp_path / "inputs.html"))
    assert "Sum by time" in frames(browser)
    browser.choose("select-input", "1")
    browser.wait("document.body.dataset.shown === '0-0-0-1' && Bokeh.documents.length === 2")
    browser.wait("Bokeh.documents[1].is_idle")
    assert set(frames(browser)) == {"Input, shaded by relevance", "Relevance"}
    shown = browser.js("Array.from(Bokeh.documents[1].get_model_by_name('points').data.sum)")
    np.testing.assert_allclose(shown, e.values["person"][0], rtol=1e-6)
    quiet(browser)


def test_frames_line_up_and_share_ranges(browser, tmp_path):
    browser.open(report(cases.sensors(), tmp_path / "frames.html"))
    boxes = frames(browser)
    given, relevance = boxes["Input"], boxes["Relevance"]
    assert given[1:] == relevance[1:]
    assert relevance[1::2] == boxes["Sum by sensor"][1::2]
    assert relevance[::2] == boxes["Sum by time"][::2]
    browser.js("Bokeh.documents[0].get_model_by_name('x').setv({start: 2, end: 4})")
    assert browser.js(
        "['input-plot', 'map-plot'].every((n) => Bokeh.documents[0].get_model_by_name(n).x_range.start === 2)"
    )


@pytest.mark.parametrize("plot", ["Input", "Relevance"])
def test_hover_names_row_column_value_and_relevance(browser, tmp_path, plot):
    e = cases.sensors(1)
    browser.open(report(e, tmp_path / f"hover-{plot}.html"))
    x, y, width, height = frames(browser)[plot]
    sensor, step = 1, 70
    browser.move(x + width * (step + 0.5) / 100, y + height * (sensor + 0.5) / 6)
    browser.wait(f"{TOOLTIPS}.includes('acc_y')")
    tip = browser.js(TOOLTIPS)
    said = dict(re.findall(r"(\w+):\s+(\S+)", tip))
    assert said["sensor"] == "acc_y"
    assert said["time"] == "7"
    assert float(said["value"]) == pytest.approx(e.inputs[0, step, sensor], rel=1e-2)
    assert float(said["relevance"]) == pytest.approx(e.values[0, step, sensor], rel=1e-2)
    quiet(browser)


def test_a_click_shows_the_input_along_that_line(browser, tmp_path):
    e = cases.sensors(1)
    browser.open(report(e, tmp_path / "click.html"))
    line = "Array.from(Bokeh.documents[0].get_model_by_name('line').data.value)"
    np.testing.assert_allclose(browser.js(line), e.inputs[0, :, 3], rtol=1e-6)
    x, y, width, height = frames(browser)["Relevance"]
    browser.click(x + width / 2, y + height * 5.5 / 6)
    browser.wait("Bokeh.documents[0].get_model_by_name('line-title').text.includes('gyro_z')")
    np.testing.assert_allclose(browser.js(line), e.inputs[0, :, 5], rtol=1e-6)


def test_boxes_and_truth_stand_where_they_should(browser, tmp_path):
    e, truth = cases.planted()
    browser.open(report(e, tmp_path / "planted.html", truth=truth), "#sample=1")
    box = browser.js("(({left, right, top, bottom}) => [left[0], right[0], top[0], bottom[0]])"
                     "(Bokeh.documents[0].get_model_by_name('boxes').data)")  # fmt: skip
    best = e[1].segments("column").iloc[0]
    assert box == [best["start"] - 0.5, best["stop"] - 0.5, best["line"] - 0.5, best["line"] + 0.5]
    lines = browser.js("(({x0, x1, y0, y1}) => [x0, x1, y0, y1])(Bokeh.documents[0].get_model_by_name('truth').data)")
    rows, columns = np.nonzero(truth[1])
    assert min(lines[0]) == columns.min() - 0.5
    assert max(lines[1]) == columns.max() + 0.5
    assert min(lines[2]) == rows.min() - 0.5
    assert max(lines[3]) == rows.max() + 0.5
    browser.choose("select-dim", "")
    assert browser.js("Bokeh.documents[0].get_model_by_name('boxes').data.left.length") == 0
    quiet(browser)


def test_a_stretch_of_several_lines_has_a_box_in_each(browser, tmp_path):
    found = Stretch("time", 3, "gyro_x+gyro_z", 1, 10, 20, "1 to 1.9", 1.0, 0.1, lines=(3, 5))
    tables = Tables(stretches={"time": (found,)}, all_drawn=True)
    telling = Telling(page=lambda n, panel: Page("one", ("two",), tables), ordered=("time",))
    e = cases.sensors(1, coords={"sensor": np.array(cases.SENSORS)})
    browser.open(write(build([e], telling=telling), tmp_path / "several.html"))
    boxes = browser.js("Bokeh.documents[0].get_model_by_name('boxes').data")
    assert boxes["rank"] == ["1", "1"]
    assert (boxes["left"], boxes["right"]) == ([9.5, 9.5], [19.5, 19.5])
    assert (boxes["top"], boxes["bottom"]) == ([2.5, 4.5], [3.5, 5.5])
    quiet(browser)


def test_colours_can_end_at_99_per_cent_and_inputs_be_scaled_by_line(browser, tmp_path):
    e = cases.sensors(1)
    browser.open(report(e, tmp_path / "colours.html"))
    browser.choose("select-limit", "tight")
    high = browser.js("Bokeh.documents[0].get_model_by_name('colours').high")
    assert high == pytest.approx(np.quantile(np.abs(e.values[0]), 0.99), rel=1e-6)
    browser.choose("select-scale", "each")
    cells = "Bokeh.documents[0].get_model_by_name('cells').data"
    shade = np.array(browser.js(f"Array.from({cells}.shade[0])")).reshape(6, 100)
    limit = np.abs(e.inputs[0]).max()
    np.testing.assert_allclose(shade.max(axis=1), limit, rtol=1e-5)
    np.testing.assert_allclose(shade.min(axis=1), -limit, rtol=1e-5)
    np.testing.assert_allclose(browser.js(f"Array.from({cells}.value[0])"), e.inputs[0].T.ravel(), rtol=1e-6)
    quiet(browser)


TILE = """((m) => {
  const canvas = document.getElementById("beside-" + m), box = canvas.getBoundingClientRect();
  const {width, height} = canvas, pixels = canvas.getContext("2d").getImageData(0, 0, width, height).data;
  return [box.width / box.height, Array.from(pixels), document.getElementById("ends-" + m).textContent];
})"""


def test_small_maps_lie_over_the_picture_in_its_proportions(browser, tmp_path):
    e = cases.resized(cases.cam(), (320, 320), (200, 400))
    other = dataclasses.replace(e, values=-e.values, attrs={**e.attrs, "method": {"name": "other"}})
    browser.open(report([e, other], tmp_path / "beside.html"))
    photo = build([e]).samples[0].inputs[0].photo
    for m, sign in enumerate((1, -1)):
        ratio, pixels, ends = browser.js(f"{TILE}({m})")
        assert ratio == pytest.approx(1.0, abs=0.01)
        raw = sign * e.layer_map[0]
        wanted = lay_over(photo, np.kron(raw, np.ones((8, 8))), np.abs(raw).max())
        np.testing.assert_allclose(np.reshape(pixels, (32, 32, 4))[..., :3], wanted, atol=2)
        limit = number(np.abs(raw).max())
        assert ends == f"−{limit} to +{limit}"
    browser.choose("select-sample", "1")
    browser.wait("document.body.dataset.shown === '0-1-0-0'")
    assert browser.js(f"{TILE}(0)")[0] == pytest.approx(2.0, abs=0.02)
    browser.wait("Bokeh.documents[0].is_idle")
    boxes = frames(browser)
    assert boxes["Input"][2] / boxes["Input"][3] == pytest.approx(2.0, abs=0.02)
    assert boxes["Input"][1:] == boxes["Relevance"][1:]
    assert boxes["Relevance"][1::2] == boxes["Sum by row"][1::2]
    assert any(title.endswith(" as the model gets it, mean over channels") for title in boxes)
    quiet(browser)


@pytest.mark.parametrize("scale", [1e-7, 1.0, 3e7])
@pytest.mark.parametrize("only", [None, 1])
def test_ticks_do_not_run_into_each_other(browser, tmp_path, scale, only):
    e = cases.sensors(1)
    values = scale * (e.values if only is None else np.abs(e.values))
    browser.open(report(dataclasses.replace(e, values=values.astype("float32")), tmp_path / "ticks.html"))
    for name, room in (("down-ticks", 112), ("bar", 330)):
        found = f"Bokeh.documents[0].get_model_by_name('{name}')"
        labels = browser.js(f"[...{found}.major_label_overrides.values()]")
        ticks = browser.js(f"Array.from({found}.ticker.ticks)")
        assert len(labels) == len(ticks) >= 2
        assert 7 * sum(map(len, labels)) < room * 1.2
        if scale == 1e-7:
            assert all(label == "0" or " × 10⁻" in label for label in labels)
    quiet(browser)
