// The files of one job, a page at a time however many there are.

import { make, safe, copier } from "./dom.js";
import { bytes, count } from "./format.js";

const ROWS = 50;
const AT_ONCE = 1000;
const WORDS = { pending: "waiting", fetching: "fetching", done: "done", failed: "failed", stopped: "not fetched" };

export class Files {
  #root;
  #fetch;
  #known = new Map();
  #total = 0;
  #failed = 0;
  #page = 0;
  #onlyFailed = false;
  #due = false;
  #isOver = false;

  /** `fetch(after, limit)` gives a page of the service's answer. */
  constructor(root, fetch) {
    this.#root = root;
    this.#fetch = fetch;
    this.#on(".all", () => this.#choose(false));
    this.#on(".failed", () => this.#choose(true));
    this.#on(".back", () => this.#turn(-1));
    this.#on(".on", () => this.#turn(1));
  }

  /** What the job counts, and whether it has ended. */
  count(total, failed, isOver) {
    if (total === this.#total && failed === this.#failed && isOver === this.#isOver) return;
    [this.#total, this.#failed, this.#isOver] = [total, failed, isOver];
    this.#draw();
  }

  /** Files that are known now. */
  update(files) {
    for (const file of files) this.#known.set(file.index, file);
    this.#draw();
  }

  /** The bytes of files that arrive just now. */
  arrive(fetching) {
    const got = new Map(fetching.map((file) => [file.index, file.bytesFetched]));
    for (const row of this.#root.querySelectorAll("li[data-state=fetching]")) {
      const size = row.querySelector(".size");
      if (!got.has(row.index) || !size) continue;
      const [now, all] = [got.get(row.index), row.file.size];
      size.textContent = now <= all ? `${bytes(now)} of ${bytes(all)}` : bytes(now);
      // A file that is fetched anew makes up for what it had before its bar goes on.
      row.mark = Math.max(row.mark ?? 0, all ? Math.min(100, (100 * now) / all) : 0);
      row.style.setProperty("--got", `${row.mark}%`);
    }
  }

  /** Read what is shown again: it may have changed unseen. */
  async refresh() {
    this.#known.clear();
    await (this.#onlyFailed ? this.#readAll() : this.#read());
  }

  #on(selector, act) {
    this.#root.querySelector(selector).addEventListener("click", act);
  }

  async #choose(onlyFailed) {
    [this.#onlyFailed, this.#page] = [onlyFailed, 0];
    this.#draw();
    if (onlyFailed) await this.#readAll();
  }

  async #turn(step) {
    this.#page += step;
    this.#draw();
    await this.#read();
  }

  /** The page of files that is shown, unless it is known. */
  async #read() {
    const start = this.#page * ROWS;
    const end = Math.min(start + ROWS, this.#total);
    let missing = start;
    while (this.#known.has(missing)) missing += 1;
    if (this.#onlyFailed || missing >= end) return;
    const page = await this.#fetch(start - 1, ROWS);
    if (page) this.update(page.files);
  }

  async #readAll() {
    for (let after = -1; after !== null; ) {
      const page = await this.#fetch(after, AT_ONCE);
      if (!page) return;
      this.update(page.files);
      after = page.next ?? null;
    }
  }

  /** Draw once per frame, however often something changes. */
  #draw() {
    if (this.#due) return;
    this.#due = true;
    requestAnimationFrame(() => {
      this.#due = false;
      this.#drawNow();
    });
  }

  #shown() {
    if (!this.#onlyFailed) return Array.from({ length: this.#total }, (_, index) => index);
    const failed = [...this.#known.values()].filter((file) => file.status === "failed");
    return failed.map((file) => file.index).sort((a, b) => a - b);
  }

  #drawNow() {
    this.#root.hidden = !this.#total;
    const all = this.#shown();
    const last = Math.max(0, Math.ceil(all.length / ROWS) - 1);
    this.#page = Math.min(Math.max(this.#page, 0), last);
    const start = this.#page * ROWS;
    this.#drawRows(all.slice(start, start + ROWS));
    this.#drawBar(all.length, start, last);
  }

  #drawRows(indices) {
    const list = this.#root.querySelector("ol");
    const rows = new Map([...list.children].map((row) => [row.index, row]));
    const wanted = indices.map((index) => {
      const file = this.#known.get(index);
      const row = rows.get(index) || make("li", { index });
      if (!row.firstChild || row.file !== file || row.isOver !== this.#isOver) this.#redraw(row, file);
      return row;
    });
    if (wanted.length !== list.children.length || wanted.some((row, at) => row !== list.children[at])) {
      list.replaceChildren(...wanted);
    }
    list.start = (indices[0] ?? 0) + 1;
  }

  /** The row anew; who was at one of its buttons is at the first one again. */
  #redraw(row, file) {
    const hadFocus = row.contains(document.activeElement);
    [row.file, row.isOver] = [file, this.#isOver];
    row.replaceChildren(...cells(file, row, this.#isOver));
    if (hadFocus) row.querySelector("button, a")?.focus();
  }

  #drawBar(length, start, last) {
    const part = (selector) => this.#root.querySelector(selector);
    part(".all").textContent = `All ${this.#total.toLocaleString("en")}`;
    part(".failed").textContent = `Failed ${this.#failed.toLocaleString("en")}`;
    part(".all").ariaPressed = String(!this.#onlyFailed);
    part(".failed").ariaPressed = String(this.#onlyFailed);
    part(".failed").disabled = !this.#failed && !this.#onlyFailed;
    part(".pager").hidden = last === 0;
    part(".bar").hidden = this.#total < 2;
    const range = `${(start + 1).toLocaleString("en")}–${Math.min(start + ROWS, length).toLocaleString("en")}`;
    part(".range").textContent = `${range} of ${count(length, "file")}`;
    const ends = [[".back", this.#page === 0], [".on", this.#page === last]];
    const focused = ends.find(([selector, isEnd]) => isEnd && part(selector) === document.activeElement);
    for (const [selector, isEnd] of ends) part(selector).disabled = isEnd;
    if (focused) part(focused[0] === ".on" ? ".back" : ".on").focus(); // a disabled button would lose it
  }
}

/** The cells of a row; nothing is known yet of a file that is undefined. */
function cells(file, row, isOver) {
  const isOpen = !file || file.status === "pending" || file.status === "fetching";
  const state = (row.dataset.state = isOpen && isOver ? "stopped" : file?.status || "pending");
  if (!file) return [make("span", { className: "what", textContent: "…" })];
  const name = make("bdi", { className: "name", textContent: file.name || file.originalUrl, title: file.originalUrl });
  const what = make("div", { className: "what" }, name);
  if (file.error) what.append(reason(file.error));
  if (file.sha256) what.append(digest(file));
  const size = make("span", { className: "size", textContent: file.size === null ? "" : bytes(file.size) });
  const word = make("span", { className: "word", textContent: WORDS[state] || state });
  return [what, size, word];
}

function reason(error) {
  const href = new URL(`../errors/${encodeURIComponent(error.code)}`, import.meta.url).href;
  const more = make("a", { href, target: "_blank", rel: "noopener", textContent: error.code });
  return make("p", { className: "why" }, make("bdi", { textContent: error.message }), " ", more);
}

function digest(file) {
  const code = make("code", { className: "sha", textContent: file.sha256, title: `SHA-256: ${file.sha256}` });
  const line = make("p", { className: "sum" }, make("span", { textContent: "SHA-256" }), code);
  line.append(copier("Copy", () => file.sha256, { ariaLabel: `Copy the SHA-256 of ${file.name}` }));
  const href = safe(file.downloadUrl);
  if (href) line.append(make("a", { href, textContent: "Download", ariaLabel: `Download ${file.name} alone` }));
  return line;
}
