// Asks for the status again and again, and says why there is none.

const SECONDS = 2;
const SECONDS_HIDDEN = 30;
const SECONDS_BUSY = 5;
const LONGEST = 15;
/** The daemon has other things to do: at most a tenth of its time goes into this page. */
const SHARE = 10;

/** The time where the daemon is, as this document tells it: the browser's own clock may be wrong. */
export class ServerClock {
  #offset = null;

  /** An answer has whole seconds and was made a moment ago, so the latest reading is the closest one. */
  observe(status) {
    const read = Date.parse(status.time) / 1000 + Math.max(0, status.clock_skew_seconds) - performance.now() / 1000;
    const steady = this.#offset !== null && Math.abs(read - this.#offset) < 2;
    this.#offset = steady ? Math.max(read, this.#offset) : read;
  }

  /** Seconds since the epoch. */
  now() {
    return performance.now() / 1000 + (this.#offset ?? 0);
  }
}

/** Calls `told({status})` or `told({problem})` for ever. */
export class Poll {
  #told;
  #timer = 0;
  #asking = false;

  constructor(told) {
    this.#told = told;
    document.addEventListener("visibilitychange", () => document.hidden || this.ask());
  }

  async ask() {
    if (this.#asking) return;
    this.#asking = true;
    clearTimeout(this.#timer);
    const begun = performance.now();
    const answer = await read();
    const took = (performance.now() - begun) / 1000;
    this.#asking = false;
    this.#timer = setTimeout(() => this.ask(), 1000 * pause(answer, took));
    this.#told(answer);
  }
}

function pause(answer, took) {
  const least = answer.problem?.kind === "busy" ? SECONDS_BUSY : SECONDS;
  return Math.max(document.hidden ? SECONDS_HIDDEN : least, answer.problem ? 0 : took * SHARE);
}

async function read() {
  try {
    const response = await fetch("status.json", { cache: "no-store", signal: AbortSignal.timeout(1000 * LONGEST) });
    if (!response.ok) return { problem: refusal(response.status, await response.text()) };
    return { status: await response.json() };
  } catch {
    return { problem: SILENT };
  }
}

const SILENT = {
  kind: "silent",
  headline: "The daemon does not answer.",
  advice:
    "On the host, look at systemctl status imds-proxy and journalctl -u imds-proxy. " +
    "If it has stopped, clients get no credentials until it runs again; those that they hold end as shown here.",
};

function refusal(status, text) {
  const reason = text.trim().slice(0, 300);
  if (status === 429) {
    return {
      kind: "busy",
      headline: "The daemon is asked too often by this user, and answers this page no more for now.",
      advice: "End what else asks for the status or the metrics this often; this page goes on by itself.",
    };
  }
  if (status === 403) {
    return { kind: "refused", headline: "The daemon no longer shows its status here.", advice: `It says: ${reason}` };
  }
  return {
    kind: "error",
    headline: `The daemon answers with an error (${status}).`,
    advice: `It says: ${reason}. The reason is in its log: journalctl -u imds-proxy`,
  };
}
