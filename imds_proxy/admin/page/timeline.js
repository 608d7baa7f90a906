// The attempts of the last day, a row for each role: what failed at the same time stands below one another.

import { arrange, make, setAttribute, setText, showText } from "./dom.js";
import { compare, count, moment } from "./words.js";

const DAY = 86400;
const WIDTH = 1440;
const LEAST = 4;
const MOST_ROWS = 40;
const NAMESPACE = "http://www.w3.org/2000/svg";
/** Top and height of a mark: failures stand out by their height too. */
const MARKS = { unknown: [9, 6], renewed: [7, 10], failed: [1, 22] };

export class Timeline {
  #list = document.getElementById("timeline");
  #rest = document.getElementById("timeline-rest");
  #rows = new Map();

  /** Show the roles that match, those with most failures first. */
  update(roles, started, now) {
    const told = roles.filter((role) => role.history.length);
    const shown = mostFailed(told).slice(0, MOST_ROWS);
    for (const role of shown) this.#row(role.role).update(role, started, now);
    arrange(this.#list, shown.map((role) => this.#rows.get(role.role).node));
    const rest = told.length - shown.length;
    const cut = `${count(rest, "more role")} with fewer failures: the filter above narrows this too.`;
    showText(this.#rest, rest ? cut : told.length ? "" : "No attempt yet.");
  }

  #row(name) {
    if (!this.#rows.has(name)) this.#rows.set(name, new Row(name));
    return this.#rows.get(name);
  }
}

const failures = (role) => attempts(role, (outcome) => outcome !== "success");

function mostFailed(roles) {
  const counted = roles.map((role) => ({ role, failed: failures(role) }));
  counted.sort((one, other) => other.failed - one.failed || compare(one.role.role, other.role.role));
  return counted.map(({ role }) => role);
}

function attempts(role, of) {
  return role.history.reduce((sum, span) => sum + (of(span.outcome) ? span.attempts : 0), 0);
}

class Row {
  constructor(name) {
    this.name = name;
    this.picture = document.createElementNS(NAMESPACE, "svg");
    setAttribute(this.picture, "viewBox", `0 0 ${WIDTH} 24`);
    setAttribute(this.picture, "preserveAspectRatio", "none");
    setAttribute(this.picture, "aria-hidden", "true");
    this.paths = Object.fromEntries(Object.keys(MARKS).map((kind) => [kind, path(this.picture, kind)]));
    this.sum = make("span", "sum");
    this.node = make("li", "", make("span", "name", name), this.picture, this.sum);
  }

  update(role, started, now) {
    const x = (seconds) => Math.min(WIDTH, Math.max(0, ((seconds - now + DAY) / DAY) * WIDTH));
    const spans = (of) => role.history.filter((span) => of(span.outcome)).map((span) => [moment(span.from), moment(span.to)]);
    const kinds = {
      unknown: started > now - DAY ? [[now - DAY, started]] : [],
      renewed: spans((outcome) => outcome === "success"),
      failed: spans((outcome) => outcome !== "success"),
    };
    for (const [kind, times] of Object.entries(kinds)) setAttribute(this.paths[kind], "d", outline(kind, times, x));
    setText(this.sum, sum(role));
  }
}

function path(picture, kind) {
  const made = document.createElementNS(NAMESPACE, "path");
  setAttribute(made, "class", kind);
  picture.append(made);
  return made;
}

/** One path for all marks of a kind. */
function outline(kind, times, x) {
  const [top, height] = MARKS[kind];
  const mark = ([from, to]) => {
    const width = Math.max(LEAST, x(to) - x(from));
    return `M${Math.min(x(from), WIDTH - width).toFixed(1)} ${top}h${width.toFixed(1)}v${height}h-${width.toFixed(1)}z`;
  };
  return times.map(mark).join("");
}

function sum(role) {
  const renewed = `${attempts(role, (outcome) => outcome === "success").toLocaleString("en")} renewed`;
  const failed = failures(role);
  return failed ? `${renewed}, ${failed.toLocaleString("en")} failed` : renewed;
}
