// <download-job>: a button that has an archive made, shows how far it is, and becomes the link to it.
// No dependencies, no build step; docs/element.md tells how to use it and download-job.d.ts has the types.

const HERE = new URL(".", import.meta.url).href.replace(/\/$/, "");
const BASE = "/v1/download";
const ENDED = new Set(["completed", "failed", "cancelled"]);
const NEVER_FALL = ["progress", "bytesFetched", "filesCompleted", "filesFailed"];
const CALL_LIMIT_MS = 30_000;
const LEAST_BYTES_PER_MS = 10; // a long list takes its time from a train
// A browser opens six connections to a host that speaks HTTP/1.1: jobs beyond these are followed by their status.
const STREAMS_MAX = 4;
const POLL_MS = 3_000;
const [HIDDEN_MS, HIDDEN_POLL_MS, AWAY_POLL_MS] = [5_000, 15_000, 60_000];
const MANY = 20;
// No event for so long: heartbeats are comments, which scripts do not see, so the status tells what is the matter.
const SILENCE_MS = 20_000;
const BACKOFF_MS = [1_000, 15_000];
const LINK_FRESH_MS = 60_000;

/** Any answer that is no success, as the problem the service describes (RFC 9457). */
export class ApiError extends Error {
  constructor(problem) {
    super(problem.detail);
    this.name = "ApiError";
    this.problem = problem;
  }
}

function seconds(value) {
  if (!value) return null;
  const wait = Number(value);
  return Number.isFinite(wait) ? wait : Math.max(0, Math.ceil((Date.parse(value) - Date.now()) / 1000)) || null;
}

/** A problem, whatever was said in its place: somebody's backend may write anything. */
function problem(code, detail, said = {}, status = 0, headers = new Headers()) {
  const text = (...names) => names.map((name) => said[name]).find((value) => value && typeof value === "string");
  return {
    status,
    code: text("code") ?? code,
    title: text("title") ?? detail,
    detail: text("detail", "message") ?? detail,
    errors: (Array.isArray(said.errors) ? said.errors : []).filter((fault) => fault?.detail),
    retryAfter: seconds(headers.get("Retry-After")),
    requestId: text("requestId") ?? headers.get("X-Request-Id"),
  };
}

async function call(url, { method = "GET", headers, body, signal, credentials = "omit" } = {}) {
  const given = body === undefined ? "" : JSON.stringify(body);
  const limit = AbortSignal.timeout(CALL_LIMIT_MS + given.length / LEAST_BYTES_PER_MS);
  const sent = given && { "Content-Type": "application/json" };
  let response, data;
  try {
    response = await fetch(url, {
      method, credentials, body: given || undefined, cache: "no-store",
      headers: { Accept: "application/json", ...sent, ...headers },
      redirect: method === "GET" ? "follow" : "manual", // what is sent is for nobody else
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
    });
    const text = await response.text();
    data = text ? JSON.parse(text) : null;
  } catch (error) {
    if (signal?.aborted) throw error;
    if (!response) throw new ApiError(problem("network", "The service could not be reached."));
    if (response.ok) throw new ApiError(problem("bad_answer", "The answer was cut off or is not JSON."));
  }
  if (response.ok) return data;
  if (response.type === "opaqueredirect") throw new ApiError(problem("redirected", "The service answered with a redirect."));
  const said = data && typeof data === "object" ? data : {};
  const plain = `The service answered with status ${response.status}.`;
  throw new ApiError(problem(`http_${response.status}`, plain, said, response.status, response.headers));
}

/** Links in answers are path-absolute: they follow the base URL, which may have a path of its own. */
const resolve = (server, link) => (link.startsWith("/") ? server + link : link);
/** The headers for a call of `url`: what is meant for one origin is for no other. */
const meant = (home, url, headers) => (new URL(url, document.baseURI).origin === new URL(home, document.baseURI).origin ? headers : {});
/** What starts a job may be anything that answers: a portal's page, somebody's backend. */
function aJob(started) {
  if (started?.jobId || started?.statusUrl) return started;
  throw new ApiError(problem("bad_answer", "The answer names no job."));
}
const once = (key) => (key ? { "Idempotency-Key": key } : {});
const withQuery = (url, query) => url + (url.includes("?") ? "&" : "?") + query;

