// What evaluations say of one clip.
import { h } from "./dom.js";

const BETTER = { higher: "↑", lower: "↓" };

export function shortNumber(value) {
  return typeof value === "number" && !Number.isInteger(value) ? String(Number(value.toPrecision(4))) : String(value);
}

const printed = (value) => (value === null ? "–" : shortNumber(value));

/** A row a metric, a column a run; null where there are none. */
export function scoreTable(scores) {
  if (!scores.length) return null;
  const runs = [...new Set(scores.map((score) => score.run))];
  const metrics = new Map(scores.map((score) => [score.metric, score]));
  const value = (run, metric) => scores.find((score) => score.run === run && score.metric === metric)?.value ?? null;
  return h("div.scores", {}, h("table", {},
    h("thead", {}, h("tr", {}, h("th", {}, "score"), runs.map((run) => h("th.number", {}, run)))),
    h("tbody", {}, [...metrics].map(([metric, { name, better, unit, meaning }]) => h("tr", {},
      h("td", { title: meaning }, name, h("span.quiet", {}, ` ${BETTER[better] ?? ""} ${unit === "1" ? "" : unit}`)),
      runs.map((run) => h("td.number", {}, printed(value(run, metric)))))))));
}
