"""The file: it parses, escapes, allows no network, and appears whole or not at all."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import hashlib
import json
import os
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from kerascope.errors import BadInputError, OutputExistsError
from kerascope.report import html, report
from kerascope.report.build import Telling, build
from kerascope.report.data import Page as Sheet
from kerascope.report.data import Stretch, Tables
from kerascope.report.plots import plain
from tests.report import cases

pytestmark = pytest.mark.backend_free

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Elements with attributes and text; complains about tags that do not match."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.faults = [], [], []
        self.feed(text)
        self.close()
        self.faults += [f"<{tag}> is not closed" for tag, _ in self.open]

    def handle_starttag(self, tag, attributes):
        self.elements.append([tag, dict(attributes), ""])
        if tag not in VOID and not self.get_starttag_text().endswith("/>"):
            self.open.append((tag, len(self.elements) - 1))

    def handle_startendtag(self, tag, attributes):
        self.elements.append([tag, dict(attributes), ""])

    def handle_endtag(self, tag):
        if not self.open or self.open[-1][0] != tag:
            self.faults.append(f"</{tag}> at {self.getpos()} closes {self.open[-1:]}")
        else:
            self.open.pop()

    def handle_data(self, data):
        for _, place in self.open:
            self.elements[place][2] += data

    def all(self, tag, **attributes):
        return [e for e in self.elements if e[0] == tag and all(e[1].get(k) == v for k, v in attributes.items())]


def read(path):
    return path.read_text("utf-8")


@pytest.fixture(scope="module")
def sensors_page(tmp_path_factory):
    e = cases.sensors(3, warnings=("mind the gap",))
    rules = [{"node": "conv", "layer": "conv_1", "rule": "Gamma(0.25)"}]
    other = dataclasses.replace(e, values=-e.values, attrs=cases.attrs("lrp", rules=rules), warnings=())
    path = report([e, other], tmp_path_factory.mktemp("report") / "report.html")
    return Page(read(path))


@pytest.fixture(scope="module")
def hostile_page(tmp_path_factory):
    path = report(cases.hostile(), tmp_path_factory.mktemp("report") / "report.html", title=cases.HOSTILE)
    return Page(read(path))


def test_the_file_parses(sensors_page, hostile_page):
    assert sensors_page.faults == []
    assert hostile_page.faults == []


def directives(page):
    (meta,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    parts = (part.split() for part in meta[1]["content"].split(";"))
    return {name: sources for name, *sources in parts}


def test_the_policy_allows_no_network_and_only_the_scripts_of_the_file(sensors_page):
    policy = directives(sensors_page)
    assert policy["default-src"] == ["'none'"]
    assert policy["connect-src"] == ["'none'"]
    assert policy["img-src"] == ["data:"]
    assert policy["font-src"] == ["data:"]
    assert policy["style-src"] == ["'unsafe-inline'"]
    assert policy["base-uri"] == policy["form-action"] == ["'none'"]
    scripts = [e[2] for e in sensors_page.all("script") if e[1].get("type") != "application/json"]
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    assert policy["script-src"] == [f"'sha256-{code}'" for code in hashes]
    # The policy stands before everything it governs.
    tags = [e[0] for e in sensors_page.elements]
    assert tags.index("meta") < min(tags.index("style"), tags.index("script"))
    assert sensors_page.all("meta")[1][1]["http-equiv"] == "Content-Security-Policy"


def test_nothing_is_loaded_from_elsewhere(sensors_page, hostile_page):
    for page in (sensors_page, hostile_page):
        for _, attributes, _ in page.elements:
            for name in ("src", "href", "srcset", "data", "action", "poster"):
                assert (attributes.get(name) or "#").startswith(("#", "data:")), attributes
            assert not [name for name in attributes if name.startswith("on")]
        styles = "".join(e[2] for e in page.all("style"))
        assert "url(" not in styles
        assert "@import" not in styles


def test_mathjax_is_not_in_the_file(sensors_page):
    text = "".join(e[2] for e in sensors_page.all("script"))
    assert "MathJax.js" not in text
    assert len(text) < 2_000_000


def test_hostile_text_is_text_everywhere(hostile_page):
    scripts = hostile_page.all("script")
    assert len(scripts) == 4  # data, BokehJS, its log level, report.js
    assert not [e for e in scripts if "alert(1)" in e[2] and e[1].get("type") != "application/json"]
    (title,) = hostile_page.all("title")
    assert title[2] == cases.HOSTILE
    assert hostile_page.all("h1")[0][2] == cases.HOSTILE
    assert not hostile_page.all("img")
    assert "49" not in hostile_page.all("title")[0][2]
    headlines = [e[2] for e in hostile_page.all("h2")]
    assert any(f"Sample {cases.HOSTILE}: class {cases.HOSTILE}, logit " in h for h in headlines)
    cells = {e[2].strip() for e in hostile_page.all("td")}
    assert {"{{ 7*7 }}", '"><img src=x onerror=alert(1)>', "</template></script>"} <= cells
    assert "&lt;b&gt;" in {e[2] for e in hostile_page.all("li")}


def test_data_cannot_leave_its_script(hostile_page):
    (data,) = hostile_page.all("script", id="report-data")
    assert not set("<>&\u2028\u2029") & set(data[2])
    parsed = json.loads(data[2])
    assert cases.HOSTILE in json.dumps(parsed)
    assert json.loads(html.safe_json("</script><!--&\u2028")) == "</script><!--&\u2028"


def bokeh_texts(value):
    """Every string that Bokeh may draw: labels, titles, tooltips."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key in ("axis_label", "text", "major_label_overrides", "tooltips", "title"):
                yield json.dumps(item, ensure_ascii=False)
            yield from bokeh_texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from bokeh_texts(item)