/** The API of the service; every method throws ApiError. */
export class DownloaderClient {
  constructor({ server = HERE, key, headers = {} } = {}) {
    this.server = server.replace(/\/+$/, "");
    this.headers = key ? { Authorization: `Bearer ${key}`, ...headers } : { ...headers };
  }
  #call(method, path, { headers, body, query = {} } = {}) {
    const given = Object.entries(query).filter(([, value]) => value !== undefined);
    const url = `${this.server}${BASE}/${path}?${new URLSearchParams(given)}`.replace(/\?$/, "");
    return call(url, { method, body, headers: { ...this.headers, ...headers } });
  }
  async initiate(request, { idempotencyKey } = {}) {
    return aJob(await this.#call("POST", "initiate", { body: request, headers: once(idempotencyKey) }));
  }
  status(jobId, { files } = {}) {
    return this.#call("GET", `status/${encodeURIComponent(jobId)}`, { query: { files } });
  }
  files(jobId, { limit, after } = {}) {
    return this.#call("GET", `${encodeURIComponent(jobId)}/files`, { query: { limit, after } });
  }
  cancel(jobId) {
    return this.#call("POST", `${encodeURIComponent(jobId)}/cancel`);
  }
  retry(jobId, { idempotencyKey } = {}) {
    return this.#call("POST", `${encodeURIComponent(jobId)}/retry`, { headers: once(idempotencyKey) });
  }
  remove(jobId) {
    return this.#call("DELETE", encodeURIComponent(jobId));
  }
  jobs({ limit, after, status } = {}) {
    return this.#call("GET", "jobs", { query: { limit, after, status } });
  }
}

/** A stream, or null where the link is none. */
function eventSource(url) {
  try {
    return new EventSource(url);
  } catch {
    return null;
  }
}

const streams = new Map(); // how many streams are open, by server
const feeds = new Set(); // those that follow a job now

/** Follows one job to its end, whatever happens to the connection. */
export class JobFeed extends EventTarget {
  job = null;
  connection = "closed";
  lastEventId = "";
  #links;
  #life = null; // an AbortController from open() to close()
  #source = null;
  #timers = { again: 0, watch: 0, hide: 0 };
  #failures = 0;
  #refusals = 0;
  #missed = 0; // changes that the status told of and no event did
  #heardAt = 0;
  #checkAt = 0;
  #told = false;

  constructor({ server = HERE, statusUrl, subscribeUrl = "", headers = {}, lastEventId = "" }) {
    super();
    const status = resolve(server, statusUrl);
    this.#links = { server, headers: meant(server, status, headers), status, stream: resolve(server, subscribeUrl) };
    this.lastEventId = lastEventId;
  }

