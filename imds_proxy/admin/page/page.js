// The status page: asks, shows, and lets time go on between two answers.

import { make, refresh, setAttribute, setText, showText } from "./dom.js";
import { showHost } from "./host.js";
import { Poll, ServerClock } from "./poll.js";
import { Roles } from "./roles.js";
import { Timeline } from "./timeline.js";
import { LEVELS, stateOf, verdict } from "./verdict.js";
import { at, duration, moment, steps, TIME_ZONE } from "./words.js";

const MOST_OTHERS = 5;
const ICONS = {
  ok: ["#1a7f4b", "M8 17l5 5 11-12"],
  warn: ["#a86500", "M16 7v11M16 23v2"],
  bad: ["#b3261e", "M9 9l14 14M23 9L9 23"],
  wait: ["#5b6472", "M8 16h2M15 16h2M22 16h2"],
};

const part = (id) => document.getElementById(id);
const clock = new ServerClock();
const roles = new Roles();
const timeline = new Timeline();
const opened = performance.now() / 1000;
/** The last answer and what has gone wrong since. */
let status = null;
let answered = 0;
let problem = null;
let announced = "";

function told(answer) {
  problem = answer.problem ?? null;
  if (answer.status) {
    status = answer.status;
    answered = performance.now() / 1000;
    clock.observe(status);
    showDocument();
  }
  tick();
}

function showDocument() {
  const now = clock.now();
  part("main").hidden = false;
  roles.update(status.roles, now);
  showTimeline();
  showHost(status, now);
  part("limited").hidden = !status.limited;
  setText(part("footer"), `imds-proxy ${status.version} · times are in ${TIME_ZONE}`);
}

function showTimeline() {
  const wanted = part("filter").value.trim().toLowerCase();
  const shown = status.roles.filter((role) => `${role.role} ${role.role_arn} ${stateOf(role, clock.now())}`.toLowerCase().includes(wanted));
  timeline.update(shown, moment(status.started), clock.now());
}

/** Once a second: what depends on the time. */
function tick() {
  const now = clock.now();
  showVerdict(now);
  if (status) roles.tick(now, problem !== null);
}

function showVerdict(now) {
  const found = status ? verdict(status, now) : null;
  const shown = problem ? unanswered(found, now) : found;
  if (!shown) return;
  setAttribute(document.body, "data-level", shown.level);
  document.body.classList.toggle("stale", problem !== null);
  setText(part("headline"), shown.headline);
  showText(part("detail"), shown.detail);
  showText(part("advice"), steps(shown.advice));
  showOthers(shown.others, shown.advice);
  showAge();
  showInTab(shown);
  announce(shown);
}

/** The last known stands behind what has gone wrong with the asking. */
function unanswered(found, now) {
  const silent = performance.now() / 1000 - (status ? answered : opened);
  const since = status ? `Last answer at ${at(now - silent, now)}, ${duration(silent)} ago.` : "It has not answered since this page was opened.";
  const shown = status ? " What follows is what was known then." : "";
  const others = found ? [{ ...found, headline: `Last known: ${found.headline}` }, ...found.others] : [];
  return { ...problem, level: problem.kind === "busy" ? "warn" : "bad", detail: since + shown, others };
}

/** What is to be done is said once. */
function showOthers(others, said) {
  const list = part("others");
  const shown = others
    .slice(0, MOST_OTHERS)
    .map(({ level, headline, advice }) => [level, headline, advice === said ? "" : (steps(advice) ?? "")]);
  const rest = others.length - shown.length;
  list.hidden = !others.length;
  refresh(list, [shown, rest], () => [
    ...shown.map(other),
    ...(rest ? [make("li", "aside", `and ${rest.toLocaleString("en")} more, shown below`)] : []),
  ]);
}

function other([level, headline, advice]) {
  const node = make("li", "", make("span", "", headline));
  if (advice) node.append(make("span", "advice", advice));
  setAttribute(node, "data-level", level);
  return node;
}

function showAge() {
  const age = performance.now() / 1000 - answered;
  setText(part("age"), status ? `updated ${age < 1.5 ? "now" : `${duration(age)} ago`}` : "");
}

/** The tab's title and icon, by sign and by colour. */
function showInTab({ level, headline }) {
  document.title = `${LEVELS[level]} ${headline.replace(/\.$/, "")} – imds-proxy`;
  const [colour, sign] = ICONS[level];
  const shape = `<rect width="32" height="32" rx="8" fill="${colour}"/><path d="${sign}" fill="none" stroke="#fff" stroke-width="4"/>`;
  const icon = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">${shape}</svg>`;
  setAttribute(document.querySelector("link[rel=icon]"), "href", `data:image/svg+xml,${encodeURIComponent(icon)}`);
}

/** Said to a screen reader when the matter changes, and not each time a minute has passed. */
function announce({ level, headline }) {
  const matter = level + headline.replace(/\d[\d ]*(s|min|h|d)\b/g, "");
  if (matter === announced) return;
  announced = matter;
  setText(part("announcement"), headline);
}

setText(part("place"), location.host);
part("filter").addEventListener("input", (event) => {
  roles.filter(event.target.value);
  if (status) showTimeline();
});
setInterval(tick, 1000);
new Poll(told).ask();
