// Clips: a table of all of them, with facets and histograms beside it. The whole view stands in the address:
//   #/clips?q=call&split=test&split=ood&sort=listener_angle.jump&order=worst&show=a,b&in=a:0.1:0.5
import { clipSet, SECONDS } from "./clipset.js";
import { h, fill } from "./dom.js";
import { Histogram } from "./histogram.js";
import { countText, durationText, measureText, numberText, plural, shownUnit } from "./numbers.js";
import { Rows } from "./rows.js";
import { exits, IDS, takedown } from "./selection.js";

const FACETS_SHOWN = { split: 8, attitude: 8, predicted: 8, listener: 5, speaker: 5, source: 5 };
const FIRST_MEASURES = [
  "listener_fit_error.mean", "listener_angle.jump", "listener_blink.rate", "listener_coeffs_valid.invalid",
  "words.probability.mean", "audio_level_dbfs",
];
const MEASURES_AT_FIRST = 4;
const NARROW = "(max-width: 760px)";
const ticked = new Set(); // ids: they stay while one looks at a clip, and rows move when a clip is withdrawn

export async function mount(element, route, api) {
  const page = new ClipsPage(element, route, api);
  await page.open();
  return { unmount: () => page.close(), update: (next) => page.navigate(next) };
}

class ClipsPage {
  constructor(element, route, api) {
    this.element = element;
    this.dataset = route.dataset;
    this.api = api;
    this.query = route.query;
    this.wider = new Set(); // facets shown whole
    this.narrow = matchMedia(NARROW);
    this.onNarrow = () => this.build();
    this.onDataset = (event) => this.renew(event.detail);
  }

  async open() {
    this.set = await clipSet(this.dataset);
    this.untickAbsent();
    this.read(this.query);
    await this.set.load(this.needed());
    this.build();
    this.narrow.addEventListener("change", this.onNarrow);
    document.addEventListener("dataset", this.onDataset);
  }

  close() {
    this.narrow.removeEventListener("change", this.onNarrow);
    document.removeEventListener("dataset", this.onDataset);
  }

  async navigate(route) {
    this.read(route.query);
    await this.set.load(this.needed());
    this.build();
  }

  /** More measures are there, or other clips. */
  async renew(dataset) {
    const before = this.dataset;
    this.dataset = dataset;
    if (dataset.clips_version === before.clips_version && dataset.index.done === before.index.done) return;
    this.set = await clipSet(dataset);
    this.set.forget();
    this.untickAbsent();
    if (!this.chosen) this.view.show = this.firstMeasures();
    await this.set.load(this.needed());
    this.build(true);
  }

  // -- the view and its address ----------------------------------------------------------------------------------

  measure(name) {
    return name === "seconds" ? SECONDS : this.dataset.measures.find((one) => one.name === name);
  }

  firstMeasures() {
    const known = new Set(this.dataset.measures.map((one) => one.name));
    const found = FIRST_MEASURES.filter((name) => known.has(name));
    const scores = [...known].filter((name) => name.startsWith("score.")).slice(0, 1);
    const others = this.dataset.measures.map((one) => one.name).filter((name) => !found.includes(name));
    return (found.length ? [...found, ...scores] : others).slice(0, MEASURES_AT_FIRST);
  }

  read(query) {
    const facets = {};
    for (const name of Object.keys(FACETS_SHOWN)) {
      const names = query.getAll(name).filter(Boolean);
      const codes = names.map((one) => this.set.facets[name].names.indexOf(one)).filter((code) => code >= 0);
      if (names.length) facets[name] = new Set(codes);
    }
    const ranges = {};
    for (const text of query.getAll("in")) {
      const [name, low, high] = text.split(":");
      if (this.measure(name) && (name !== "seconds" || this.set.knows(name))) ranges[name] = [low === "" ? -Infinity : Number(low), high === "" ? Infinity : Number(high)];
    }
    const sort = this.measure(query.get("sort")) ? query.get("sort") : "";
    this.chosen = query.has("show");
    const show = this.chosen ? query.get("show").split(",").filter((name) => this.measure(name)) : this.firstMeasures();
    for (const name of [sort, ...Object.keys(ranges)]) if (name && name !== "seconds" && !show.includes(name)) show.push(name);
    const worst = sort ? this.measure(sort).worst : "low";
    const descending = (query.get("order") === "best") !== (worst === "high");
    this.view = { text: query.get("q") || "", facets, ranges, sort, descending, show };
  }

