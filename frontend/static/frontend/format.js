/* Numbers with units and sensible digits; the same rules as the server's template filters. */

const UNITS = [
  ["_tokens_per_second", " tokens/s"],
  ["tokens_per_second", " tokens/s"],
  ["_per_second", "/s"],
  ["_seconds", " s"],
  ["_tokens", " tokens"],
  ["_percent", " %"],
];

const grouped = (value, digits) => value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });

export function threeDigits(value) {
  const magnitude = Math.abs(value);
  if (!Number.isFinite(value)) return String(value).toLowerCase().replace("infinity", "inf");
  if (magnitude >= 1000 && magnitude < 1e9) return grouped(value, 0);
  if (magnitude !== 0 && (magnitude < 1e-4 || magnitude >= 1e9)) {
    return value.toExponential(2).replace(/e([+-])(\d)$/, "e$10$2");
  }
  const digits = magnitude === 0 ? 2 : Math.max(0, 2 - Math.floor(Math.log10(magnitude)));
  const text = value.toFixed(digits);
  return digits > 2 ? text.replace(/0+$/, "").replace(/\.$/, "") : text;
}

export function size(bytes) {
  let value = bytes;
  let unit = "B";
  for (unit of ["B", "kB", "MB", "GB", "TB"]) {
    if (Math.abs(value) < 999.5 || unit === "TB") break;
    value /= 1000;
  }
  return unit === "B" ? `${Math.trunc(value)} B` : `${threeDigits(value)} ${unit}`;
}

export function duration(seconds) {
  if (seconds < 10) return `${Math.max(seconds, 0).toFixed(1)} s`;
  const whole = Math.round(seconds);
  const two = (value) => String(value).padStart(2, "0");
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  if (whole < 86_400) return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
  return `${Math.floor(whole / 86_400)} d ${Math.floor((whole % 86_400) / 3600)} h`;
}

export function ago(seconds) {
  if (seconds < 60) return `${Math.max(0, Math.floor(seconds))} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86_400)} d ago`;
}

export function number(value) {
  if (value === null || value === undefined || value === "") return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") return Number.isInteger(value) ? grouped(value, 0) : threeDigits(value);
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** Write a value with the unit that its name carries. */
export function measured(value, name) {
  if (typeof value === "number") {
    if (name.endsWith("_bytes")) return size(value);
    const unit = UNITS.find(([suffix]) => name.endsWith(suffix));
    if (unit) return `${number(value)}${unit[1]}`;
  }
  return number(value);
}

/** Turn a snake_case name into words, without the unit that `measured` writes. */
export function label(name) {
  if (name === "tokens_per_second") return "speed";
  const unit = UNITS.find(([suffix]) => suffix.startsWith("_") && name.endsWith(suffix));
  return name.replace(/_bytes$/, "").slice(0, unit ? -unit[0].length : undefined).replaceAll("_", " ");
}