def bokeh_arrays(value):
    """Every array that Bokeh sends: base64, in newer versions compressed."""
    if isinstance(value, dict) and value.get("type") == "ndarray":
        raw = base64.b64decode(value["array"]["data"])
        raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
        yield np.frombuffer(raw, dtype=value["dtype"]).reshape(value["shape"])
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from bokeh_arrays(item)


def test_tex_is_broken_in_what_bokeh_draws(hostile_page):
    data = json.loads(hostile_page.all("script", id="report-data")[0][2])
    texts = [text for panel in data["panels"] for text in bokeh_texts(panel["item"])]
    assert any("x^2" in text for text in texts)
    assert not [text for text in texts if re.search(r"\$\$|\\\\\(|\\\\\[", text)]
    assert plain(r"$$a$$ \(b\) \[c\]") == "$\u200b$a$\u200b$ \\\u200b(b\\) \\\u200b[c\\]"


def test_every_view_has_its_texts(sensors_page):
    data = json.loads(sensors_page.all("script", id="report-data")[0][2])
    assert len(data["views"]) == 6
    for key in data["views"]:
        for kind in ("answer", "tables", "facts"):
            assert len(sensors_page.all("template", id=f"{kind}-{key}")) == 1
    assert [o[2] for o in sensors_page.all("option")][:3] == [
        "Sample 0: standing",
        "Sample 1: running",
        "Sample 2: walking",
    ]
    (warned,) = sensors_page.all("template", id="warnings-0")
    assert "mind the gap" in warned[2]
    assert sensors_page.all("template", id="warnings-1")[0][2].strip() == ""
    captions = [e[2] for e in sensors_page.all("figcaption")]
    assert ["1 warning" in text for text in captions] == [True, False]  # also while the other method is chosen
    details = [e[2] for e in sensors_page.all("details")]
    assert any("Gamma(0.25)" in text and "conv_1" in text for text in details)


