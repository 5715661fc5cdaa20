// Numbers for people.

/** Three digits that count; shares as per cent; "–" for what is not a number. */
export function numberText(value, unit = "") {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  if (unit === "share") return percentText(value);
  if (unit === "s") return withMinus(value.toFixed(1));
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e6) return withMinus(String(value));
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return withMinus(value.toExponential(1));
  return withMinus(size >= 100 ? value.toFixed(0) : value.toPrecision(3));
}

function withMinus(text) {
  return text.replace(/-/g, "−");
}

function percentText(share) {
  const percent = 100 * share;
  return `${percent === 0 || Math.abs(percent) >= 10 ? percent.toFixed(0) : percent.toPrecision(2)} %`;
}

/** 12,345 */
export function countText(count) {
  return String(count).replace(/\B(?=(\d{3})+$)/g, ",");
}

/** "1 clip", "3 clips" */
export function plural(count, noun) {
  return `${countText(count)} ${noun}${count === 1 ? "" : "s"}`;
}

/** Seconds as "3.4 s", "12 min", "3.2 h". */
export function durationText(seconds) {
  if (!(seconds >= 0)) return "–";
  if (seconds < 100) return `${seconds.toFixed(1)} s`;
  if (seconds < 6000) return `${(seconds / 60).toFixed(0)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

/** A measure's name for people: "listener angle · jump". */
export function measureText(name) {
  const [column, ...rest] = name.split(".");
  return [column.replace(/_/g, " "), ...rest.map((part) => part.replace(/_/g, " "))].join(" · ");
}

/** How a measure's numbers are shown: shares as per cent. */
export function shownUnit(measure) {
  return /\.(invalid|share)$|_fit_error\./.test(measure.name) ? "share" : measure.unit === "1" ? "" : measure.unit;
}