  address() {
    const query = new URLSearchParams();
    if (this.view.text) query.set("q", this.view.text);
    for (const [name, codes] of Object.entries(this.view.facets)) {
      for (const code of codes) query.append(name, this.set.facets[name].names[code]);
    }
    if (this.view.sort) {
      query.set("sort", this.view.sort);
      if (this.view.descending !== (this.measure(this.view.sort).worst === "high")) query.set("order", "best");
    }
    if (this.chosen) query.set("show", this.view.show.join(","));
    const end = (value) => (Number.isFinite(value) ? String(value) : "");
    for (const [name, [low, high]] of Object.entries(this.view.ranges)) query.append("in", `${name}:${end(low)}:${end(high)}`);
    const text = query.toString();
    return `#/clips${text ? `?${text}` : ""}`;
  }

  needed() {
    return [...new Set([...this.view.show, ...Object.keys(this.view.ranges), this.view.sort].filter(Boolean))];
  }

  // -- building --------------------------------------------------------------------------------------------------

  build(stay = false) {
    const top = stay && this.rows ? this.rows.element.scrollTop : 0;
    this.search = h("input", {
      type: "search", placeholder: "clip id", "aria-label": "search clip ids", value: this.view.text,
      oninput: () => { this.view.text = this.search.value.trim(); this.apply(); },
    });
    this.facetBoxes = Object.fromEntries(Object.keys(FACETS_SHOWN).map((name) => [name, h("fieldset.facet", {})]));
    this.histograms = new Map();
    for (const name of [...(this.set.knows("seconds") ? ["seconds"] : []), ...this.view.show]) {
      const one = this.measure(name);
      this.histograms.set(name, new Histogram(this.set.values(name), {
        label: name === "seconds" ? "length" : measureText(name),
        title: `${one.meaning}${one.unit ? ` (${one.unit})` : ""}`,
        unit: shownUnit(one),
        shownUnit: shownUnit(one) === "share" ? "" : shownUnit(one),
        onrange: (range) => this.range(name, range),
        onremove: name === "seconds" ? null : () => this.drop(name),
      }));
    }
    for (const [name, range] of Object.entries(this.view.ranges)) this.histograms.get(name).setRange(range);
    this.summary = h("span.count", { "aria-live": "polite" });
    this.clear = h("button.plain", { onclick: () => this.reset() }, "clear filters");
    this.untick = h("button.plain", { onclick: () => this.tickAll(false) }, "untick");
    this.bar = h("div.actions", {}, this.summary, this.untick, this.clear, h("span.push"),
      h("span.quiet.wide", {}, "take along as"), exits(() => this.selected(), [IDS, takedown(this.dataset.address)]));
    const side = [
      this.search,
      [this.facetBoxes.split, this.facetBoxes.attitude, this.facetBoxes.predicted],
      [...this.histograms.values()].map((one) => one.element),
      this.picker(),
      [this.facetBoxes.listener, this.facetBoxes.speaker, this.facetBoxes.source],
    ];
    const panel = this.narrow.matches
      ? h("details.side", { open: this.sideOpen, ontoggle: (event) => { this.sideOpen = event.target.open; } },
        h("summary", {}, "Filters and measures"), side)
      : h("aside.side", {}, side);
    this.columns = this.tableColumns();
    this.rows = new Rows(this.narrow.matches ? 48 : 30, (k) => this.row(this.listed[k]));
    this.head = h("div.table-head", { role: "row" }, this.columns.map((column) => this.headCell(column)));
    this.rows.element.prepend(this.head);
    this.table = h("div.table", {}, this.rows.element);
    for (const part of [this.head, this.rows.inner]) part.style.minWidth = `${this.minWidth()}px`;
    fill(this.element, h("div.clips", {}, panel, h("section.results", {}, this.bar, this.table)));
    this.apply(stay);
    if (top) requestAnimationFrame(() => { this.rows.element.scrollTop = top; });
  }

