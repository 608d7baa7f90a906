// Will anything expire before I am back? One sentence, what to do, and what else there is. Pure.

import { about, at, count, moment, some } from "./words.js";

/** What each level means: its sign in words, for the title. The first that applies is the page's. */
export const LEVELS = { bad: "✕", warn: "!", wait: "…", ok: "✓", note: "✓" };
const ORDER = Object.keys(LEVELS);

const OF_AWS = new Set(["assume-role", "roles-anywhere", "web-identity"]);
const REASONS = {
  unreachable: "cannot be reached",
  denied: "says no",
  throttled: "throttles the calls",
  invalid: "gave no usable credentials",
};
const LIMITED = "Root, the daemon's user and those in [admin] allowed_users are told why.";
const MINUTES_OF_SKEW = 1;

/** A role's state at a moment: what the daemon said, unless its session has ended since. */
export function stateOf(role, now) {
  const ended = role.expires !== null && moment(role.expires) <= now;
  return ended && (role.state === "ok" || role.state === "failing") ? "expired" : role.state;
}

/** Why a role is not renewed, in a few words. */
export function reason(role) {
  const who = OF_AWS.has(role.source) ? "AWS" : `its source (${role.source})`;
  return `${who} ${REASONS[role.failure?.outcome] ?? "gives none"}`;
}

/** `{level, headline, detail, advice, others}` of a status document. */
export function verdict(status, now) {
  const findings = [...ofRoles(status.roles, now), ...ofHost(status), ...ofCertificates(status.roles, now)];
  findings.sort((one, other) => ORDER.indexOf(one.level) - ORDER.indexOf(other.level));
  const notes = findings.filter((finding) => finding.level === "note");
  const [first, ...others] = findings.filter((finding) => finding.level !== "note");
  const main = first ?? { level: "ok", headline: allWell(status) };
  return { detail: outlook(status.roles, now), ...main, others: [...others, ...notes] };
}

function* ofRoles(roles, now) {
  const being = (...states) => roles.filter((role) => states.includes(stateOf(role, now)));
  const dead = being("expired", "pending");
  for (const alike of byReason(dead.filter((role) => role.failure || role.state !== "pending"))) {
    yield withoutCredentials(alike);
  }
  for (const alike of byReason(being("failing"))) yield notRenewed(alike, now);
  const awaited = dead.filter((role) => !role.failure && role.state === "pending");
  if (awaited.length) {
    yield { level: "wait", headline: `The first credentials are being obtained: ${some(names(awaited))}.` };
  }
}

/** Roles in groups that have one reason, each with the first to expire at its head. */
function byReason(roles) {
  const groups = new Map();
  for (const role of [...roles].sort((one, other) => end(one) - end(other))) {
    const why = role.failure ? reason(role) : "";
    groups.set(why, [...(groups.get(why) ?? []), role]);
  }
  return groups.values();
}

function withoutCredentials(roles) {
  const [first] = roles;
  const whose = roles.length === 1 ? `${first.role} has` : `${count(roles.length, "role")} have`;
  const which = roles.length === 1 ? "" : ` (${some(names(roles))})`;
  const why = first.failure ? `: ${reason(first)}` : "";
  return { level: "bad", headline: `${whose} no live credentials${which}${why}.`, detail: "", advice: help(first) };
}

function notRenewed(roles, now) {
  const [first] = roles;
  const soon = first.expires && `expires in ${about(end(first) - now)}`;
  const whose = roles.length === 1 ? first.role : count(roles.length, "role");
  const headline =
    roles.length === 1 && soon
      ? `${whose} ${soon} unless a renewal succeeds: ${reason(first)}.`
      : `${whose} cannot be renewed: ${reason(first)}.${soon ? ` The first, ${first.role}, ${soon}.` : ""}`;
  return { level: "warn", headline, detail: "", advice: help(first) };
}

function end(role) {
  return moment(role.expires) ?? 0;
}

function help(role) {
  if (!role.failure) return "";
  return role.failure.advice || (role.failure.message ? "" : LIMITED);
}

function* ofHost(status) {
  const { listeners_down: down, config, clock_skew_seconds: skew } = status;
  if (down.length) {
    const advice = "journalctl -u imds-proxy says why; it is tried again until it is open.";
    yield { level: "bad", headline: `Nothing listens on ${some(down)}.`, advice };
  }
  if (config.error) {
    const advice = "The config before it is in use. Mend the file (imds-proxy check), then systemctl reload imds-proxy.";
    yield { level: "warn", headline: `The last reload was refused: ${config.error}`, advice };
  }
  if (skew) {
    const level = Math.abs(skew) >= 60 * MINUTES_OF_SKEW ? "warn" : "note";
    yield { level, headline: skewed(skew), advice: "Set the clock (chronyc makestep), and keep it set." };
  }
  for (const file of status.files ?? []) yield* ofFile(file);
  if (status.audit_write_failures) {
    const times = count(status.audit_write_failures, "time");
    const advice = "journalctl -u imds-proxy says why.";
    yield { level: "note", headline: `The audit could not be written ${times} since the start.`, advice };
  }
}

function* ofFile(file) {
  if (file.failure) yield { level: "bad", headline: file.failure.message, advice: file.failure.advice };
  for (const warning of file.warnings) yield { level: "note", headline: `${file.path}: ${warning}` };
}

/** How far the clock is off; nothing where it is not. */
export function skewed(skew) {
  return `This host's clock is ${about(Math.abs(skew))} ${skew > 0 ? "behind" : "ahead of"} AWS's.`;
}

function* ofCertificates(roles, now) {
  const advice = "Put the new certificate and its key into the files that the role names; they are read again by themselves.";
  for (const role of roles.filter((each) => each.certificate_expires)) {
    const expiry = moment(role.certificate_expires);
    const which = `The certificate of ${role.role}`;
    const soon = `${which} expires in ${about(expiry - now)}`;
    if (expiry <= now) yield { level: "bad", headline: `${which} has expired.`, advice };
    else if (role.certificate_late) yield { level: "warn", headline: `${soon}, and no new one is in use.`, advice };
  }
}

function allWell(status) {
  const kept = status.roles.filter((role) => role.state === "ok");
  if (kept.length) return `All well: ${count(kept.length, "role is", "roles are")} kept fresh.`;
  if (status.roles.length) return "All well: nobody asks for a role at this time.";
  return status.limited ? "This user may have no role here." : "No role is configured.";
}

/** What comes next, and how long it would last without AWS. */
function outlook(roles, now) {
  const held = roles.filter((role) => end(role) > now);
  if (!held.length) return "";
  const first = held.reduce((one, other) => (end(one) <= end(other) ? one : other));
  const next = Math.min(...held.map((role) => moment(role.next_attempt) ?? Infinity));
  const renewal = next > now ? `The next renewal is in ${about(next - now)}.` : "A renewal is under way.";
  const expiry = `in ${about(end(first) - now)} (at ${at(end(first), now)})`;
  const without = `Were nothing renewed from now on, ${first.role} would be the first to expire, ${expiry}.`;
  return next === Infinity ? without : `${renewal} ${without}`;
}

function names(roles) {
  return roles.map((role) => role.role);
}
