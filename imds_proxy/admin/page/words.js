// Durations, moments and counts in words. Moments are in seconds since the epoch.

const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

/** `2 d 3 h`, `1 h 2 min`, `29 min`, `4 min 30 s`, `45 s`: two units where the second one matters. */
export function duration(seconds) {
  const rest = Math.max(0, Math.floor(seconds));
  const largest = UNITS.findIndex(([size]) => rest >= size);
  if (largest === -1) return "0 s";
  const [size, unit] = UNITS[largest];
  const [smaller, smallUnit] = UNITS[largest + 1] ?? [];
  const first = Math.floor(rest / size);
  const second = smaller ? Math.floor((rest % size) / smaller) : 0;
  const exact = unit !== "min" || first < 10;
  return second && exact ? `${first} ${unit} ${second} ${smallUnit}` : `${first} ${unit}`;
}

/** The same without seconds beside minutes, for a sentence that should not change while it is read. */
export function about(seconds) {
  return seconds >= 60 ? duration(seconds).replace(/ min .*/, " min") : duration(seconds);
}

/** A timestamp of the document's as seconds; null stays null. */
export function moment(timestamp) {
  return timestamp ? Date.parse(timestamp) / 1000 : null;
}

const DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });
const TIME = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

/** The time of day; with its date where that is not today's. */
export function at(seconds, now) {
  const date = new Date(seconds * 1000);
  const day = DAY.format(date);
  const time = TIME.format(date);
  return day === DAY.format(new Date(now * 1000)) ? time : `${day}, ${time}`;
}

/** A moment and how far it is. */
export function when(seconds, now) {
  if (seconds === null) return "";
  return `${at(seconds, now)} (${distance(seconds, now)})`;
}

/** `in 5 min` or `5 min ago`. */
export function distance(seconds, now) {
  return seconds > now ? `in ${about(seconds - now)}` : `${about(now - seconds)} ago`;
}

/** `1 role`, `1,000 roles`. */
export function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

/** `a, b and 7 more`. */
export function some(names, most = 3) {
  const shown = names.slice(0, most);
  const rest = names.length - shown.length;
  if (rest > 0) return `${shown.join(", ")} and ${rest.toLocaleString("en")} more`;
  return shown.length > 1 ? `${shown.slice(0, -1).join(", ")} and ${shown.at(-1)}` : shown.join("");
}

/** Advice of several numbered steps, a line for each. */
export function steps(text) {
  return text?.replace(/ (?=\d\. )/g, "\n");
}

/** The order of names; one collator for all, since making one takes longer than a comparison. */
export const { compare } = new Intl.Collator("en", { numeric: true });

export const TIME_ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone;