  picker() {
    const groups = new Map();
    for (const one of this.dataset.measures) {
      if (this.view.show.includes(one.name)) continue;
      const group = one.name.startsWith("score.") ? "scores" : one.column.replace(/_/g, " ");
      if (!groups.has(group)) groups.set(group, []);
      groups.get(group).push(one);
    }
    const select = h("select", { "aria-label": "show a measure", onchange: () => this.add(select.value) },
      h("option", { value: "" }, `+ measure (${this.dataset.measures.length})`),
      [...groups].map(([group, measures]) => h("optgroup", { label: group },
        measures.map((one) => h("option", { value: one.name, title: one.meaning }, measureText(one.name))))));
    return select;
  }

  tableColumns() {
    const tick = { name: "", width: "30px", head: "" };
    const clip = { name: "clip", width: "minmax(226px, 2fr)", head: "clip" };
    const narrowMeasure = this.view.sort && this.view.sort !== "seconds" ? [this.view.sort] : this.view.show.slice(0, 1);
    const shown = this.narrow.matches ? narrowMeasure : this.view.show;
    const measures = shown.map((name) => ({ name, measure: this.measure(name), width: "minmax(104px, 1fr)" }));
    if (this.narrow.matches) return [tick, { ...clip, width: "minmax(0, 1fr)" }, ...measures.map((one) => ({ ...one, width: "96px" }))];
    const said = [{ name: "split", width: "56px", head: "split" }, { name: "attitude", width: "78px", head: "attitude" },
      { name: "seconds", measure: SECONDS, width: "70px", head: "length" }];
    return [tick, clip, ...said.filter((column) => this.set.knows(column.name)), ...measures];
  }

  minWidth() {
    return this.narrow.matches ? 0 : 30 + 226 + 56 + 78 + 70 + 104 * this.view.show.length + 8 * (this.columns.length + 1);
  }

  template() {
    return this.columns.map((column) => column.width).join(" ");
  }

  headCell(column) {
    if (column.name === "") {
      return h("input", { type: "checkbox", "aria-label": "tick all that match", onchange: (event) => this.tickAll(event.target.checked) });
    }
    if (!column.measure) return h("span.cell-head", {}, column.head);
    const mine = this.view.sort === column.name;
    const worst = this.view.descending === (column.measure.worst === "high");
    const [name, ...ends] = measureText(column.name).split(" · ");
    const unit = shownUnit(column.measure);
    return h("button.cell-head.number", {
      title: `${column.measure.meaning || column.name}\nclick: worst first, then best first`,
      "aria-sort": mine ? (this.view.descending ? "descending" : "ascending") : null,
      onclick: () => this.sort(column.name),
    }, column.head || h("span.two", {}, h("span", {}, name), h("span", {}, ends.join(" "), unit && unit !== "share" ? ` ${unit}` : "")),
    mine ? h("span.arrow", {}, worst ? " ▼ worst" : " ▲ best") : "");
  }

  row(index) {
    const set = this.set;
    const id = set.ids[index];
    const facet = (name) => set.facets[name].names[set.facets[name].codes[index]];
    const cells = this.columns.map((column) => {
      if (column.name === "") {
        return h("input", { type: "checkbox", checked: ticked.has(id), "aria-label": `tick ${id}`,
          onchange: (event) => this.tick(id, event.target.checked) });
      }
      if (column.name === "clip") {
        const link = h("a.id", { href: `#/clip/${encodeURIComponent(id)}`, title: id }, id);
        if (!this.narrow.matches) return link;
        return h("span.two", {}, link,
          h("span.quiet", {}, [facet("split"), facet("attitude"), durationText(set.seconds[index])].join(" · ")));
      }
      if (column.measure) return h("span.number", {}, numberText(set.values(column.name)[index], shownUnit(column.measure)));
      return h("span.quiet", {}, facet(column.name));
    });
    const row = h("div.table-row", { role: "row" }, cells);
    row.style.gridTemplateColumns = this.template();
    return row;
  }

