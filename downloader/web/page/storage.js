// What this browser remembers. It may refuse (blocked, full), which must never break the page: then memory has to do.

const JOBS = "downloader.jobs";
const KEY = "downloader.key";
const DRAFT = "downloader.draft";
const MOST_JOBS = 50;

const fallback = new Map();

function get(area, name) {
  try {
    return fallback.get(name) ?? window[area].getItem(name);
  } catch {
    return null;
  }
}

function set(area, name, value) {
  fallback.delete(name);
  try {
    if (value) window[area].setItem(name, value);
    else window[area].removeItem(name);
  } catch {
    if (value) fallback.set(name, value);
  }
}

/** The API key, for as long as this tab lives. */
export const key = { get: () => get("sessionStorage", KEY) || "", set: (text) => set("sessionStorage", KEY, text) };

/** What is being typed, for as long as this tab lives. */
export const draft = { get: () => get("sessionStorage", DRAFT) || "", set: (text) => set("sessionStorage", DRAFT, text) };

/** The jobs this browser has started, newest first: id, name, time. No links and no tokens, which may be secret. */
export const jobs = {
  all() {
    try {
      const list = JSON.parse(get("localStorage", JOBS) || "[]");
      return list.filter((job) => /^[0-9a-f-]{36}$/.test(job?.id) && Number.isFinite(job.time));
    } catch {
      return [];
    }
  },
  add(id, name, time = Date.now()) {
    const others = this.all().filter((job) => job.id !== id);
    // Without what would turn the words around it round, in the list and in the tab's title.
    const plain = String(name).replace(/[\p{Cc}\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu, "").slice(0, 200);
    const list = [...others, { id, name: plain, time }].sort((a, b) => b.time - a.time);
    set("localStorage", JOBS, JSON.stringify(list.slice(0, MOST_JOBS)));
  },
  forget(id) {
    set("localStorage", JOBS, JSON.stringify(this.all().filter((job) => job.id !== id)));
  },
  /** Call `changed` when another tab has changed the list. */
  watch(changed) {
    addEventListener("storage", (event) => {
      if (event.key === JOBS || event.key === null) changed();
    });
  },
};