  open() {
    if (this.#life || this.#told) return;
    this.#life = new AbortController();
    feeds.add(this);
    const { signal } = this.#life;
    if (this.#hasEnded()) return void this.#finish();
    addEventListener("online", () => this.#now(), { signal });
    addEventListener("pageshow", (event) => event.persisted && this.#now(), { signal });
    document.addEventListener("visibilitychange", () => this.#seen(), { signal });
    this.#listen();
    if (!this.#source) this.check();
    this.#watch();
  }

  close() {
    this.#life?.abort();
    this.#life = null;
    feeds.delete(this);
    this.#drop();
    for (const name in this.#timers) clearTimeout(this.#timers[name]);
    this.#turn("closed");
  }

  async check({ files = false } = {}) {
    const life = this.#life;
    if (!life || Date.now() < this.#checkAt) return false;
    try {
      const job = await call(withQuery(this.#links.status, `files=${files}`), this.#reading());
      if (this.job && (job.progress !== this.job.progress || job.status !== this.job.status)) this.#missed += 1;
      this.#refusals = 0;
      this.#take(job);
      if (life.signal.aborted) return true;
      if (!this.#source && !this.#timers.again) this.#turn("open");
      // The record moves and the stream is silent: something on the way keeps the events back.
      if (this.#source && this.#missed > 1 && this.#isSilent()) this.#lost(true);
      return true;
    } catch (error) {
      if (!life.signal.aborted) this.#refused(error);
      return false;
    }
  }

  #isSilent() {
    return Date.now() - this.#heardAt >= SILENCE_MS;
  }

  #reading() {
    return { headers: this.#links.headers, signal: this.#life.signal };
  }

  #hasEnded() {
    return ENDED.has(this.job?.status);
  }

  #say(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  #turn(state, reason = "") {
    if (state === this.connection && !reason) return;
    this.connection = state;
    this.#say("connection", { state, reason });
  }

  #listen() {
    this.#timers.again = 0;
    const { server, stream } = this.#links;
    this.#drop();
    const open = streams.get(server) ?? 0;
    if (!stream || open >= STREAMS_MAX || document.hidden) return;
    const from = this.lastEventId ? `lastEventId=${encodeURIComponent(this.lastEventId)}` : "";
    const source = eventSource(from ? withQuery(stream, from) : stream);
    if (!source) return; // then the status is read
    this.#source = source;
    streams.set(server, open + 1);
    if (this.connection === "closed") this.#turn("connecting");
    const { signal } = this.#life;
    source.addEventListener("open", () => this.#turn("open"), { signal });
    for (const name of ["progress", "complete", "files", "reset", "busy", "error"])
      // An event that the service calls "error" and the browser's own have one name; only the former has data.
      source.addEventListener(name, (event) => {
        if (source !== this.#source) return;
        if (event.data === undefined) this.#lost(source.readyState === EventSource.CLOSED);
        else this.#heard(name, event);
      }, { signal });
  }

  #drop() {
    if (!this.#source) return;
    this.#source.close();
    this.#source = null;
    streams.set(this.#links.server, streams.get(this.#links.server) - 1);
  }

  #heard(name, event) {
    let data;
    try {
      data = JSON.parse(event.data);
    } catch {
      return;
    }
    this.#failures = this.#missed = 0;
    this.#heardAt = Date.now();
    this.lastEventId = event.lastEventId || this.lastEventId;
    if (name === "files") this.#say("files", { files: data.files });
    else if (name === "reset") this.check({ files: true });
    else if (name === "busy") this.#turn("reconnecting", data.reason);
    else if (data.status === "not_found") this.#end(problem("job_not_found", "There is no such job.", { detail: data.error }, 404));
    else this.#take({ currentFile: null, fetching: [], ...data }); // what is left out is no more
  }

  /** A stream has ended. The browser opens it again by itself unless it got another status than 200. */
  #lost(isClosed) {
    this.#turn("reconnecting");
    if (isClosed) this.#later();
  }

  #later() {
    this.#drop();
    const [least, most] = BACKOFF_MS;
    const span = Math.min(most, least * 2 ** ++this.#failures) - least;
    clearTimeout(this.#timers.again);
    this.#timers.again = setTimeout(async () => {
      // It may have ended, or be refused for good; and where only streams do not get through, this is the news.
      await this.check();
      if (this.#life && !this.#hasEnded()) this.#listen();
    }, least + Math.random() * span);
  }

  /** Connect anew at once: the network is back, so that what was open is dead, or the page was frozen. */
  #now() {
    this.#failures = 0;
    clearTimeout(this.#timers.again);
    this.#listen();
    this.check();
  }

  /** A tab that nobody looks at gives its stream away: a browser has six connections to a host for all its tabs. */
  #seen() {
    clearTimeout(this.#timers.hide);
    if (document.hidden) {
      this.#timers.hide = setTimeout(() => this.#drop(), HIDDEN_MS);
      return;
    }
    if (this.connection === "reconnecting" || !this.#source) this.#now();
    else if (Date.now() - this.#heardAt > POLL_MS) this.check();
  }

  /** Read the status where no stream tells: the place in the queue, without a stream, or when it is silent. */
  #watch() {
    this.#timers.watch = setTimeout(async () => {
      const isTold = this.connection === "open" && this.#source && this.job?.status === "processing";
      if (!this.#timers.again && !(isTold && !this.#isSilent())) await this.check();
      if (!this.#life) return;
      if (!this.#source && !this.#timers.again) this.#listen(); // a place may have become free
      this.#watch();
    }, this.#pause());
  }

  /** Longer the more of us there are and the oftener nobody answered, and not for all at one beat. */
  #pause() {
    const away = this.#refusals && Math.min(AWAY_POLL_MS, POLL_MS * 2 ** this.#refusals);
    return Math.max(this.#usualPause() * Math.max(1, feeds.size / MANY), away) * (0.75 + Math.random() / 2);
  }

  #usualPause() {
    if (document.hidden) return HIDDEN_POLL_MS;
    if (!this.job) return 1_000;
    if (this.job.status === "queued") return Math.min(30_000, 2_000 + 500 * (this.job.queuePosition ?? 0));
    return this.#source && this.#heardAt ? 5_000 : POLL_MS; // a stream begins with an event, unless it is held back
  }

  #refused(error) {
    if (!error.problem) throw error;
    const { status, code, retryAfter } = error.problem;
    this.#checkAt = Date.now() + 1000 * (retryAfter ?? 0);
    this.#refusals += 1;
    // A proxy may answer 404 while it is set up anew; only the service itself knows that there is no such job.
    if (code === "job_not_found" || status === 401 || status === 403) this.#end(error.problem);
    else if (!this.#source) this.#turn("reconnecting");
  }

  #end(problem) {
    this.#told = true;
    this.close();
    this.#say("problem", { problem });
  }

  /** Take in what is told of the job; what is older than what is known changes nothing. */
  #take({ files, ...told }) {
    const known = this.job;
    if (known && (this.#hasEnded() || told.attempt < known.attempt)) return;
    const job = { ...known, ...told };
    if (known?.attempt === told.attempt)
      for (const name of NEVER_FALL) job[name] = Math.max(known[name] ?? 0, told[name] ?? 0);
    if (job.status !== "queued") job.queuePosition = null;
    if (!known && told.status === "processing" && !files) this.check({ files: true }); // what was before
    if (files) this.#say("files", { files });
    this.job = job;
    this.#say("progress", { job });
    if (this.#hasEnded() && this.#life) this.#finish();
  }

  /** Events carry the figures; the rest of the ended job is in its status. */
  async #finish() {
    const life = this.#life;
    this.#drop();
    for (const name in this.#timers) clearTimeout(this.#timers[name]);
    try {
      const job = await call(this.#links.status, this.#reading());
      this.job = { ...this.job, ...job };
      if (job.files) this.#say("files", { files: job.files });
    } catch {
      if (life.signal.aborted) return; // closed meanwhile: told after the next open()
    }
    this.#told = true;
    this.close();
    this.#say("end", { job: this.job });
  }
}

const TEXTS = {
  label: "Download files",
  working: "Processing…",
  ready: "Download ready",
  again: "Try again",
  cancel: "Cancel",
  missing: "Fetch the missing files again",
  progress: "Progress of the download",
  starting: "Starting…",
  queued: "Waiting for its turn…",
  place: "Waiting, place {place} in the queue",
  files: "{done} of {total} files",
  bytes: "{bytes}",
  bytesOf: "{bytes} of {total}",
  left: "{time} left",
  finishing: "Finishing the archive…",
  attempt: "Started again (attempt {attempt})",
  reconnecting: "The connection was lost; trying again…",
  done: ({ files, size }) => `${files} ${files === "1" ? "file" : "files"}, ${size}`,
  until: "available until {until} ({time} left)",
  partly: "Missing: {missing} of {total} files",
  cancelled: "The job was cancelled.",
  failed: "The job failed.",
  gone: "This download is no longer there: it has expired or was deleted.",
  wait: "Try again in {time}.",
  noRequest: "There is nothing to download: the request is missing or is not JSON.",
};

const CSS = `
:host { display: inline-block; vertical-align: top; max-inline-size: 100%; font: inherit;
  --accent: var(--download-job-accent, #1769c4); --on: var(--download-job-on-accent, #fff);
  --round: var(--download-job-radius, .4em); }
:host([hidden]), [hidden] { display: none !important; }
.box { display: grid; gap: .4em; justify-items: start; }
button, a { font: inherit; color: inherit; background: none; border: 1px solid currentColor; cursor: pointer;
  border-radius: var(--round); padding: .35em .8em; text-decoration: none; line-height: 1.25; min-block-size: 24px;
  box-sizing: border-box; }
.main { background: var(--accent); color: var(--on); border-color: var(--accent); padding: .55em 1.1em;
  font-weight: 600; }
.main:hover { box-shadow: inset 0 0 99em #0002; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
[aria-disabled=true], :disabled { cursor: default; filter: saturate(.4); }
.bar { inline-size: var(--download-job-bar-width, 16em); max-inline-size: 100%; block-size: .5em; overflow: hidden;
  border-radius: 1em; background: color-mix(in srgb, currentColor 18%, transparent); }
.fill { block-size: 100%; inline-size: 0; background: var(--accent); border-radius: inherit;
  transition: inline-size .3s; }
.bar:not([aria-valuenow]) .fill { inline-size: 30%; animation: 1.4s ease-in-out infinite alternate wander; }
@keyframes wander { to { margin-inline-start: 70%; } }
p { margin: 0; font-size: .9em; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.actions { display: flex; flex-wrap: wrap; gap: .5em; font-size: .9em; }
.said { position: absolute; inline-size: 1px; block-size: 1px; overflow: hidden; clip-path: inset(50%); }
@media (prefers-reduced-motion: reduce) { .fill { transition: none; animation: none !important; } }
@media (forced-colors: active) {
  .bar { border: 1px solid CanvasText; }
  .fill { background: Highlight; forced-color-adjust: none; }
  .main { border-color: ButtonText; }
}`;

const sheet = new CSSStyleSheet();
sheet.replaceSync(CSS);

/** Numbers, sizes and times as the language of the page writes them. */
class Words {
  constructor(lang) {
    try {
      this.lang = Intl.getCanonicalLocales(lang || [])[0];
    } catch {
      this.lang = undefined; // not a language tag
    }
  }
  number(value, options) {
    return new Intl.NumberFormat(this.lang, options).format(value);
  }
  unit(value, unit, digits = 0) {
    return this.number(value, { style: "unit", unit, unitDisplay: "short", maximumFractionDigits: digits });
  }
  bytes(value, per = "") {
    const units = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];
    const size = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log10(value || 1) / 3)));
    return this.unit(value / 1000 ** size, units[size] + per, size > 1 ? 1 : 0);
  }
  span(s) {
    if (s < 60) return this.unit(Math.max(1, Math.round(s)), "second");
    if (s < 5400) return this.unit(Math.round(s / 60), "minute");
    return s < 129_600 ? this.unit(Math.round(s / 3600), "hour") : this.unit(Math.round(s / 86_400), "day");
  }
  time(date) {
    const isToday = date.toDateString() === new Date().toDateString();
    return date.toLocaleString(this.lang, { timeStyle: "short", dateStyle: isToday ? undefined : "medium" });
  }
}

/** Bytes per second over the last seconds, from what was told when. */
class Pace {
  #told = [];
  add(bytes, at) {
    const last = this.#told.at(-1);
    if (last && bytes < last.bytes) this.#told = [];
    this.#told.push({ bytes, at });
    while (this.#told.length > 2 && this.#told[1].at < at - 6_000) this.#told.shift();
  }
  speed(now) {
    const first = this.#told[0];
    const took = first ? now - first.at : 0;
    return took > 900 ? ((this.#told.at(-1).bytes - first.bytes) * 1000) / took : null;
  }
}

function made(name, part, more = {}) {
  const element = Object.assign(document.createElement(name), { className: part.split(" ")[0], ...more });
  element.dataset.part = element.part = part;
  return element;
}

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
  element.hidden = !text;
}

function newKey() {
  // Not randomUUID, which pages without TLS lack.
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The element. */
export class DownloadJob extends HTMLElement {
  static observedAttributes = ["label", "ready-label", "disabled", "request", "status-url", "subscribe-url"];
  #view = {};
  #state = "idle";
  #problem = null;
  #job = null;
  #files = new Map();
  #request = null;
  #headers = {};
  #texts = {};
  #links = null;
  #feed = null;
  #life = null; // an AbortController while attached
  #once = null; // what was asked for without an answer: the same click again must not make a second job
  #timers = { tick: 0, note: 0, say: 0 };
  #pace = new Pace();
  #peak = 0; // how far the bar has come: it stays there while another worker makes up for what was lost
  #lost = "";
  #saidAt = 0;
  #linkAt = 0;
  #isCancelling = false;
  #wasWatched = false; // from before its end, so that its download may begin by itself

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open", delegatesFocus: true });
    root.adoptedStyleSheets = [sheet];
    const view = this.#view;
    view.box = made("div", "box");
    view.button = made("button", "button", { type: "button", className: "main" });
    view.link = made("a", "button link", { className: "main", rel: "noreferrer" });
    view.bar = made("div", "bar", { role: "progressbar", ariaValueMin: 0, ariaValueMax: 100 });
    view.fill = made("div", "fill");
    view.status = made("p", "status");
    view.note = made("p", "note");
    view.actions = made("div", "actions");
    view.cancel = made("button", "cancel", { type: "button" });
    view.retry = made("button", "retry", { type: "button" });
    view.said = made("div", "said", { role: "status" });
    view.bar.append(view.fill);
    view.actions.append(view.cancel, view.retry);
    view.box.append(view.button, view.link, view.bar, view.status, view.note, view.actions, view.said);
    root.append(view.box);
    view.button.addEventListener("click", () => (this.#state === "idle" ? this.start() : this.retry()));
    view.link.addEventListener("click", (event) => this.#go(event));
    view.cancel.addEventListener("click", () => this.cancel());
    view.retry.addEventListener("click", () => this.retry());
  }

  // What a page may set and read

  get request() {
    if (this.#request !== null) return this.#request;
    try {
      return JSON.parse(this.getAttribute("request"));
    } catch {
      return null;
    }
  }
  set request(value) {
    this.#request = value ?? null;
    this.#render();
  }
  get headers() {
    return this.#headers;
  }
  set headers(value) {
    this.#headers = { ...value };
  }
  get texts() {
    return this.#texts;
  }
  set texts(value) {
    this.#texts = { ...value };
    this.#render();
  }
  get server() {
    return (this.getAttribute("server") ?? HERE).replace(/\/+$/, "");
  }
  set server(value) {
    this.setAttribute("server", value);
  }
  get disabled() {
    return this.hasAttribute("disabled");
  }
  set disabled(value) {
    this.toggleAttribute("disabled", Boolean(value));
  }
  get job() {
    return this.#job;
  }
  get files() {
    return this.#files;
  }
  get state() {
    return this.#state;
  }
  get problem() {
    return this.#problem;
  }

  // Its life

  connectedCallback() {
    for (const name of ["request", "headers", "texts", "server", "disabled"]) {
      if (!Object.hasOwn(this, name)) continue;
      const value = this[name]; // set before the module had loaded, and hides the real property
      delete this[name];
      this[name] = value;
    }
    this.#life = new AbortController();
    this.#timers.tick = setInterval(() => this.#tick(), 1_000);
    if (this.#links) this.#watch();
    else this.#followAttributes();
    this.#render();
  }

  disconnectedCallback() {
    this.#life?.abort();
    this.#life = null;
    this.#feed?.close();
    for (const name in this.#timers) clearTimeout(this.#timers[name]);
  }

  attributeChangedCallback(name) {
    if (name.endsWith("-url")) queueMicrotask(() => this.#followAttributes());
    this.#render();
  }

  #followAttributes() {
    const [statusUrl, subscribeUrl] = [this.getAttribute("status-url"), this.getAttribute("subscribe-url") ?? ""];
    if (statusUrl && this.#life && this.#links?.statusUrl !== statusUrl) this.follow({ statusUrl, subscribeUrl });
  }

  // What a page may have it do

  async start() {
    if (this.#isActive()) return;
    const [endpoint, body] = [this.getAttribute("endpoint"), this.request];
    this.reset();
    if (!body && endpoint === null) return this.#fail(problem("no_request", this.#text("noRequest")), "failed");
    const url = endpoint === null ? `${this.server}${BASE}/initiate` : new URL(endpoint, document.baseURI).href;
    await this.#begin(url, body ?? {}, endpoint === null ? null : url, "failed");
  }

  follow(links) {
    this.#take(links, null);
  }

  async cancel() {
    if (!this.#isActive() || this.#isCancelling) return;
    this.#isCancelling = true;
    this.#render();
    if (this.#links) await this.#stop(); // else as soon as the job has an id
  }

  async retry() {
    if (this.#isActive()) return;
    const { retryUrl, home, jobId } = this.#links ?? {};
    const isOver = this.#state === "gone" || this.#problem?.code === "request_expired";
    if (!isOver && this.#links && !ENDED.has(this.#job?.status)) return this.#take(this.#links, home);
    if (isOver || !(retryUrl || this.#mayCall())) return this.start();
    await this.#begin(retryUrl ?? `${this.server}${BASE}/${jobId}/retry`, undefined, home, this.#state);
  }

  reset() {
    this.#feed?.close();
    this.#feed = this.#links = this.#job = this.#problem = null;
    this.#files = new Map();
    this.#pace = new Pace();
    this.#peak = 0;
    this.#isCancelling = this.#wasWatched = false;
    this.#turn("idle");
  }

  // From a click to a job

  /** Call what starts a job. `home` is the site's own backend, if any; `back` the state after a failure. */
  async #begin(url, body, home, back) {
    const wish = JSON.stringify([url, body]);
    if (this.#once?.wish !== wish) this.#once = { wish, key: newKey() };
    const once = this.#once;
    const isMine = () => this.#state === "starting" && this.#once === once; // else it was reset meanwhile
    const headers = { ...meant(home ?? this.server, url, this.headers), "Idempotency-Key": once.key };
    this.#problem = null;
    this.#turn("starting");
    try {
      const links = await call(url, { method: "POST", body, headers, credentials: home ? "same-origin" : "omit" });
      aJob(links);
      if (!isMine()) return;
      this.#once = null;
      const isCancelling = this.#isCancelling;
      this.#take(links, home);
      this.#wasWatched = true;
      const { jobId, statusUrl, subscribeUrl } = this.#links;
      this.#tell("job-start", { jobId, statusUrl, subscribeUrl });
      if (isCancelling) await this.cancel();
    } catch (error) {
      const told = error.problem;
      if (!told) throw error;
      if (!isMine()) return;
      // Without an answer, or with one of these, the call may have had its effect: the next try repeats it.
      if (told.status && told.status < 500 && told.status !== 429) this.#once = null;
      this.#isCancelling = false;
      this.#fail(told, back);
    }
  }

  #take(links, home) {
    this.reset();
    const jobId = links.jobId ?? /\/status\/([^/?#]+)/.exec(links.statusUrl)?.[1] ?? "";
    const statusUrl = links.statusUrl ?? `${BASE}/status/${jobId}`;
    const subscribeUrl = links.subscribeUrl ?? (links.statusUrl ? "" : `${BASE}/subscribe/${jobId}`);
    const [cancelUrl, retryUrl] = [links.cancelUrl, links.retryUrl].map(
      (url) => url && new URL(url, home ?? document.baseURI).href,
    );
    this.#links = { jobId, statusUrl, subscribeUrl, cancelUrl, retryUrl, home };
    this.#turn("queued");
    if (this.#life) this.#watch();
  }

  /** Follow the job, from where it was left. */
  #watch() {
    if (!this.#feed) {
      const { statusUrl, subscribeUrl } = this.#links;
      const feed = new JobFeed({ server: this.server, statusUrl, subscribeUrl, headers: this.#reading() });
      const on = (name, take) => feed.addEventListener(name, ({ detail }) => feed === this.#feed && take(detail));
      this.#feed = feed;
      on("progress", ({ job }) => this.#progress(job));
      on("files", ({ files }) => this.#change(files));
      on("connection", (detail) => this.#connection(detail));
      on("end", ({ job }) => this.#end(job));
      on("problem", ({ problem }) => this.#fail(problem, problem.code === "job_not_found" ? "gone" : "failed"));
    }
    this.#feed.open();
  }

  /** Headers for the service: what is meant for a site's own backend is not its business. */
  #reading() {
    return this.#links.home ? {} : this.headers;
  }

  /** Whether the service takes our calls: a job's token is for reading only. */
  #mayCall() {
    const { home, statusUrl } = this.#links ?? { home: true };
    return !home && (Object.keys(this.headers).length > 0 || !/[?&]token=/.test(statusUrl));
  }

  async #stop() {
    const { cancelUrl, jobId } = this.#links;
    const url = cancelUrl ?? `${this.server}${BASE}/${jobId}/cancel`;
    try {
      const headers = meant(this.#links.home ?? this.server, url, this.headers);
      await call(url, { method: "POST", headers, credentials: cancelUrl ? "same-origin" : "omit" });
      await this.#feed?.check();
    } catch (error) {
      this.#isCancelling = false;
      this.#fail(error.problem);
    }
  }

  // What is heard of the job

  #progress(job) {
    this.#job = job;
    this.#linkAt = Date.now();
    this.#pace.add(job.bytesFetched, Date.now());
    this.#peak = Math.max(this.#peak, job.progress);
    this.#wasWatched ||= !ENDED.has(job.status);
    const state = job.status === "completed" ? "ready" : job.status;
    if (state !== this.#state) this.#problem = null;
    this.#turn(state);
    this.#tell("job-progress", { job });
  }

  #change(files) {
    for (const file of files) this.#files.set(file.index, file);
    this.#tell("job-files", { files });
  }

  #end(job) {
    this.#job = job;
    this.#isCancelling = false;
    if (job.status === "completed" && !job.downloadUrl) this.#expire();
    this.#render();
    this.#tell("job-end", { job });
    if (this.#state === "ready" && this.#wasWatched && this.hasAttribute("auto-download")) this.#view.link.click();
  }

  #connection({ state, reason }) {
    this.#tell("job-connection", { state });
    clearTimeout(this.#timers.note);
    const show = (text) => {
      this.#lost = text;
      this.#render();
      if (text) this.#announce(() => text, true);
    };
    // Streams change now and then, which takes a moment; nobody needs to know.
    if (state !== "reconnecting") show("");
    else this.#timers.note = setTimeout(() => show(reason || this.#text("reconnecting")), 2_000);
  }

  #expire() {
    this.#fail(problem("archive_expired", this.#text("gone"), {}, 410), "gone");
  }

  #fail(problem, state = this.#state) {
    this.#problem = problem;
    if (state === this.#state) this.#announce(() => problem.detail, true);
    this.#turn(state);
    this.#tell("job-error", { problem });
  }

  // The link

  async #go(event) {
    const isPlain = !(event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey);
    const { link } = this.#view;
    if (link.hasAttribute("href") && (!isPlain || Date.now() - this.#linkAt < LINK_FRESH_MS)) return;
    event.preventDefault(); // the link may have expired, and clocks differ: the service signs a fresh one
    if ((await this.#refresh()) && link.hasAttribute("href")) link.click();
  }

  async #refresh() {
    this.#linkAt = Date.now();
    const status = resolve(this.server, this.#links.statusUrl);
    const url = withQuery(status, "files=false");
    try {
      const job = await call(url, { headers: meant(this.server, status, this.#reading()), signal: this.#life?.signal });
      this.#job = { ...this.#job, ...job };
      if (!job.downloadUrl) this.#expire();
      this.#render();
      return Boolean(job.downloadUrl);
    } catch (error) {
      const told = error.problem;
      if (told) this.#fail(told, told.code === "job_not_found" ? "gone" : undefined);
      return false;
    }
  }

  #tick() {
    if (document.visibilityState !== "visible") return;
    const [state, now] = [this.#state, Date.now()];
    const isStale = state === "ready" && now > Date.parse(this.#job.expiresAt) && now - this.#linkAt > LINK_FRESH_MS;
    if (isStale) this.#refresh();
    if (state === "processing" || state === "ready") this.#render();
  }

  // What is seen and heard

  #isActive() {
    return ["starting", "queued", "processing"].includes(this.#state);
  }

  #turn(state) {
    const isNew = state !== this.#state;
    this.#state = state;
    this.#render();
    if (isNew && state !== "idle") this.#announce(() => this.#summary(), true);
  }

  #summary() {
    const { button, link, status } = this.#view;
    const name = this.#state === "ready" ? link.textContent : this.#isActive() ? button.textContent : "";
    return `${name} ${status.textContent}`.trim();
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail, bubbles: true, composed: true }));
  }

  /** Tell screen readers: a change at least 2 s after the last words, of several the newest; progress every 10 s. */
  #announce(words, isChange) {
    const wait = this.#saidAt + (isChange ? 2_000 : 10_000) - Date.now();
    if (!this.#life || (!isChange && wait > 0)) return;
    if (!isChange) this.#saidAt = Date.now();
    clearTimeout(this.#timers.say);
    this.#timers.say = setTimeout(() => {
      this.#saidAt = Date.now();
      this.#view.said.textContent = words();
    }, Math.max(100, wait));
  }

  #text(name, values = {}) {
    const text = this.#texts[name] ?? TEXTS[name];
    return typeof text === "function" ? text(values) : text.replace(/\{(\w+)\}/g, (_, key) => values[key] ?? "");
  }

  #render() {
    const { box, button, link, bar, status, note, actions, cancel, retry } = this.#view;
    const [state, job, links, active] = [this.#state, this.#job, this.#links, this.#isActive()];
    const focused = this.shadowRoot.activeElement;
    const mayRetry = Boolean(links?.retryUrl) || this.#mayCall();
    const mayStart = state === "idle" || this.#request || this.hasAttribute("request") || this.hasAttribute("endpoint");
    for (const part of [box, button, link]) part.part = `${part.dataset.part} ${state}`;
    const label = this.getAttribute("label") ?? this.#text("label");
    put(button, state === "idle" ? label : this.#text(active ? "working" : "again"));
    button.disabled = this.disabled;
    button.ariaDisabled = active;
    button.hidden = state === "ready" || !(active || mayStart || mayRetry);
    put(link, this.getAttribute("ready-label") ?? this.#text("ready"));
    link.hidden = state !== "ready";
    if (/^https?:/i.test(job?.downloadUrl ?? "")) link.href = job.downloadUrl;
    else link.removeAttribute("href"); // what is no such link leads nowhere, least of all where an earlier job's did
    put(cancel, this.#text("cancel"));
    cancel.hidden = !active || !(links?.cancelUrl || this.#mayCall());
    cancel.ariaDisabled = this.#isCancelling;
    put(retry, this.#text("missing"));
    retry.hidden = state !== "ready" || !job.filesFailed || !mayRetry;
    actions.hidden = cancel.hidden && retry.hidden;
    const isAside = active || state === "ready"; // the figures stay, and what went wrong stands below them
    put(status, this.#status(isAside));
    put(note, this.#lost || (isAside && this.#problem ? this.#trouble() : ""));
    bar.hidden = !active;
    if (active) this.#renderBar();
    if (focused?.hidden) (link.hidden ? button : link).focus();
  }

  #renderBar() {
    const { bar, fill, status } = this.#view;
    const isMoving = this.#state === "processing" || this.#peak > 0; // also while it waits for another worker
    bar.ariaLabel = this.#text("progress");
    bar.ariaValueNow = isMoving ? this.#peak : null;
    bar.ariaValueText = isMoving ? status.textContent : null;
    fill.style.inlineSize = isMoving ? `${this.#peak}%` : "";
    if (isMoving) this.#announce(() => status.textContent, false);
  }

  #status(isAside) {
    const [state, job] = [this.#state, this.#job];
    if (this.#problem && !isAside) return this.#trouble();
    if (state === "queued" && job?.queuePosition) return this.#text("place", { place: job.queuePosition });
    if (state === "processing") return this.#figures(job);
    if (state === "ready") return this.#result(job);
    if (state === "failed" && !this.#texts[job?.errorCode]) return job?.error ?? this.#text(state);
    if (state === "failed") return this.#text(job.errorCode, job);
    return state === "idle" ? "" : this.#text(state);
  }

  /** What went wrong, in the service's own words unless the page has some for the code. */
  #trouble() {
    const { code, detail, errors, retryAfter } = this.#problem;
    const wait = retryAfter ? [this.#text("wait", { time: this.#words().span(retryAfter) })] : [];
    if (Object.hasOwn(this.#texts, code)) return [this.#text(code, this.#problem), ...wait].join(" ");
    const more = errors.filter((fault) => !detail.includes(fault.detail));
    return [detail, ...more.map((fault) => `${fault.pointer}: ${fault.detail}`), ...wait].join(" ");
  }

  #words() {
    return new Words(this.closest("[lang]")?.lang);
  }

  #figures(job) {
    const [words, speed] = [this.#words(), this.#pace.speed(Date.now())];
    const done = job.filesCompleted + job.filesFailed;
    const parts = job.progress < this.#peak ? [] : [words.number(job.progress / 100, { style: "percent" })];
    if (job.attempt > 1) parts.push(this.#text("attempt", { attempt: job.attempt }));
    if (done === job.totalFiles) return [...parts, this.#text("finishing")].join(" · ");
    parts.push(this.#text("files", { done: words.number(done), total: words.number(job.totalFiles) }));
    const [bytes, total] = [words.bytes(job.bytesFetched), job.bytesTotal && words.bytes(job.bytesTotal)];
    parts.push(this.#text(total ? "bytesOf" : "bytes", { bytes, total }));
    if (speed) parts.push(words.bytes(speed, "-per-second"));
    const left = job.bytesTotal - job.bytesFetched;
    if (speed && left > 0) parts.push(this.#text("left", { time: words.span(left / speed) }));
    return parts.join(" · ");
  }

  #result(job) {
    const words = this.#words();
    const parts = [];
    if (job.filesFailed)
      parts.push(this.#text("partly", { missing: words.number(job.filesFailed), total: words.number(job.totalFiles) }));
    if (job.archive)
      parts.push(this.#text("done", { files: words.number(job.filesCompleted), size: words.bytes(job.archive.size) }));
    const until = new Date(job.archiveExpiresAt ?? job.expiresAt ?? NaN);
    const left = (until - Date.now()) / 1000;
    if (left > 0) parts.push(this.#text("until", { until: words.time(until), time: words.span(left) }));
    return parts.join(" · ");
  }
}

if (!customElements.get("download-job")) customElements.define("download-job", DownloadJob);
