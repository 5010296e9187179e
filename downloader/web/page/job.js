// One job of the list: a line that tells how it is, and when opened everything about it.

import * as curl from "./curl.js";
import { ask, copier, make, safe, say } from "./dom.js";
import { Files } from "./files.js";
import { clock } from "./format.js";
import { explained, newKey } from "./service.js";

const SHOWN_CHARS = 3000;
const REST_MS = 600;
const WORDS = { queued: "Waiting", processing: "Working", failed: "Failed", cancelled: "Cancelled", gone: "Gone" };
const RECONNECTING = "Reconnecting… The job goes on meanwhile.";
const GONE = "This job is no longer there: it has expired or was removed.";

export class Card {
  node = document.getElementById("job").content.firstElementChild.cloneNode(true);
  #entry;
  #page;
  #job = null;
  #gone = false;
  #files = null;
  #peak = 0;
  #notBefore = 0;
  #isActing = false;
  #isWell = true;
  #retryKey = "";

  /** `entry` is {id, name, time}; `page` is what main.js offers to cards. */
  constructor(entry, page) {
    this.#entry = entry;
    this.#page = page;
    say(this.#at(".name"), entry.name);
    say(this.#at(".when"), clock(entry.time));
    this.#at(".head").addEventListener("click", () => (this.isOpen ? page.close(this) : page.open(this)));
    this.#at(".body").id = `job-${entry.id}`;
    this.#at(".head").setAttribute("aria-controls", `job-${entry.id}`);
  }

  get id() {
    return this.#entry.id;
  }

  get isOpen() {
    return this.#at(".head").ariaExpanded === "true";
  }

  /** Whether it is time to read it again: it may have changed, or it is open and could not be read so far. */
  get isDue() {
    return !this.#gone && Date.now() >= this.#notBefore && (this.isOpen ? this.#element.state === "idle" : this.isActive);
  }

  /** Whether reading it again may tell something new. */
  get isActive() {
    return !this.#gone && (!this.#job || this.#job.status === "queued" || this.#job.status === "processing");
  }

  focus() {
    this.#at(".head").focus();
  }

  /** Read how the job is, unasked: for its line, or for all of it where that has not come about yet.
   *  False when the service is away or busy, so that it is better left alone for a while. */
  async read() {
    this.#isWell = true;
    if (this.isOpen) await this.open({ quiet: true });
    else await this.#reading((client) => client.status(this.id, { files: false }), true);
    return this.#isWell;
  }

  async open({ quiet = false } = {}) {
    this.#toggle(true);
    if (!this.#files) this.#build();
    const job = await this.#reading((client) => client.status(this.id), quiet);
    if (job && this.isOpen && this.#element.state === "idle") this.#follow(job);
  }

  close() {
    this.#toggle(false);
    this.#element.reset();
  }

  get #element() {
    return this.#at("download-job");
  }

  #at(selector) {
    return this.node.querySelector(selector);
  }

  #toggle(open) {
    this.#at(".head").ariaExpanded = String(open);
    this.#at(".body").hidden = !open;
  }

  /** Read what will be read again if it cannot be had now. */
  async #reading(work, quiet = false) {
    try {
      const job = await this.#page.service.call(work, { quiet });
      this.#page.reached(true);
      say(this.#at(".error"), "");
      this.#show(job);
      return job;
    } catch (error) {
      const { status, retryAfter } = error.problem || {};
      this.#notBefore = Date.now() + 1000 * (retryAfter ?? 0);
      this.#isWell = status > 0 && status < 500 && status !== 429;
      if (status === 0) this.#page.reached(false);
      else this.#failed(error);
      return null;
    }
  }

  #failed(error) {
    const { code, status } = error.problem || {};
    if (code === "job_not_found") return this.#end();
    say(this.#at(".error"), explained(error));
    if (status === 401 && !this.#job) this.#acts([["Enter a key", () => this.open()]]);
  }

  /** Do what a person wants, one thing at a time; nobody does it again for them if it fails, so they are told. */
  async #acting(work) {
    if (this.#isActing) return null;
    this.#isActing = true;
    say(this.#at(".error"), "");
    try {
      return await this.#page.service.call(work);
    } catch (error) {
      this.#failed(error);
      return null;
    } finally {
      this.#isActing = false;
    }
  }

  #build() {
    const read = (after, limit) =>
      this.#page.service
        .call((client) => client.files(this.id, { limit, ...(after >= 0 && { after }) }))
        .catch((error) => this.#failed(error));
    this.#files = new Files(this.#at(".files"), read);
    const hear = (name, act) => this.#element.addEventListener(`job-${name}`, (event) => act(event.detail));
    hear("progress", ({ job }) => {
      this.#page.reached(true);
      this.#show(job);
      this.#files.arrive(job.fetching ?? []);
    });
    hear("files", ({ files }) => this.#files.update(files));
    this.#element.texts = { reconnecting: RECONNECTING };
    hear("end", ({ job }) => this.#ended(job));
    hear("error", ({ problem }) => this.#lost(problem));
    this.#commands();
    this.#at(".id code").textContent = this.id;
    this.#at(".id").append(copier("Copy", () => this.id, { ariaLabel: "Copy the job's id" }));
  }

  #follow(job) {
    if (job.files) this.#files.update(job.files);
    else this.#files.refresh();
    this.#element.headers = this.#page.service.headers;
    this.#element.follow({ jobId: job.jobId, statusUrl: job.statusUrl, subscribeUrl: job.subscribeUrl });
  }

  #ended(job) {
    this.#show(job);
    if (job.files) this.#files.update(job.files);
    else this.#files.refresh();
  }

  /** The element has given up, and says why itself; but of these the page makes more. */
  #lost(problem) {
    if (problem.code === "job_not_found") this.#end();
    else if (problem.code === "archive_expired") this.#show({ downloadUrl: null });
    else if (problem.status === 401) {
      this.#element.reset();
      this.open();
    }
  }

  #end() {
    this.#gone = true;
    this.node.dataset.state = "gone";
    say(this.#at(".state"), WORDS.gone);
    for (const selector of ["download-job", ".curl"]) this.#at(selector).hidden = true;
    this.#files?.count(0, 0, true);
    say(this.#at(".error"), GONE);
    this.#acts([["Forget it", () => this.#page.forget(this.id)]]);
  }

  #show(job) {
    this.#job = { ...this.#job, ...job };
    const state = this.#state();
    this.node.dataset.state = state;
    const word = { ready: "Ready", partly: "Partly done", expired: "Expired" }[state] || WORDS[state] || state;
    const isWorking = state === "processing";
    this.#peak = Math.max(this.#peak, this.#job.progress);
    const share = this.#job.progress < this.#peak ? "" : `${this.#job.progress} %`; // another worker makes up for it
    say(this.#at(".state"), isWorking ? `${word} ${share}` : word);
    this.node.style.setProperty("--done", `${this.#peak}%`);
    this.#files?.count(this.#job.totalFiles, this.#job.filesFailed, !this.isActive);
    if (this.isOpen) this.#page.title(isWorking ? `${share} ${this.#entry.name}` : "");
    this.#offer(state);
  }

  #state() {
    const { status, filesFailed, downloadUrl } = this.#job;
    if (status !== "completed") return status;
    // Without a link the archive is no longer there: the service knows, whatever this computer's clock says.
    if (!downloadUrl) return "expired";
    return filesFailed ? "partly" : "ready";
  }

  /** The buttons that make sense now. */
  #offer(state) {
    const { filesFailed, totalFiles } = this.#job;
    const acts = [];
    if (state === "ready" || state === "partly") acts.push(["Copy link"]);
    if (state === "partly") acts.push([`Retry ${filesFailed.toLocaleString("en")} failed`, () => this.#retry()]);
    if (state === "failed" || state === "cancelled") acts.push([totalFiles > 1 ? "Retry all" : "Retry", () => this.#retry()]);
    if (this.isActive) acts.push(["Cancel", () => this.#cancel()]);
    acts.push(["Remove", () => this.#remove()]);
    this.#acts(acts);
  }

  #acts(acts) {
    const box = this.#at(".acts");
    const names = acts.map(([name]) => name).join();
    if (box.dataset.names === names) return;
    box.dataset.names = names;
    const hadFocus = box.contains(document.activeElement);
    box.replaceChildren(...acts.map(([name, act]) => (act ? button(name, act) : copier(name, () => this.#link()))));
    if (!hadFocus) return;
    this.focus();
    // The second of two clicks is meant for what stood here before.
    for (const node of box.children) node.disabled = true;
    setTimeout(() => [...box.children].forEach((node) => (node.disabled = false)), REST_MS);
  }

  async #link() {
    const job = await this.#acting((client) => client.status(this.id, { files: false }));
    if (job) this.#show(job);
    return safe(job?.downloadUrl) || "";
  }

  async #retry() {
    const idempotencyKey = (this.#retryKey ||= newKey()); // after a lost answer it is still the same wish
    const started = await this.#acting((client) => client.retry(this.id, { idempotencyKey }));
    if (!started) return;
    this.#retryKey = "";
    this.#page.started(started, this.#entry.name);
  }

  async #cancel() {
    const job = await this.#acting((client) => client.cancel(this.id));
    if (job) this.#show(job);
  }

  async #remove() {
    if ((await ask(document.getElementById("sure"))) !== "yes") return;
    const isDone = await this.#acting(async (client) => {
      await client.remove(this.id);
      return true;
    });
    if (isDone) this.#page.forget(this.id);
  }

  #commands() {
    const { base, bodyOf, service } = this.#page;
    const hasKey = Boolean(service.headers.Authorization);
    const body = bodyOf(this.id);
    const told = [["Follow it", curl.follow(base, this.id, hasKey)], ["Save the archive", curl.download(base, this.id, hasKey)]];
    if (body) told.unshift(["Start such a job", curl.start(base, body, hasKey)]);
    if (hasKey) told.unshift(["Your key goes into the environment, typed without an echo", "read -rs DOWNLOADER_KEY"]);
    this.#at(".curl div").replaceChildren(...told.flatMap(([title, text]) => command(title, text)));
  }
}

function button(name, act) {
  const node = make("button", { type: "button", textContent: name });
  node.addEventListener("click", act);
  return node;
}

function command(title, text) {
  const shown = text.length > SHOWN_CHARS ? `${text.slice(0, SHOWN_CHARS)}\n… (copy to have all of it)` : text;
  const copy = copier("Copy", () => text, { ariaLabel: `Copy: ${title}` });
  return [make("h4", { textContent: title }, copy), make("pre", { tabIndex: 0, textContent: shown })];
}
