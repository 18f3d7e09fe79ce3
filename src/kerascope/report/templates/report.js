/* Fills the plots and texts of the report for the sample, method, target and input chosen. No network, no eval. */
(function () {
  "use strict";
  const RED = "#c9302f", BLUE = "#2166ac";
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const state = { sample: 0, method: 0, target: 0, input: 0 };
  const options = { limit: "limit", dim: {}, scale: "all", line: null };
  const docs = {};
  const byId = (id) => document.getElementById(id);
  const viewKey = () => [state.method, state.sample, state.target, state.input].join("-");

  function floats(code) {
    const text = atob(code), bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    return Array.from(new Float32Array(bytes.buffer));
  }

  /* Bokeh reads $$, \( and \[ as TeX; a zero-width space between keeps text text. */
  const plain = (text) => text.replaceAll("$$", "$\u200b$").replaceAll("\\(", "\\\u200b(").replaceAll("\\[", "\\\u200b[");

  const at = (axis, i) => axis.start + i * axis.step;
  const edge = (axis, i) => axis.start + (i - 0.5) * axis.step;

  function ends(values, pad) {
    let low = Infinity, high = -Infinity;
    for (const v of values) if (Number.isFinite(v)) { low = Math.min(low, v); high = Math.max(high, v); }
    if (low > high) return [0, 1];
    const room = (high - low || Math.abs(high) || 1) * pad;
    return [low - room, high + room];
  }

  /* --- the plots ------------------------------------------------------------------------------------------- */

  async function panelDoc(index) {
    if (docs[index]) return docs[index];
    const item = data.panels[index].item;
    item.target_id = "plots-" + index;
    await Bokeh.embed.embed_item(item);
    const doc = Bokeh.documents[Bokeh.documents.length - 1];
    const tags = doc.roots()[0].tags[0];
    const tag = tags instanceof Map ? tags.get("stores") : tags.stores;
    const stores = {};
    for (const store of tag) stores[store.name] = store.data instanceof Map ? Object.fromEntries(store.data) : store.data;
    const get = (name) => doc.get_model_by_name(name);
    docs[index] = { doc, stores, get };
    listen(docs[index]);
    followRanges(docs[index]);
    return docs[index];
  }

  /* Axes that show values get ticks for what they show, also after a zoom. */
  function followRanges({ get }) {
    for (const name of ["down", "across", "line"]) {
      const range = get(name + "-ends"), axis = get(name + "-ticks");
      if (range) range.change.connect(() => setTicks(axis, range.start, range.end, name === "down"));
    }
    const values = get("value-colours");
    if (get("value-bar")) setTicks(get("value-bar"), values.low, values.high);
  }

  /* A click on the input or the map shows the input along that line. */
  function listen(doc) {
    for (const plot of [doc.get("input-plot"), doc.get("map-plot")]) {
      if (!plot) continue;
      plot.on_event("tap", (event) => {
        const axis = data.panels[state.input].down;
        const line = Math.round((event.y - axis.start) / axis.step);
        if (line >= 0 && line < axis.names.length) { options.line = line; drawLine(doc); }
      });
    }
  }

  function bars(axis, sums) {
    return {
      at: sums.map((_, i) => at(axis, i)), sum: sums, name: axis.names,
      colour: sums.map((v) => (v < 0 ? BLUE : RED)),
    };
  }

  const SUPERSCRIPT = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };

  /* A number as the tables write it, with no more digits than a tick needs. */
  function short(value) {
    const size = Math.abs(value), sign = value < 0 ? "−" : "";
    if (size === 0 || (size >= 1e-3 && size < 1e6)) return sign + Number(size.toPrecision(3));
    const [mantissa, exponent] = size.toExponential(2).split("e");
    return sign + Number(mantissa) + " × 10" + [...exponent.replace("+", "")].map((c) => SUPERSCRIPT[c]).join("");
  }

  /* Put ticks at round numbers on an axis or a colour bar; on a narrow one at zero and near its ends, so that no labels meet. */
  function setTicks(axis, low, high, narrow = false) {
    const least = (high - low) / (narrow ? 3 : 5), power = 10 ** Math.floor(Math.log10(least));
    const step = power * [1, 2, 5, 10].find((times) => power * times >= least * (1 - 1e-9));
    let ticks = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) ticks.push(i * step);
    if (narrow) ticks = ticks.filter((tick, i) => tick === 0 || i === 0 || i === ticks.length - 1);
    axis.ticker.setv({ ticks, minor_ticks: [] });
    axis.major_label_overrides = new Map(ticks.map((tick) => [tick, short(tick)]));
  }

  function setRange(range, [low, high]) { range.setv({ start: low, end: high }); }

  function boxes(panel, view) {
    const dim = options.dim[state.input];
    const found = view.boxes[dim] || [];
    const out = { left: [], right: [], top: [], bottom: [], rank: [] };
    found.forEach((b, i) => {
      const along = panel.across.dim === dim ? panel.across : panel.down;
      const other = along === panel.across ? panel.down : panel.across;
      const run = [edge(along, b.start), edge(along, b.stop)];
      for (const at of b.lines) {
        const line = at < 0 ? view.ends : [edge(other, at), edge(other, at + 1)];
        const [x, y] = along === panel.across ? [run, line] : [line, run];
        out.left.push(x[0]); out.right.push(x[1]);
        out.top.push(at < 0 ? y[1] : y[0]); out.bottom.push(at < 0 ? y[0] : y[1]);
        out.rank.push(String(i + 1));
      }
    });
    return out;
  }

  function border(panel, lines) {
    const out = { x0: [], y0: [], x1: [], y1: [] };
    for (const [r0, c0, r1, c1] of lines) {
      const [d0, a0, d1, a1] = panel.upright ? [r0, c0, r1, c1] : [c0, r0, c1, r1];
      out.x0.push(edge(panel.across, a0)); out.x1.push(edge(panel.across, a1));
      out.y0.push(edge(panel.down, d0)); out.y1.push(edge(panel.down, d1));
    }
    return out;
  }

  function setLimit(doc, limit) {
    const [width] = data.samples[state.sample].frames[state.input];
    for (const name of ["colours", "clear-colours"]) {
      const mapper = doc.get(name);
      if (mapper) mapper.setv({ low: -limit, high: limit });
    }
    setTicks(doc.get("bar"), -limit, limit, width < 220);
  }

  /* Give the plots the frame of this sample: photographs have proportions of their own. */
  function setFrame(doc, [width, height]) {
    const wide = ["input-plot", "map-plot", "line-plot", "across-plot"], high = ["input-plot", "map-plot", "down-plot"];
    for (const plot of wide.map(doc.get)) plot.width = plot.min_border_left + width + plot.min_border_right;
    for (const plot of high.map(doc.get)) plot.height = plot.min_border_top + height + plot.min_border_bottom;
  }

  /* The input's colours: one scale for all cells, or each line over its own range (hover keeps the values). */
  function shade(image, panel, doc) {
    if (options.scale === "all") return image;
    const [h, w] = image.shape, out = new image.constructor(image, image.shape);
    const low = doc.get("value-colours").low, high = doc.get("value-colours").high;
    for (let i = 0; i < h; i++) {
      let a = Infinity, b = -Infinity;
      for (let j = 0; j < w; j++) { const v = image[i * w + j]; if (Number.isFinite(v)) { a = Math.min(a, v); b = Math.max(b, v); } }
      for (let j = 0; j < w; j++) out[i * w + j] = b > a ? low + (high - low) * (image[i * w + j] - a) / (b - a) : (low + high) / 2;
    }
    return out;
  }

  function drawMatrix(doc, panel, view) {
    const map = doc.stores.maps.image[view.map], input = doc.stores.inputs.image[state.sample];
    const { down, across } = panel, h = down.names.length, w = across.names.length;
    setLimit(doc, view[options.limit]);
    doc.get("cells").data = {
      image: [map], value: [input], shade: [shade(input, panel, doc)],
      down: [down.names.map((n) => new Array(w).fill(n))], across: [new Array(h).fill(across.names)],
    };
    if (panel.kind === "picture") {
      setFrame(doc, data.samples[state.sample].frames[state.input]);
      const photo = { image: [doc.stores.photos.image[state.sample]], grey: [doc.stores.photos.grey[state.sample]] };
      doc.get("photo").data = photo;
      doc.get("pale").data = photo;
    }
    for (const name of ["down", "across"]) {
      const sums = floats(view[name]);
      doc.get(name + "-sums").data = bars(panel[name], sums);
      setRange(doc.get(name + "-ends"), ends([0, ...sums], 0.06));
    }
    doc.get("boxes").data = boxes(panel, view);
    doc.get("truth").data = border(panel, data.samples[state.sample].outlines[state.input]);
    if (doc.get("line")) drawLine(doc);
  }

  /* The input along one line, with the stretches found there. */
  function drawLine(doc) {
    const panel = data.panels[state.input], view = data.views[viewKey()];
    const line = options.line === null ? view.lead : options.line;
    const { down, across } = panel, w = across.names.length;
    const input = doc.stores.inputs.image[state.sample];
    const values = Array.from({ length: w }, (_, j) => input[line * w + j]);
    doc.get("line").data = { at: values.map((_, j) => at(across, j)), value: values, name: across.names };
    setRange(doc.get("line-ends"), ends(values, 0.08));
    const here = (view.boxes[across.dim] || []).filter((b) => b.lines.includes(line) && options.dim[state.input] === across.dim);
    doc.get("line-shade").data = {
      x0: here.map((b) => edge(across, b.start)), x1: here.map((b) => edge(across, b.stop)),
      colour: here.map((b) => (b.sign < 0 ? BLUE : RED)),
    };
    const hint = panel.kind === "picture" ? "" : "   (click a row to change)";
    doc.get("line-title").text = plain("Input at " + down.dim + " " + down.names[line]) + panel.line + hint;
  }

  function drawPoints(doc, panel, view) {
    const axis = panel.across, n = axis.names.length;
    const map = Array.from(doc.stores.maps.image[view.map]), input = Array.from(doc.stores.inputs.image[state.sample]);
    setLimit(doc, view[options.limit]);
    doc.get("points").data = {
      ...bars(axis, map), value: input,
      x0: Array.from({ length: n }, (_, i) => edge(axis, i)), x1: Array.from({ length: n }, (_, i) => edge(axis, i + 1)),
    };
    setRange(doc.get("line-ends"), ends(input, 0.08));
    const range = ends([0, ...map], 0.1);
    setRange(doc.get("across-ends"), range);
    doc.get("boxes").data = boxes(panel, { ...view, ends: range });
    const lines = data.samples[state.sample].outlines[state.input];
    const out = border(panel, lines.filter(([r0, , r1]) => r0 !== r1));
    doc.get("truth").data = { ...out, y0: out.x0.map(() => range[0]), y1: out.x0.map(() => range[1]) };
  }

  /* Every method's map of what is shown, small; over the pale picture where there is one. */
  function drawBeside(doc, panel) {
    const height = panel.down.names.length, width = panel.across.names.length, picture = panel.kind === "picture";
    const colours = doc.get(picture ? "clear-colours" : "colours");
    const [wide, high] = picture ? data.samples[state.sample].frames[state.input] : [2, 1];
    const under = picture ? doc.stores.photos.grey[state.sample] : null;
    data.methods.forEach((method, m) => {
      const canvas = byId("beside-" + m);
      if (!canvas || !colours) return;
      const target = Math.min(state.target, method.targets.length - 1);
      const view = data.views[[m, state.sample, target, state.input].join("-")];
      const map = doc.stores.maps.image[view.map], limit = view[options.limit] || 1, last = colours.palette.length - 1;
      canvas.width = width; canvas.height = height;
      const button = canvas.closest("button");
      button.style.setProperty("--ratio", wide / high);
      byId("ends-" + m).textContent = "−" + view.ends[options.limit] + " to +" + view.ends[options.limit];
      const context = canvas.getContext("2d"), image = context.createImageData(width, height);
      for (let i = 0; i < width * height; i++) {
        const place = Math.round((Math.max(-1, Math.min(1, map[i] / limit)) + 1) / 2 * last);
        const [r, g, b, a] = Number.isFinite(map[i]) ? rgba(colours.palette[place]) : [190, 190, 190, 255];
        const seen = a / 255, below = under ? under[i] * (1 - seen) : 0;
        image.data.set([r * seen + below, g * seen + below, b * seen + below, 255], 4 * i);
      }
      context.putImageData(image, 0, 0);
      button.classList.toggle("chosen", m === state.method);
    });
  }

  /* Bokeh keeps colours as texts, #rrggbb, or as numbers, 0xrrggbbaa. */
  function rgba(colour) {
    const code = typeof colour === "number" ? colour : parseInt(colour.slice(1).padEnd(8, "f"), 16);
    return [code >>> 24, code >> 16 & 255, code >> 8 & 255, code & 255];
  }

  /* --- texts, selectors ------------------------------------------------------------------------------------- */

  function swap(id, source) {
    const template = byId(source);
    if (template) byId(id).replaceChildren(template.content.cloneNode(true));
  }

  function fillTargets() {
    const select = byId("select-target");
    const names = data.methods[state.method].targets.map((_, t) => data.views[[state.method, state.sample, t, state.input].join("-")].target);
    select.replaceChildren(...names.map((name, t) => new Option(name, String(t), false, t === state.target)));
    select.closest("label").hidden = names.length < 2;
  }

  function fillDims() {
    const select = byId("select-dim"), dims = data.panels[state.input].stretchDims;
    if (!(state.input in options.dim)) options.dim[state.input] = dims.length ? dims[0] : "";
    const choices = [...dims.map((d) => ["along " + d, d]), ["off", ""]];
    select.replaceChildren(...choices.map(([text, value]) => new Option(text, value, false, value === options.dim[state.input])));
    select.closest("label").hidden = dims.length === 0;
    if (byId("key-box")) byId("key-box").hidden = options.dim[state.input] === "";
    byId("select-scale").closest("label").hidden = data.panels[state.input].kind !== "matrix";
    byId("select-scale").options[1].textContent = "each " + data.panels[state.input].down.dim + " its own";
  }

  async function show() {
    state.target = Math.min(state.target, data.methods[state.method].targets.length - 1);
    const view = data.views[viewKey()], panel = data.panels[state.input];
    swap("answer", "answer-" + viewKey());
    swap("tables", "tables-" + viewKey());
    swap("facts", "facts-" + viewKey());
    swap("method", "method-" + state.method);
    swap("warnings", "warnings-" + state.method);
    for (const name of ["sample", "method", "input"]) byId("select-" + name).value = String(state[name]);
    fillTargets();
    fillDims();
    showDim();
    data.panels.forEach((_, i) => { byId("plots-" + i).hidden = i !== state.input; });
    const doc = await panelDoc(state.input);
    if (panel.kind === "line") drawPoints(doc, panel, view); else drawMatrix(doc, panel, view);
    drawBeside(doc, panel);
    document.body.dataset.shown = viewKey();
  }

  /* Show the table of the stretches that are drawn. */
  function showDim() {
    for (const table of document.querySelectorAll("#tables [data-dim]")) {
      const dim = options.dim[state.input] || data.panels[state.input].stretchDims[0];
      table.hidden = table.dataset.dim !== dim;
    }
  }

  function readHash() {
    const asked = new URLSearchParams(location.hash.slice(1));
    const sizes = { sample: data.samples.length, method: data.methods.length, input: data.panels.length, target: Infinity };
    for (const name of Object.keys(state)) {
      const value = parseInt(asked.get(name) || "0", 10);
      state[name] = value >= 0 && value < sizes[name] ? value : 0;
    }
  }

  function choose(change) {
    Object.assign(state, change);
    options.line = null;
    const parts = Object.entries(state).filter(([, value]) => value > 0).map(([name, value]) => name + "=" + value);
    history.replaceState(null, "", "#" + parts.join("&"));
    return show();
  }

  function wire() {
    for (const name of Object.keys(state)) {
      byId("select-" + name).addEventListener("change", (event) => choose({ [name]: Number(event.target.value) }));
    }
    for (const [id, key] of [["select-limit", "limit"], ["select-scale", "scale"]]) {
      byId(id).addEventListener("change", (event) => { options[key] = event.target.value; show(); });
    }
    byId("select-dim").addEventListener("change", (event) => { options.dim[state.input] = event.target.value; show(); });
    for (const button of document.querySelectorAll(".beside button")) {
      button.addEventListener("click", () => choose({ method: Number(button.dataset.method) }));
    }
    const last = data.samples.length - 1;
    byId("previous").addEventListener("click", () => choose({ sample: Math.max(0, state.sample - 1) }));
    byId("next").addEventListener("click", () => choose({ sample: Math.min(last, state.sample + 1) }));
    window.addEventListener("hashchange", () => { readHash(); options.line = null; show(); });
    document.body.classList.add("live");
  }

  readHash();
  wire();
  show().catch((error) => {
    byId("failed").hidden = false;
    console.error(error);
  });
})();
