// A card for each role: those with trouble first.

import { details } from "./details.js";
import { arrange, make, refresh, setAttribute, setText, showText } from "./dom.js";
import { stateOf } from "./verdict.js";
import { compare, count, distance, duration, moment, steps } from "./words.js";

const RANK = ["expired", "pending", "failing", "ok", "idle", "unused"];
const MANY = 24;
const SOURCES = {
  "assume-role": "AssumeRole",
  "roles-anywhere": "IAM Roles Anywhere",
  "web-identity": "OIDC token",
  process: "a command",
  file: "a file",
  http: "an HTTP service",
  ambient: "the daemon's own AWS session",
};

export class Roles {
  #list = document.getElementById("roles");
  #cards = new Map();
  #filter = "";
  #observer = new IntersectionObserver((seen) => {
    for (const { target, isIntersecting } of seen) target.card.seen = isIntersecting;
  });

  /** Show what a document says. */
  update(roles, now) {
    const sorted = inOrder(roles, now);
    const byName = new Map(roles.map((role) => [role.role, role]));
    for (const role of sorted) this.#card(role.role).update(role, byName, now);
    for (const name of [...this.#cards.keys()].filter((each) => !byName.has(each))) this.#drop(name);
    this.#list.classList.toggle("many", roles.length > MANY);
    arrange(this.#list, sorted.map((role) => this.#cards.get(role.role).node));
    this.filter(this.#filter);
    setText(document.getElementById("counts"), counts(roles, now));
  }

  /** Time goes on: only cards that are on the screen are touched. */
  tick(now, stale) {
    for (const card of this.#cards.values()) if (card.seen) card.tick(now, stale);
  }

  /** Show only cards that have a text. */
  filter(text) {
    this.#filter = text;
    const wanted = text.trim().toLowerCase();
    let shown = 0;
    for (const card of this.#cards.values()) shown += card.match(wanted);
    const said = wanted ? `${count(shown, "role")} of ${this.#cards.size.toLocaleString("en")} match.` : "";
    showText(document.getElementById("matches"), said);
  }

  #card(name) {
    if (!this.#cards.has(name)) {
      const card = new Card(name, this.#cards.size);
      this.#cards.set(name, card);
      this.#observer.observe(card.node);
    }
    return this.#cards.get(name);
  }

  #drop(name) {
    this.#observer.unobserve(this.#cards.get(name).node);
    this.#cards.delete(name);
  }
}

function inOrder(roles, now) {
  const keyed = roles.map((role) => ({
    role,
    rank: RANK.indexOf(stateOf(role, now)) - (role.failure ? 0.5 : 0),
    end: role.failure ? (moment(role.expires) ?? 0) : 0,
  }));
  keyed.sort((one, other) => one.rank - other.rank || one.end - other.end || compare(one.role.role, other.role.role));
  return keyed.map(({ role }) => role);
}

function counts(roles, now) {
  const numbers = new Map();
  for (const role of roles) numbers.set(stateOf(role, now), (numbers.get(stateOf(role, now)) ?? 0) + 1);
  return RANK.filter((state) => numbers.has(state))
    .map((state) => `${numbers.get(state).toLocaleString("en")} ${state}`)
    .join(" · ");
}

class Card {
  seen = true;

  constructor(name, number) {
    const title = make("h3", "", name);
    title.id = `role-${number}-${Math.random().toString(36).slice(2, 8)}`;
    this.badge = make("span", "badge");
    this.origin = make("p", "origin");
    this.bar = make("i");
    this.life = make("div", "life", this.bar, make("b"));
    this.left = make("span", "left");
    this.next = make("span", "next");
    this.message = make("p", "message");
    this.advice = make("p", "advice");
    this.failure = make("div", "failure", this.message, this.advice);
    this.details = make("details", "", make("summary", "", "Details"), make("div", "body"));
    const summary = this.details.firstChild;
    setAttribute(summary, "aria-label", `Details of ${name}`);
    setAttribute(this.life, "aria-hidden", "true");
    const times = make("p", "times", this.left, this.next);
    const head = make("div", "head", title, this.badge);
    const article = make("article", "", head, this.origin, this.life, times, this.failure, this.details);
    setAttribute(article, "aria-labelledby", title.id);
    this.node = make("li", "card", article);
    this.node.card = this;
    this.details.addEventListener("toggle", () => this.#fill());
  }

  update(role, byName, now) {
    Object.assign(this, { role, byName, at: now });
    this.words = [role.role, role.source, role.role_arn, role.session_arn, role.failure?.message].join(" ").toLowerCase();
    setText(this.origin, origin(role));
    this.#showFailure(role.failure);
    this.tick(now, false);
    this.#fill();
  }

  tick(now, stale) {
    const { role } = this;
    const state = stateOf(role, now);
    setAttribute(this.node, "data-state", state);
    setText(this.badge, state);
    setText(this.left, left(role, now));
    setText(this.next, next(role, now, stale));
    this.#drain(now);
  }

  match(wanted) {
    const matches = this.words.includes(wanted) || this.badge.textContent.includes(wanted);
    this.node.hidden = !matches;
    return matches;
  }

  #drain(now) {
    const [obtained, due, end] = [this.role.obtained, this.role.due, this.role.expires].map(moment);
    const life = end - obtained;
    const part = (from) => Math.min(1, Math.max(0, (end - from) / life)).toFixed(4);
    this.life.hidden = !end;
    if (!end) return;
    this.life.style.setProperty("--left", part(now));
    this.life.style.setProperty("--due", due ? part(due) : "0");
  }

  #showFailure(failure) {
    const whose = failure?.service_account ? `${failure.service_account}: ` : "";
    const said = failure && `${whose}${failure.message || failure.outcome}`;
    this.failure.hidden = !failure;
    this.node.classList.toggle("in-trouble", failure !== null);
    showText(this.message, said);
    showText(this.advice, steps(failure?.advice));
  }

  /** What is folded in is made when somebody looks. */
  #fill() {
    if (!this.details.open) return;
    const { parts, build } = details(this.role, this.byName, this.at);
    refresh(this.details.lastChild, parts, build);
  }
}

function origin(role) {
  const source = SOURCES[role.source] ?? role.source;
  const from = role.from ? ` from ${role.from}` : "";
  const marks = [role.default ? "default" : "", role.on_demand ? "on demand" : "", role.served ? "" : "not handed out"];
  return [`${source}${from}`, ...marks].filter(Boolean).join(" · ");
}

function left(role, now) {
  const end = moment(role.expires);
  if (role.sessions !== null) return count(role.sessions, "session of a service account", "sessions of service accounts");
  if (end === null) return role.state === "pending" ? "no credentials yet" : "no session held";
  return end > now ? `${duration(end - now)} left` : `expired ${distance(end, now)}`;
}

function next(role, now, stale) {
  const attempt = moment(role.next_attempt);
  if (role.state === "unused") return "nobody may have it";
  if (role.state === "idle") return "renewed once somebody asks";
  if (attempt === null) return "";
  const verb = role.failure ? "tried again" : "renewed";
  if (stale) return `${role.failure ? "next try" : "renewal"} due ${distance(attempt, now)}`;
  return attempt > now ? `${verb} in ${duration(attempt - now)}` : role.failure ? "tried again now" : "being renewed";
}