def test_the_data_for_the_plots_are_those_of_the_explanation(tmp_path):
    e = cases.sensors(2)
    page = Page(read(report(e, tmp_path / "r.html")))
    data = json.loads(page.all("script", id="report-data")[0][2])
    view = data["views"]["0-1-0-0"]

    def floats(code):
        return np.frombuffer(base64.b64decode(code), dtype="<f4")

    np.testing.assert_allclose(floats(view["down"]), e.values[1].sum(axis=0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(floats(view["across"]), e.values[1].sum(axis=1), rtol=1e-4, atol=1e-6)
    assert view["limit"] == np.abs(e.values[1]).max()
    best = e[1].segments("time").iloc[0]
    assert view["boxes"]["time"][0] == {"lines": [best["line"]], **best[["start", "stop", "sign"]].to_dict()}
    scores = e[1].segments("time")["score"].head(html.SHOWN_ROWS)
    assert len(view["boxes"]["time"]) == (scores >= 0.1 * scores.iloc[0]).sum()
    top = e[1].columns().sort_values("sum").iloc[-1]
    assert view["lead"] == top["index"]
    maps = [a for a in bokeh_arrays(data["panels"][0]["item"]) if a.shape == (6, 100)]
    wanted = [*e.inputs, *e.values]
    assert len(maps) == len(wanted)
    for sent, mine in zip(maps, wanted, strict=True):
        np.testing.assert_array_equal(sent, mine.T)


def stretches_of(page):
    """The text of the first table of stretches, and what stands below it."""
    return next(text for _, attributes, text in page.elements if "data-dim" in attributes)


def test_stretches_that_are_not_shown_are_counted(tmp_path):
    e = cases.sensors(1)
    text = stretches_of(Page(read(report(e, tmp_path / "r.html"))))
    assert f"and {len(e.segments('time')) - html.SHOWN_ROWS} more" in text


@pytest.mark.parametrize(("most", "drawn"), [(None, 10), (8, 8)])
def test_every_stretch_shown_is_drawn_in_all_its_lines(most, drawn):
    place = ("gyro_x+gyro_z", 1, 10, 20, "1 to 1.9", 1.0, 0.1)
    found = tuple(Stretch("time", 3, *place, lines=(3, 5)) for _ in range(10))
    tables = Tables(stretches={"time": found}, all_drawn=True, most=most)
    telling = Telling(page=lambda n, panel: Sheet("one", ("two",), tables), ordered=("time",))
    text = html.render(build([cases.sensors(1)], telling=telling))
    data = json.loads(Page(text).all("script", id="report-data")[0][2])
    boxes = data["views"]["0-0-0-0"]["boxes"]["time"]
    assert boxes == [{"lines": [3, 5], "start": 10, "stop": 20, "sign": 1}] * drawn
    shown = stretches_of(Page(text))
    assert shown.count("gyro_x+gyro_z") == drawn
    assert ("and 2 more" in shown) == (drawn == 8)


def test_without_scripts_nothing_empty_is_shown(sensors_page):
    (styles,) = sensors_page.all("style")
    hidden = re.search(r"body:not\(\.live\) :is\((.*)\) { display: none; }", styles[2])[1]
    assert {".controls", ".options", ".beside button"} <= set(hidden.split(", "))


def test_a_report_is_not_overwritten_unasked(tmp_path):
    path = tmp_path / "new" / "report.html"
    assert report(cases.table(), path) == path
    before = path.read_bytes()
    with pytest.raises(OutputExistsError, match="exists already"):
        report(cases.sensors(), path)
    assert path.read_bytes() == before
    report(cases.sensors(), path, overwrite=True)
    assert path.read_bytes() != before
    with pytest.raises(OutputExistsError, match="is a folder"):
        report(cases.table(), tmp_path, overwrite=True)
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


@pytest.mark.parametrize("name", ["fsync", "link"])
def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch, name):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, name, full)
    path = tmp_path / "report.html"
    if name == "link":  # no hard links: the file is renamed instead
        assert report(cases.table(), path).exists()
        assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
        return
    with pytest.raises(OSError, match="No space left"):
        report(cases.table(), path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_appears_meanwhile_is_kept(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    real = os.fsync

    def meanwhile(handle):
        path.write_text("somebody else's")
        real(handle)

    monkeypatch.setattr(os, "fsync", meanwhile)
    with pytest.raises(OutputExistsError):
        report(cases.table(), path)
    assert path.read_text() == "somebody else's"
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_bad_input_writes_nothing(tmp_path):
    with pytest.raises(BadInputError):
        report([cases.sensors(), cases.table()], tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_the_file_has_the_rights_of_any_new_file(tmp_path):
    path = report(cases.table(), tmp_path / "report.html")
    (tmp_path / "other").write_text("")
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_the_same_explanation_gives_the_same_texts(tmp_path):
    texts = [read(report(cases.sensors(2), tmp_path / f"{i}.html")) for i in range(2)]
    cut = [text.split('<script type="application/json"')[0] for text in texts]
    assert cut[0] == cut[1]
