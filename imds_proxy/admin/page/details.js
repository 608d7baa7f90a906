// What is folded into a role's card.

import { definitions, make, table } from "./dom.js";
import { at, moment, when } from "./words.js";

/** Everything that is known of a role, and what became of its renewals: `{parts, build}` for `refresh`. */
export function details(role, byName, now) {
  const time = (timestamp) => when(moment(timestamp), now);
  const facts = [
    ["Chain", chain(role, byName)],
    ["Role ARN", role.role_arn],
    ["Session ARN", role.session_arn],
    ["Access key id", role.key],
    ["Obtained", time(role.obtained)],
    ["Expires", time(role.expires)],
    ["Renewal due", time(role.due)],
    ["Next attempt", time(role.next_attempt)],
    ["Failed at", role.failure && `${time(role.failure.at)}: ${role.failure.outcome}`],
    ["Pod", role.failure?.pod],
    ["Who may have it", granted(role)],
    ["Certificate expires", time(role.certificate_expires)],
  ];
  return { parts: [facts, role.history], build: () => [definitions(facts), ...history(role, now)] };
}

/** From the first step to this role: `host → base → deploy`. */
function chain(role, byName) {
  const steps = [role.role];
  for (let parent = role.from; parent && !steps.includes(parent); parent = byName.get(parent)?.from) steps.unshift(parent);
  return steps.length > 1 ? steps.join(" → ") : "";
}

function granted(role) {
  if (role.grants === null) return "";
  return role.grants.length ? role.grants : role.served ? "nobody by a grant" : "nobody: it is not handed out";
}

function history(role, now) {
  if (!role.history.length) return [];
  const rows = runs(role.history).map(({ from, to, outcome, attempts }) => [
    from === to ? at(moment(from), now) : `${at(moment(from), now)} to ${at(moment(to), now)}`,
    outcome,
    attempts.toLocaleString("en"),
  ]);
  const caption = `The last day's attempts to renew ${role.role}`;
  return [make("h4", "", "Attempts of the last day"), table(caption, ["When", "Outcome", "Attempts"], rows, ["Attempts"])];
}

/** What went alike one after the other in one row, the latest first. */
function runs(spans) {
  const found = [];
  for (const span of spans) {
    const last = found[0];
    if (last?.outcome === span.outcome) Object.assign(last, { to: span.to, attempts: last.attempts + span.attempts });
    else found.unshift({ ...span });
  }
  return found;
}
