// Ties the page together: the form, the list of jobs, the key, and what is said at the top.

import "../download-job.js";
import { ask, say } from "./dom.js";
import { Form } from "./form.js";
import { count } from "./format.js";
import { Card } from "./job.js";
import { Service } from "./service.js";
import { jobs, key } from "./storage.js";

const POLL_MS = 3000;
const PAUSE_MAX_MS = 30_000;
const EACH_MS = 250; // many jobs are read less often
const READS_AT_ONCE = 3;
const OFFLINE = "You are offline. Jobs go on without you, and this page catches up when you are back.";
const AWAY = "The service cannot be reached. Trying again…";

const at = (id) => document.getElementById(id);
const cards = new Map();
const bodies = new Map(); // what this very page has sent, for the curl command; it may hold secrets, so it is kept nowhere
let opened = null;
let isReached = true;
let pause = POLL_MS;

async function askForKey(message) {
  say(at("key-wrong"), message);
  const field = at("key-text");
  field.setAttribute("aria-invalid", String(Boolean(message)));
  for (;;) {
    const answer = await ask(at("key"));
    const text = field.value.trim();
    field.value = "";
    if (answer !== "use") return "";
    if (/^[!-~]+$/.test(text)) {
      at("forget").hidden = false;
      return text;
    }
    say(at("key-wrong"), "A key has letters, digits, - and _ only, and begins with dl_.");
  }
}

function notice() {
  say(at("notice"), navigator.onLine === false ? OFFLINE : isReached ? "" : AWAY);
}

const page = {
  service: new Service(askForKey),
  base: document.body.dataset.base,
  bodyOf: (id) => bodies.get(id),
  reached(now) {
    isReached = now;
    notice();
  },
  title(text) {
    document.title = text ? `${text} · downloader` : "downloader";
  },
  open(card) {
    if (opened && opened !== card) opened.close();
    opened = card;
    history.replaceState(null, "", `#job=${card.id}`);
    card.open();
  },
  close(card) {
    card.close();
    opened = null;
    page.title("");
    history.replaceState(null, "", location.pathname);
  },
  started({ jobId }, name) {
    jobs.add(jobId, name);
    list();
    page.open(cards.get(jobId));
    cards.get(jobId).focus();
    cards.get(jobId).node.scrollIntoView();
  },
  forget(id) {
    if (opened?.id === id) page.close(opened);
    jobs.forget(id);
    list();
    at("jobs-title").focus();
  },
};

/** Show the jobs that are remembered, newest first; cards that stay are not touched. */
function list() {
  const entries = jobs.all();
  const wanted = new Set(entries.map((entry) => entry.id));
  for (const [id, card] of cards) {
    if (wanted.has(id)) continue;
    if (opened === card) page.close(card);
    card.node.remove();
    cards.delete(id);
  }
  entries.forEach((entry, index) => {
    if (!cards.has(entry.id)) cards.set(entry.id, new Card(entry, page));
    const { node } = cards.get(entry.id);
    if (at("jobs").children[index] !== node) at("jobs").insertBefore(node, at("jobs").children[index] || null);
  });
  at("none").hidden = entries.length > 0;
}

/** Read the jobs that may have news, a few at a time; the open one has its stream, once it could be read. */
async function poll() {
  const due = document.hidden || page.service.isShut ? [] : [...cards.values()].filter((card) => card.isDue);
  const calls = due.length;
  let isWell = true;
  const next = async () => {
    for (let card = due.shift(); card && isWell; card = due.shift()) isWell &&= await card.read();
  };
  await Promise.all(Array.from({ length: READS_AT_ONCE }, next));
  pause = isWell ? Math.max(POLL_MS, calls * EACH_MS) : Math.min(2 * pause, PAUSE_MAX_MS);
  // Not all tabs at one beat, least of all when the service is back.
  setTimeout(poll, pause * (0.75 + Math.random() / 2));
}

/** Open the job that the address names, also one that was started elsewhere. */
function follow() {
  const id = /^#job=([0-9a-f-]{36})$/i.exec(location.hash)?.[1].toLowerCase();
  if (!id || opened?.id === id) return;
  if (!cards.has(id)) {
    jobs.add(id, `Job ${id.slice(0, 8)}`);
    list();
  }
  page.open(cards.get(id));
  cards.get(id).node.scrollIntoView();
}

/** What the job is called in the list: no link of it, which may be secret. */
function nameOf(body, total) {
  if (body.archiveName) return body.archiveName;
  const first = body.files?.[0];
  if (total === 1 && first?.name) return first.name;
  const host = first && /^[a-z0-9]+:\/\/([^/?#]*@)?([^/?#]*)/i.exec(first.url)?.[2];
  return host ? `${count(total, "file")} from ${host}` : count(total, "file");
}

async function submit(body, idempotencyKey) {
  const started = await page.service.call((client) => client.initiate(body, { idempotencyKey }));
  bodies.set(started.jobId, body);
  page.started(started, nameOf(body, started.totalFiles));
}

at("forget").addEventListener("click", () => {
  page.service.forget();
  at("forget").hidden = true;
  if (opened) page.close(opened);
});
at("forget").hidden = !key.get();
addEventListener("hashchange", follow);
for (const name of ["online", "offline"]) addEventListener(name, notice);
jobs.watch(list);
new Form(submit);
list();
follow();
notice();
poll();