  drawFacets(masks) {
    for (const [name, box] of Object.entries(this.facetBoxes)) {
      const { names } = this.set.facets[name];
      const chosen = this.view.facets[name] || new Set();
      const counts = this.set.counts(name, masks);
      let codes = names.map((_, code) => code).sort((a, b) => counts[b] - counts[a]);
      const known = { split: this.dataset.splits, attitude: this.dataset.attitudes }[name];
      if (known) codes.sort((a, b) => rank(known, names[a]) - rank(known, names[b]));
      const limit = this.wider.has(name) ? 200 : FACETS_SHOWN[name];
      const more = codes.length - limit;
      codes = [...codes.slice(0, limit), ...codes.slice(limit).filter((code) => chosen.has(code))];
      fill(box, h("legend", {}, name),
        codes.map((code) => h("label", {}, h("input", { type: "checkbox", checked: chosen.has(code),
          onchange: (event) => this.choose(name, code, event.target.checked) }),
        h("span.grow", { title: names[code] }, names[code]), h("span.quiet", {}, countText(counts[code])))),
        more > 0 && !this.wider.has(name) && h("button.plain", { onclick: () => { this.wider.add(name); this.apply(true); } },
          `${countText(Math.min(more, 200 - limit))} more`));
      box.hidden = names.length < 2;
    }
  }

  // -- acting ----------------------------------------------------------------------------------------------------

  apply(stay = false) {
    const began = performance.now();
    const masks = this.set.masks(this.view);
    this.listed = this.set.list(this.view, masks);
    this.drawFacets(masks);
    for (const [name, one] of this.histograms) one.show(masks.mask, masks.bits[`range ${name}`] || 0);
    const filtered = this.listed.length !== this.set.size;
    let seconds = 0;
    for (let k = 0; k < this.listed.length; k++) seconds += this.set.seconds[this.listed[k]] || 0;
    fill(this.summary, filtered ? `${countText(this.listed.length)} of ${plural(this.set.size, "clip")}` : plural(this.set.size, "clip"),
      h("span.quiet", {}, `${seconds ? ` · ${durationText(seconds)}` : ""}${ticked.size ? ` · ${countText(ticked.size)} ticked` : ""}`));
    this.untick.hidden = !ticked.size;
    this.clear.hidden = !filtered && !Object.keys(this.masksOf()).length;
    this.rows.show(this.listed.length, stay);
    this.head.style.gridTemplateColumns = this.template();
    this.element.dataset.filterMs = (performance.now() - began).toFixed(1);
    history.replaceState(null, "", this.address());
    for (const link of document.querySelectorAll("#nav a[data-page=clips]")) link.href = this.address(); // back to this view
  }

  masksOf() {
    return { ...this.view.facets, ...this.view.ranges, ...(this.view.text ? { text: 1 } : {}) };
  }

  selected() {
    return ticked.size ? [...ticked] : Array.from(this.listed, (row) => this.set.ids[row]);
  }

  choose(name, code, yes) {
    const chosen = new Set(this.view.facets[name] || []);
    if (yes) chosen.add(code);
    else chosen.delete(code);
    if (chosen.size) this.view.facets[name] = chosen;
    else delete this.view.facets[name];
    this.apply();
  }

  range(name, range) {
    if (range) this.view.ranges[name] = range;
    else delete this.view.ranges[name];
    this.histograms.get(name).setRange(range);
    this.apply();
  }

  sort(name) {
    const worst = this.measure(name).worst === "high";
    if (this.view.sort !== name) Object.assign(this.view, { sort: name, descending: worst });
    else if (this.view.descending === worst) this.view.descending = !worst;
    else Object.assign(this.view, { sort: "", descending: false });
    this.build();
  }

  async add(name) {
    if (!name) return;
    this.chosen = true;
    this.view.show = [...this.view.show, name];
    await this.set.load([name]);
    this.build();
  }

  drop(name) {
    this.chosen = true;
    this.view.show = this.view.show.filter((one) => one !== name);
    delete this.view.ranges[name];
    if (this.view.sort === name) Object.assign(this.view, { sort: "", descending: false });
    this.build();
  }

  tick(id, yes) {
    if (yes) ticked.add(id);
    else ticked.delete(id);
    this.apply(true);
  }

  tickAll(yes) {
    ticked.clear();
    if (yes) for (const row of this.listed) ticked.add(this.set.ids[row]);
    this.apply(true);
  }

  untickAbsent() {
    const there = ticked.size ? new Set(this.set.ids) : ticked;
    for (const id of ticked) if (!there.has(id)) ticked.delete(id);
  }

  reset() {
    Object.assign(this.view, { text: "", facets: {}, ranges: {} });
    this.build();
  }
}

function rank(known, name) {
  const place = known.indexOf(name);
  return place < 0 ? known.length : place;
}
