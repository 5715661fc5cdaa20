// Overview: what became of the clips, who is in the data set, and how its numbers are spread. Every count leads on.
import { clipSet } from "./clipset.js";
import { h, fill } from "./dom.js";
import { Histogram } from "./histogram.js";
import { countText, durationText, measureText, plural, shownUnit } from "./numbers.js";

const SHOWN = [
  "listener_angle.motion", "listener_exp.motion", "listener_blink.rate", "listener_fit_error.mean",
  "words.probability.mean", "audio_level_dbfs",
];
const REASONS_SHOWN = 6;

export async function mount(element, route, api) {
  const draw = async (dataset) => {
    const [overview, set] = await Promise.all([api.json("/api/overview"), clipSet(dataset)]);
    const known = new Set(dataset.measures.map((one) => one.name));
    let names = SHOWN.filter((name) => known.has(name));
    if (!names.length) names = dataset.measures.slice(0, 6).map((one) => one.name);
    set.forget();
    await set.load(names);
    fill(element, headline(dataset, overview, set),
      h("div.panels", {}, funnel(overview), set.knows("split") && splits(dataset, set), set.knows("seconds") && lengths(set),
        set.knows("source") && licences(overview),
        spread(dataset, set, names), absent(overview)));
  };
  await draw(route.dataset);
  let last = route.dataset;
  const onDataset = (event) => {
    const changed = event.detail.clips_version !== last.clips_version || event.detail.index.done !== last.index.done;
    if (changed || event.detail.building) draw(last = event.detail).catch(() => {});
  };
  document.addEventListener("dataset", onDataset);
  return () => document.removeEventListener("dataset", onDataset);
}

function headline(dataset, overview, set) {
  const seconds = set.seconds.reduce((sum, one) => sum + (one || 0), 0);
  const facts = [
    overview.published || !overview.wanted ? `${countText(set.size)} of ${plural(Math.max(overview.wanted, set.size), "clip")} published`
      : `${plural(overview.wanted, "clip")}, none published yet`,
    seconds ? durationText(seconds) : null,
    known(set, "listener") ? plural(known(set, "listener"), "listener") : null,
    known(set, "speaker") ? plural(known(set, "speaker"), "speaker") : null,
    known(set, "source") ? plural(known(set, "source"), "source") : null,
    dataset.predictions.length ? `predicted by ${dataset.predictions.map((one) => one.name).join(", ")}` : null,
    dataset.building ? "a build is at work" : null,
  ];
  return h("p.headline", {}, facts.filter(Boolean).join(" · "));
}

function known(set, facet) {
  return set.facets[facet].names.filter((name) => name !== "unknown").length;
}

function panel(title, note, ...children) {
  return h("section.panel", {}, h("h2", {}, title, note && h("span.quiet", {}, ` ${note}`)), children);
}

function funnel(overview) {
  const most = Math.max(overview.wanted, 1, ...overview.funnel.map(reached));
  if (!overview.funnel.length) return null;
  const rows = overview.funnel.map((step) => {
    const stopped = step.stopped.reduce((sum, one) => sum + one.clips, 0);
    const meanings = overview.reasons[step.stage] || {};
    const chips = step.stopped.slice(0, REASONS_SHOWN).map((one) => h("a.chip", {
      href: rejectsPath(step.stage, one.reason, one.outcome), title: meanings[one.reason] || one.reason,
    }, `${one.reason || one.outcome} ${countText(one.clips)}`));
    const rest = step.stopped.length - REASONS_SHOWN;
    if (rest > 0) chips.push(h("a.chip", { href: rejectsPath(step.stage) }, `${rest} more`));
    return [
      h("span.stage", {}, step.stage),
      h("span.bar-box", { title: `${countText(step.ok)} passed, ${countText(stopped)} stopped` },
        h("a.bar-ok", { href: "#/clips", style: { width: `${(100 * step.ok) / most}%` }, "aria-label": `${step.ok} passed` }),
        stopped > 0 && h("a.bar-stopped", { href: rejectsPath(step.stage), style: { width: `${(100 * stopped) / most}%` },
          "aria-label": `${stopped} stopped` })),
      h("span.number", {}, countText(step.ok)),
      chips.length ? h("span.chips", {}, chips) : null,
    ];
  });
  return h("section.panel.whole", {}, h("h2", {}, "What became of the clips", h("span.quiet", {}, " passed, by stage; click what stopped them")),
    h("div.funnel", {}, rows));
}

