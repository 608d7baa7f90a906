// What is not of one role: listeners, clock, config, requests, certificates, files.

import { breakable, definitions, make, refresh, table } from "./dom.js";
import { skewed } from "./verdict.js";
import { count, moment, when } from "./words.js";

const PROTOCOLS = { imds_v1: "IMDSv1", imds_v2: "IMDSv2", container: "Container" };

/** Fill the sections. */
export function showHost(status, now) {
  fill("host", host(status, now));
  fill("requests", requests(status));
  fill("certificates", certificates(status, now));
  fill("files", files(status, now));
}

/** Below the section's heading; a section without anything to say is not shown. */
function fill(name, content) {
  const section = document.getElementById(name);
  section.hidden = content === null;
  if (!section.lastElementChild.matches(".content")) section.append(make("div", "content"));
  if (content !== null) refresh(section.lastElementChild, content.parts, content.build);
}

function host(status, now) {
  const pairs = [
    ["Listens on", status.listeners],
    ["Not open", status.listeners_down.map((entry) => `✕ ${entry}`)],
    ["Clock", status.clock_skew_seconds ? skewed(status.clock_skew_seconds) : "as AWS's"],
    ["Config", `read ${when(moment(status.config.loaded), now)}`],
    ["Last reload", status.config.error && `✕ refused: ${status.config.error}`],
    ["Base key", status.base_key && baseKey(status.base_key, now)],
    ["Connections", count(status.connections, "open", "open")],
    ["Audit", status.audit_write_failures ? `✕ not written ${count(status.audit_write_failures, "time")}` : ""],
    ["Running", `since ${when(moment(status.started), now)}`],
  ];
  return { parts: pairs, build: () => [definitions(pairs)] };
}

function baseKey({ created, rotations }, now) {
  const age = created ? `made ${when(moment(created), now)}` : "age not known yet";
  const outcomes = Object.entries(rotations).map(([outcome, number]) => `${number} ${outcome}`);
  return [age, ...(outcomes.length ? [`rotations: ${outcomes.join(", ")}`] : [])];
}

function requests(status) {
  const sums = new Map();
  for (const { protocol, status: code, count: number } of status.answers) {
    const key = `${PROTOCOLS[protocol] ?? protocol} ${code || "closed"}`;
    sums.set(key, (sums.get(key) ?? 0) + number);
  }
  const rows = [...sums].map(([key, number]) => [...key.split(" "), number.toLocaleString("en")]);
  const note = status.limited_requests ? `${count(status.limited_requests, "request")} beyond the rate limit.` : "";
  const build = () => [
    rows.length
      ? table("Answers by protocol and status", ["Protocol", "Status", "Count"], rows, ["Count"])
      : make("p", "aside", "None since the start."),
    ...(note ? [make("p", "aside", note)] : []),
  ];
  return { parts: [rows, note], build };
}

function certificates(status, now) {
  const pairs = status.roles
    .filter((role) => role.certificate_expires)
    .map((role) => [role.role, moment(role.certificate_expires)])
    .sort(([, one], [, other]) => one - other)
    .map(([name, end]) => [name, `${end > now ? "expires" : "✕ expired"} ${when(end, now)}`]);
  return pairs.length ? { parts: pairs, build: () => [definitions(pairs)] } : null;
}

function files(status, now) {
  const shown = (status.files ?? []).map((file) => [file, written(file, now)]);
  return shown.length ? { parts: shown, build: () => shown.map(([file, time]) => fileOf(file, time)) } : null;
}

function written(file, now) {
  return file.written ? `written ${when(moment(file.written), now)}` : "not written yet";
}

function fileOf(file, time) {
  const said = [make("p", "path", ...breakable(file.path)), make("p", "aside", `${file.format} of ${file.roles.join(", ")}, ${time}`)];
  const failure = file.failure ?? { message: "", advice: "" };
  const wrong = [failure.message, ...file.warnings].filter(Boolean).map((text) => make("p", "message", text));
  if (failure.advice) wrong.push(make("p", "advice", failure.advice));
  return make("div", "file", ...said, ...(wrong.length ? [make("div", "failure", ...wrong)] : []));
}
