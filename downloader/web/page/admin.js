// The admin view: asks for the overview every two seconds and shows it. All text goes in as text, never as HTML.

import { make, say } from "./dom.js";
import { bytes } from "./format.js";
import { key } from "./storage.js";

const OVERVIEW = new URL("../v1/admin/overview", import.meta.url);
const EVERY_MS = 2000;
const SLOWEST_MS = 15000;
const PATIENCE_MS = 10000;

const byId = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

function draw(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

// Words for people

const whole = new Intl.NumberFormat("en");
const plural = (count, one, many = `${one}s`) => `${whole.format(count)} ${count === 1 ? one : many}`;
const clock = (time) => new Date(time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });

function span(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (ms > 0 && ms < 950) return `${Math.ceil(ms / 10) * 10} ms`;
  if (ms < 9950) return `${(Math.max(0, ms) / 1000).toFixed(1).replace(".0", "")} s`;
  if (s < 100) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

// Lists: a row stays the same element for as long as its thing is there, so that focus and selection live on

class List {
  constructor(place, label, columns, empty, wide = true) {
    this.columns = columns;
    this.rows = new Map();
    this.empty = make("p", { textContent: empty });
    this.body = make("tbody");
    this.body.role = "rowgroup";
    const heads = columns.map(([name, , kind]) => {
      const head = make("th", { scope: "col", textContent: name, className: kind === "n" ? "n" : "" });
      head.role = "columnheader";
      return head;
    });
    const top = make("tr", {}, ...heads);
    top.role = "row";
    const head = make("thead", {}, top);
    head.role = "rowgroup";
    this.table = make("table", { className: wide ? "wide" : "", ariaLabel: label }, head, this.body);
    this.table.role = "table"; // said, since the phone's layout takes it away
    place.append(make("div", { className: "box" }, this.table, this.empty));
  }

  show(items, keyOf) {
    this.table.hidden = !items.length;
    this.empty.hidden = items.length > 0;
    const gone = new Set(this.rows.keys());
    items.forEach((item, place) => {
      const key = keyOf(item);
      gone.delete(key);
      const row = this.rows.get(key) ?? this.add(key);
      this.columns.forEach(([, fill], number) => fill(row.cells[number], item));
      if (this.body.children[place] !== row) this.body.insertBefore(row, this.body.children[place] ?? null);
    });
    for (const key of gone) {
      this.rows.get(key).remove();
      this.rows.delete(key);
    }
  }

  add(key) {
    const cells = this.columns.map(([name, , kind]) => {
      const cell = make("td", { className: kind === "n" ? "n" : "" });
      cell.role = "cell";
      cell.dataset.label = name;
      return cell;
    });
    const row = make("tr", {}, ...cells);
    row.role = "row";
    this.rows.set(key, row);
    return row;
  }
}

const text = (of) => (cell, item) => {
  const words = of(item);
  say(cell, words);
  cell.toggleAttribute("data-none", words === "–");
};
const number = (of) => [text((item) => whole.format(of(item))), "n"];

/** Text with a tone: good, warn, bad, or none. */
const toned = (of) => (cell, item) => {
  const [words, tone] = of(item);
  const inner = cell.firstElementChild ?? cell.appendChild(make("span"));
  say(inner, words);
  inner.className = tone;
};

const jobId = (cell, job) => {
  if (cell.firstChild) return;
  const button = make("button", { type: "button", className: "copy", title: job.jobId, textContent: job.jobId.slice(0, 8) });
  button.ariaLabel = `Copy job id ${job.jobId}`;
  button.addEventListener("click", () => copy(button, job.jobId));
  cell.append(button);
};

async function copy(button, id) {
  try {
    await navigator.clipboard.writeText(id);
  } catch {
    // Without TLS a browser has no clipboard for pages; the id is shown whole, to be taken by hand.
    say(button, id);
    return getSelection().selectAllChildren(button);
  }
  button.classList.add("done");
  say(button, "copied");
  setTimeout(() => {
    button.classList.remove("done");
    say(button, id.slice(0, 8));
  }, 1200);
}

const progress = (cell, job) => {
  if (!cell.firstChild) {
    const bar = make("progress", { max: 100 });
    bar.ariaLabel = "Progress";
    cell.append(make("span", {}, bar, make("span")));
  }
  cell.firstChild.firstChild.value = job.progress;
  say(cell.firstChild.lastChild, `${job.progress} %`);
};

const code = (cell, { errorCode }) => {
  cell.toggleAttribute("data-none", !errorCode);
  if (!errorCode) return say(cell, "");
  if (cell.textContent === errorCode) return;
  cell.replaceChildren(
    make("a", { href: `/errors/${encodeURIComponent(errorCode.split(":")[0])}`, textContent: errorCode }),
  );
};

const files = (job) => {
  const missing = job.filesFailed ? `, ${whole.format(job.filesFailed)} failed` : "";
  return [`${whole.format(job.filesCompleted)} of ${whole.format(job.totalFiles)}${missing}`, job.filesFailed ? "warn" : ""];
};

const state = (job) => {
  if (job.status === "completed") return job.filesFailed ? ["partly done", "warn"] : ["completed", "good"];
  return [job.status, { failed: "bad", cancelled: "dim" }[job.status] ?? ""];
};

// The parts of the page

let now = 0;
let replicas = new Map();
const since = (time) => span(Math.floor((now - Date.parse(time)) / 1000) * 1000);

const whose = (job) => {
  if (!job.replica) return "unknown";
  const known = replicas.get(job.replica);
  return known ? `${known.host} · ${known.pid}` : `gone (${job.replica.slice(0, 6)})`;
};

const lease = ({ leaseMs }) => {
  if (leaseMs < 0) return ["lapsed", "bad"];
  return [span(leaseMs), leaseMs < 5000 ? "warn" : ""];
};

const lists = {
  running: new List(byId("running-jobs").parentElement, "Running jobs", [
    ["Job", jobId],
    ["Tenant", text((job) => job.tenant)],
    ["Progress", progress],
    ["Files", toned(files)],
    ["Fetched", text((job) => bytes(job.bytesFetched)), "n"],
    ["Age", text((job) => since(job.startedAt)), "n"],
    ["Attempt", toned((job) => [`${job.attempt}${job.alone ? ", alone" : ""}`, job.attempt > 1 ? "warn" : ""]), "n"],
    ["Lease left", toned(lease), "n"],
    ["Replica", text(whose)],
  ], "No job is being worked on."),
  replicas: new List(byId("replicas").parentElement, "Replicas", [
    ["Replica", text((one) => `${one.host} · ${one.pid}`)],
    ["Version", text((one) => one.version)],
    ["Up", text((one) => since(one.since)), "n"],
    ["Slots in use", text((one) => `${one.running} of ${one.slots}`), "n"],
    ["Streams", ...number((one) => one.streams)],
    ["Memory budget in use", text((one) => `${bytes(one.memoryUsedBytes)} of ${bytes(one.memoryBudgetBytes)}`), "n"],
    ["State", toned((one) => (one.draining ? ["draining", "warn"] : ["serving", "good"]))],
  ], "No replica is known."),
  tenants: new List(byId("tenants").parentElement, "Tenants", [
    ["Tenant", text((one) => one.tenant)],
    ["Waiting", ...number((one) => one.waiting)],
    ["Next waits for", text((one) => (one.waitsSince ? since(one.waitsSince) : "–")), "n"],
    ["Pausing", ...number((one) => one.pausing)],
    ["Processing", ...number((one) => one.processing)],
    ["Stored", text((one) => bytes(one.storedBytes)), "n"],
  ], "No tenant has jobs or archives."),
  recent: new List(byId("recent").parentElement, "Recent jobs", [
    ["Job", jobId],
    ["Tenant", text((job) => job.tenant)],
    ["State", toned(state)],
    ["Files", toned(files)],
    ["Archive", text((job) => (job.archiveBytes === null ? "–" : bytes(job.archiveBytes))), "n"],
    ["Took", text((job) => (job.tookMs === null ? "–" : span(job.tookMs))), "n"],
    ["Ended", text((job) => (job.completedAt ? `${since(job.completedAt)} ago` : "–")), "n"],
    ["Error", code],
  ], "No job was taken in yet."),
};
const failed = {};
for (const kind of ["file", "job"]) {
  failed[kind] = new List(byId(`${kind}-failures`), `Failures of ${kind}s`, [
    ["Code", code],
    ["Last hour", ...number((one) => one.hour)],
    ["Last 24 hours", ...number((one) => one.day)],
  ], "None.", false);
}

function tiles(seen) {
  const slots = seen.replicas.reduce((sum, one) => sum + one.slots, 0);
  const streams = seen.replicas.reduce((sum, one) => sum + one.streams, 0);
  const draining = seen.replicas.filter((one) => one.draining).length;
  const lost = seen.minutes.reduce((sum, one) => sum + one.jobsFailed, 0);
  const listed = seen.replicas.length < seen.replicasTotal ? " where listed" : "";
  const { waiting, waitsSince, pausing, processing } = seen.queue;
  return [
    ["Waiting", waiting, waitsSince ? `the first for ${since(waitsSince)}` : "nobody waits"],
    ["Processing", processing, `of ${plural(slots, "slot")}${listed}`],
    ["Pausing", pausing, "before a retry"],
    ["Failed jobs", lost, "in the last hour", lost > 0],
    ["Replicas", seen.replicasTotal, `${draining ? `${draining} draining` : "all serving"}${listed}`, !seen.replicasTotal],
    ["Streams", streams, `open${listed}`],
    ["Stored", bytes(seen.storedBytes), `of ${plural(seen.tenantsTotal, "tenant")}`],
  ];
}

function showTiles(values) {
  const place = byId("tiles");
  values.forEach(([name, value, under, isBad], at) => {
    const tile = place.children[at] ?? place.appendChild(
      make("div", {}, make("dt", { textContent: name }), make("dd"), make("dd", { className: "under" })),
    );
    tile.className = isBad ? "bad" : "";
    say(tile.children[1], typeof value === "number" ? whole.format(value) : value);
    say(tile.children[2], under);
  });
}

const CHARTS = [
  ["Jobs", (m) => m.jobsCompleted, (m) => m.jobsFailed, whole.format],
  ["Files", (m) => m.filesDone, (m) => m.filesFailed, whole.format],
  ["Fetched", (m) => m.bytesFetched, () => 0, bytes],
];
const figures = CHARTS.map(([name]) => {
  const figure = make("figure", { className: "card" });
  figure.append(make("figcaption", {}, make("span", { textContent: name }), make("b")));
  figure.append(draw("svg", { viewBox: "0 0 240 64", preserveAspectRatio: "none", role: "img" }));
  byId("charts").append(figure);
  return figure;
});

function showChart(figure, minutes, [name, good, bad, words]) {
  const highest = Math.max(1, ...minutes.map((one) => good(one) + bad(one)));
  const total = (of) => minutes.reduce((sum, one) => sum + of(one), 0);
  const missing = total(bad) ? `, ${words(total(bad))} failed` : "";
  const summary = `${words(total(good))}${missing}`;
  say(figure.querySelector("b"), summary);
  const picture = figure.lastChild;
  picture.ariaLabel = `${name} per minute in the last hour: ${summary} in all, ${words(highest)} at most`;
  if (picture.matches(":hover") && picture.dataset.at === minutes.at(-1).at) return; // what is pointed at stays
  picture.dataset.at = minutes.at(-1).at;
  const wide = 240 / minutes.length;
  picture.replaceChildren(...minutes.map((one, at) => {
    const part = (value) => (value ? Math.max(1.5, (value / highest) * 60) : 0);
    const [up, down] = [part(good(one)), part(bad(one))];
    const bar = (y, height, tone) => draw("rect", { x: at * wide + 0.4, y, width: wide - 0.8, height, class: tone });
    const title = draw("title", {}, `${clock(one.at)}: ${words(good(one))}${bad(one) ? `, ${words(bad(one))} failed` : ""}`);
    return draw("g", {},
      bar(64 - up, up, "good"),
      bar(64 - up - down, down, "bad"),
      draw("rect", { x: at * wide, y: 0, width: wide, height: 64, class: "hit" }, title),
    );
  }));
}

function showFailures({ hour, day }) {
  for (const kind of ["file", "job"]) {
    const codes = new Set([...Object.keys(day[`${kind}s`]), ...Object.keys(hour[`${kind}s`])]);
    const rows = [...codes].map((errorCode) => {
      const [inHour, inDay] = [hour, day].map((one) => one[`${kind}s`][errorCode] ?? 0);
      return { errorCode, hour: inHour, day: Math.max(inDay, inHour) };
    });
    rows.sort((a, b) => b.day - a.day || b.hour - a.hour);
    failed[kind].show(rows, (row) => row.errorCode);
  }
}

function show(seen) {
  now = Date.parse(seen.at);
  replicas = new Map(seen.replicas.map((one) => [one.id, one]));
  showTiles(tiles(seen));
  CHARTS.forEach((chart, at) => showChart(figures[at], seen.minutes, chart));
  lists.running.show(seen.running, (job) => job.jobId);
  lists.replicas.show(seen.replicas, (one) => one.id);
  lists.tenants.show(seen.tenants, (one) => one.tenant);
  lists.recent.show(seen.recent, (job) => job.jobId);
  showFailures(seen.failures);
  const cut = (id, shown, all) => say(byId(id).querySelector("small"), shown < all ? `${shown} of ${whole.format(all)}` : "");
  cut("running-jobs", seen.running.length, seen.queue.processing);
  cut("replicas", seen.replicas.length, seen.replicasTotal);
  cut("tenants", seen.tenants.length, seen.tenantsTotal);
  byId("closed").hidden = seen.maintenance === null;
  say(byId("closed"), seen.maintenance === null ? "" : `Maintenance: no jobs are taken in. Callers are told: ${seen.maintenance}`);
}

// The key, and asking again and again

let timer = 0;
let pause = EVERY_MS;
let round = 0;
let seenAt = 0;

function tell(words, tone = "") {
  byId("state").hidden = false;
  byId("state").className = `state ${tone}`;
  say(byId("said"), words);
  byId("view").classList.toggle("stale", tone === "away");
}

function age() {
  say(byId("age"), seenAt ? `· ${span(Math.floor((Date.now() - seenAt) / 1000) * 1000)} old` : "");
}

function ask(refusal = "") {
  clearTimeout(timer);
  round += 1;
  seenAt = 0;
  for (const id of ["view", "state", "forget"]) byId(id).hidden = true;
  byId("door").hidden = false;
  say(byId("refused"), refusal);
  byId("key").focus();
}

/** The service answers, and says no for now. */
class Refusal extends Error {
  constructor(detail, retryAfter) {
    super(detail);
    this.wait = 1000 * Number(retryAfter);
  }
}

async function look() {
  clearTimeout(timer);
  const mine = (round += 1);
  try {
    const answer = await fetch(OVERVIEW, {
      headers: { Authorization: `Bearer ${key.get()}` },
      cache: "no-store",
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    const said = await answer.json();
    if (mine !== round) return;
    if (answer.status === 401 || answer.status === 403) {
      if (answer.status === 401) key.set(""); // else it is good for the page of jobs
      return ask(said.detail);
    }
    if (!answer.ok) throw new Refusal(said.detail, answer.headers.get("Retry-After"));
    byId("door").hidden = true;
    for (const id of ["view", "forget"]) byId(id).hidden = false;
    show(said);
    // The service gives the same look to several who ask; its clock tells how old that is, whatever ours says.
    const told = Date.parse(answer.headers.get("Date")) - Date.parse(said.at);
    seenAt = Date.now() - Math.max(0, told || 0);
    pause = EVERY_MS;
    tell("Live");
  } catch (error) {
    if (mine !== round) return;
    pause = Math.max(Math.min(pause * 1.5, SLOWEST_MS), error.wait || 0);
    tell(error instanceof Refusal ? error.message : "The service does not answer; trying again", "away");
  }
  age();
  if (!document.hidden) timer = setTimeout(look, pause);
}

byId("door").addEventListener("submit", (event) => {
  event.preventDefault();
  const given = byId("key").value.trim();
  byId("key").value = "";
  say(byId("refused"), "");
  if (!/^[\x21-\x7e]+$/.test(given)) return ask("A key looks like dl_… and has no blanks in it.");
  key.set(given);
  look();
});
byId("forget").addEventListener("click", () => {
  key.set("");
  ask();
});
document.addEventListener("visibilitychange", () => {
  if (!key.get()) return;
  clearTimeout(timer);
  if (document.hidden) tell("Paused", "paused");
  else look();
});
setInterval(age, 1000);

if (key.get()) look();
else ask();