function reached(step) {
  return step.ok + step.stopped.reduce((sum, one) => sum + one.clips, 0);
}

function rejectsPath(stage, reason, kind) {
  const query = new URLSearchParams({ stage, ...(reason ? { reason } : {}), ...(kind && !reason ? { kind } : {}) });
  return `#/rejects?${query}`;
}

function splits(dataset, set) {
  const { split, attitude } = set.facets;
  const names = ordered(split.names, dataset.splits);
  const kinds = ordered(attitude.names, dataset.attitudes);
  const count = new Map();
  for (let i = 0; i < set.size; i++) {
    const key = `${split.names[split.codes[i]]}\n${attitude.names[attitude.codes[i]]}`;
    count.set(key, (count.get(key) || 0) + 1);
  }
  const most = Math.max(1, ...count.values());
  const cell = (s, a) => {
    const clips = count.get(`${s}\n${a}`) || 0;
    const link = h("a", { href: `#/clips?${new URLSearchParams({ split: s, attitude: a })}` }, countText(clips));
    const td = h("td.number", {}, clips ? link : h("span.quiet", {}, "0"));
    td.style.background = clips ? `color-mix(in srgb, var(--accent) ${Math.round((28 * clips) / most)}%, transparent)` : "";
    return td;
  };
  const total = (s) => kinds.reduce((sum, a) => sum + (count.get(`${s}\n${a}`) || 0), 0);
  return panel("Splits and attitudes", "clips", h("div.scroll", {}, h("table", {},
    h("thead", {}, h("tr", {}, h("th", {}, ""), kinds.map((a) => h("th.number", {}, a)), h("th.number", {}, "all"))),
    h("tbody", {}, names.map((s) => h("tr", {}, h("th", {}, s), kinds.map((a) => cell(s, a)),
      h("td.number", {}, h("a", { href: `#/clips?${new URLSearchParams({ split: s })}` }, countText(total(s))))))))));
}

function ordered(names, known) {
  return [...known.filter((name) => names.includes(name)), ...names.filter((name) => !known.includes(name))];
}

function lengths(set) {
  const box = new Histogram(set.seconds, { label: "length of clips", unit: "s", height: 90, head: h("span") });
  return panel("Lengths", "seconds", h("a.block", { href: "#/clips?sort=seconds" }, box.element));
}

function spread(dataset, set, names) {
  const boxes = names.map((name) => {
    const one = dataset.measures.find((measure) => measure.name === name);
    const box = new Histogram(set.values(name), { label: measureText(name), title: one.meaning, unit: shownUnit(one),
      shownUnit: shownUnit(one) === "share" ? "" : shownUnit(one) });
    return h("a.block", { href: `#/clips?${new URLSearchParams({ sort: name })}`, title: `${one.meaning}: worst first` }, box.element);
  });
  const { done, total } = dataset.index;
  const note = done < total ? `measured ${done} of ${total} files` : `${dataset.measures.length} measures; click: worst clips first`;
  return h("section.panel.whole", {}, h("h2", {}, "Distributions", h("span.quiet", {}, ` ${note}`)),
    boxes.length ? h("div.spread", {}, boxes) : h("p.quiet", {}, "nothing is measured yet"));
}

function licences(overview) {
  if (!overview.licences.length) return null;
  return panel("Licences", "as the manifest states them", h("table.text", {},
    h("thead", {}, h("tr", {}, h("th", {}, "licence"), h("th.number", {}, "sources"), h("th.number", {}, "clips"), h("th.number", {}, "length"))),
    h("tbody", {}, overview.licences.map((one) => h("tr", {}, h("td", {}, one.licence || "none stated"),
      h("td.number", {}, countText(one.sources)), h("td.number", {}, countText(one.clips)),
      h("td.number", {}, durationText(one.frames / 30)))))));
}

function absent(overview) {
  if (!overview.missing_sources.length) return null;
  return panel("Sources that could not be had", "", h("table.text", {}, h("tbody", {},
    overview.missing_sources.slice(0, 50).map((one) => h("tr", {}, h("td", {}, one.source), h("td", {}, one.availability),
      h("td.quiet", {}, one.message))))));
}
