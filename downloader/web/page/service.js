// The calls of the page, with the key where one is needed; people are asked for it when the service asks.

import { DownloaderClient } from "../download-job.js";
import { key } from "./storage.js";

export class Service {
  #ask;
  #asking = null;
  #declined = false;
  #shut = false;

  /** `ask(message)` gives what a person types, "" when they would rather not. */
  constructor(ask) {
    this.#ask = ask;
  }

  /** What shows who calls. */
  get headers() {
    return key.get() ? { Authorization: `Bearer ${key.get()}` } : {};
  }

  /**
   * What `work(client)` gives; throws its ApiError. A person is asked for a key as often as it takes, but of a
   * `quiet` call, which nobody waits for, only once.
   */
  async call(work, { quiet = false } = {}) {
    for (;;) {
      const shown = key.get();
      try {
        const answer = await work(new DownloaderClient({ headers: this.headers }));
        this.#shut = false;
        return answer;
      } catch (error) {
        if (error.problem?.status !== 401) throw error;
        if (key.get() !== shown || (await this.#asked(error.problem, quiet))) continue;
        this.#shut = true;
        throw error;
      }
    }
  }

  /** Whether a key is wanted and nobody would give one: calls that nobody asked for are then only noise. */
  get isShut() {
    return this.#shut;
  }

  /** Forget the key, and do not ask for one until a person wants something. */
  forget() {
    key.set("");
    this.#declined = true;
  }

  async #asked(problem, quiet) {
    if (quiet && this.#declined) return false;
    const wrong = problem.code === "key_invalid" && key.get();
    if (wrong) key.set("");
    this.#asking ??= this.#ask(wrong ? "This key is not valid here. It may be mistyped, revoked or expired." : "");
    const given = await this.#asking;
    this.#asking = null;
    this.#declined = !given;
    if (given) key.set(given);
    return Boolean(given);
  }
}

/** What went wrong, for people. */
export function explained(error) {
  const problem = error.problem;
  if (!problem) throw error; // a mistake of ours, not of the call
  if (problem.code === "key_required") return "This service asks for a key. Without one nothing can be done here.";
  if (!problem.status) return "The service cannot be reached. Nothing you typed is lost; try again in a moment.";
  const wait = problem.retryAfter ? ` Try again in ${problem.retryAfter} s.` : "";
  return (problem.detail || problem.title) + wait;
}

/** A key for a call that makes a job; not randomUUID, which pages without TLS lack. */
export function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
