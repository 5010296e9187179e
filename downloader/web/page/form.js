// The list of links and the options: what is typed, pasted or dropped becomes the body of an initiate call.

import { make, say } from "./dom.js";
import { count } from "./format.js";
import { fault, joined, parse, unique } from "./lists.js";
import { explained, newKey } from "./service.js";
import { draft } from "./storage.js";

const FAULTS_SHOWN = 8;
const FILE_BYTES = 16 * 1024 * 1024;
const PAUSE_MS = 150;
const LONG_CHARS = 10_000;

const at = (id) => document.getElementById(id);

export class Form {
  #form = at("form");
  #links = at("links");
  #submit;
  #timer = 0;
  #found = parse("");
  #lines = []; // of the files that were sent, for what the service says of them
  #sent = { body: "", key: "" };
  #busy = false;

  /** `submit(body, idempotencyKey)` starts a job, and throws the service's ApiError. */
  constructor(submit) {
    this.#submit = submit;
    this.#restore();
    this.#links.addEventListener("input", () => this.#later());
    this.#links.addEventListener("paste", (event) => this.#paste(event));
    at("unique").addEventListener("change", () => this.#tell());
    at("options").addEventListener("input", (event) => this.#optionChanged(event.target));
    at("choose").addEventListener("click", () => at("file").click());
    at("file").addEventListener("change", () => this.#take([...at("file").files]));
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    this.#links.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.#send();
    });
    this.#watchDrops();
    this.#form.querySelector("[type=submit]").disabled = false; // now there is somebody who hears
  }

  /** The body of the initiate call for what stands there. */
  body() {
    const { files, lines } = at("unique").checked ? unique(this.#found) : this.#found;
    const { elements } = this.#form;
    const text = (name) => elements[name].value.trim();
    const options = { ...(text("onError") && { onError: text("onError") }) };
    if (text("compress")) options.compress = text("compress") === "true";
    for (const name of ["manifest", "keepFiles", "reproducible"]) if (elements[name].checked) options[name] = true;
    const body = { ...(text("archiveName") && { archiveName: text("archiveName") }) };
    if (text("callbackUrl")) body.callbackUrl = text("callbackUrl");
    const own = this.#found.body || {};
    if (Object.keys(options).length || own.options) body.options = { ...options, ...own.options };
    this.#lines = lines;
    return { ...body, ...own, ...(body.options && { options: body.options }), ...(files.length && { files }) };
  }

  #restore() {
    try {
      const { text, ...options } = JSON.parse(draft.get() || "{}");
      this.#links.value = text || "";
      for (const [name, value] of Object.entries(options)) {
        const field = this.#form.elements[name];
        if (field) field[field.type === "checkbox" ? "checked" : "value"] = value;
      }
    } catch { /* no draft of ours */ }
    this.#look();
    this.#choices();
  }

  #keep() {
    const fields = [...at("options").querySelectorAll("[name]")];
    const values = fields.map((field) => [field.name, field.type === "checkbox" ? field.checked : field.value]);
    const typed = { text: this.#links.value, ...Object.fromEntries(values.filter(([, value]) => value)) };
    draft.set(Object.keys(typed).length > 1 || typed.text ? JSON.stringify(typed) : "");
  }

  #later() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#look(), PAUSE_MS);
  }

  #look() {
    clearTimeout(this.#timer);
    this.#found = parse(this.#links.value);
    this.#keep();
    this.#tell();
    say(at("refused"), "");
  }

  #tell() {
    const { files, errors, duplicates, ids = 0, body } = this.#found;
    const sent = (at("unique").checked ? files.length - duplicates : files.length) || ids;
    const parts = [files.length || !ids ? count(files.length, "link") : count(ids, "id")];
    if (duplicates) parts.push(`${duplicates.toLocaleString("en")} twice`);
    if (errors.length) parts.push(count(errors.length, "line") + (errors.length === 1 ? " is no link" : " are no links"));
    if (body && Object.keys(body).length) parts.push(`brings its own ${Object.keys(body).join(", ")}`);
    say(at("count"), this.#links.value.trim() ? parts.join(" · ") : "No links yet");
    at("twice").hidden = !duplicates;
    say(at("twice").lastElementChild, `Leave out what stands there twice (${count(duplicates, "link")})`);
    this.#faults(errors.map((error) => ({ line: error.line, text: error.reason, of: error.text })), "Left out of the archive.");
    this.#label(sent ? `Make archive of ${count(sent, ids && !files.length ? "id" : "link")}` : "Make archive");
  }

  #label(text) {
    say(this.#form.querySelector("[type=submit]"), text);
  }

  /** Lines to look at, each with a button that leads to it. */
  #faults(faults, what) {
    const items = faults.slice(0, FAULTS_SHOWN).map((one) => {
      const go = make("button", { type: "button", className: "quiet", textContent: `Line ${one.line}` });
      go.addEventListener("click", () => this.#select(one.line));
      return make("li", {}, go, " ", make("bdi", { textContent: one.of ? `${one.of} ` : "" }), make("em", { textContent: one.text }));
    });
    const more = faults.length - items.length;
    if (more > 0) items.push(make("li", { textContent: `and ${count(more, "more line")}` }));
    if (items.length && what) items.push(make("li", { className: "hint", textContent: what }));
    at("faults").replaceChildren(...items);
  }

  #select(line) {
    const rows = this.#links.value.split("\n");
    const start = rows.slice(0, line - 1).reduce((sum, row) => sum + row.length + 1, 0);
    this.#links.focus();
    this.#links.setSelectionRange(start, start + (rows[line - 1] || "").length);
    this.#links.scrollTop = (this.#links.scrollHeight / rows.length) * Math.max(0, line - 3);
    this.#links.scrollLeft = 0;
  }

  #optionChanged(field) {
    this.#mark(field, "");
    this.#keep();
    this.#choices();
  }

  /** The options that differ from the usual, in the closed summary. */
  #choices() {
    const fields = [...at("options").querySelectorAll("[name]")];
    const chosen = fields.filter((field) => (field.type === "checkbox" ? field.checked : field.value));
    const label = (field) => field.labels[0].textContent.trim().toLowerCase();
    say(at("chosen"), chosen.map(label).join(", "));
  }

  /** Links copied from a page have their addresses in HTML only; and to edit in a long text takes browsers minutes. */
  #paste(event) {
    const plain = event.clipboardData.getData("text/plain");
    const urls = parse(plain).files.length ? [] : hrefs(event.clipboardData.getData("text/html"));
    if (!urls.length && plain.length < LONG_CHARS) return;
    event.preventDefault();
    const text = urls.length ? `${urls.join("\n")}\n` : plain;
    this.#links.setRangeText(text, this.#links.selectionStart, this.#links.selectionEnd, "end");
    this.#look();
  }

  #watchDrops() {
    const drop = document.querySelector(".drop");
    for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
      // Anywhere: what is dropped beside the field would take the place of the page.
      document.addEventListener(name, (event) => {
        if (![...event.dataTransfer.types].includes("Files")) return;
        event.preventDefault();
        drop.classList.toggle("over", name === "dragenter" || name === "dragover");
        if (name === "drop") this.#take([...event.dataTransfer.files]);
      });
    }
  }

  async #take(files) {
    const large = files.find((file) => file.size > FILE_BYTES);
    if (large) return void say(at("refused"), `${large.name} is too large for a list of links.`);
    const texts = await Promise.all(files.map((file) => file.text())).catch(() => null);
    if (!texts) return void say(at("refused"), "It cannot be read. Of a folder, take the files in it.");
    this.#links.value = joined([this.#links.value, ...texts]);
    at("file").value = "";
    this.#look();
    this.#links.focus();
  }

  async #send() {
    if (this.#busy) return;
    this.#look();
    if (!this.#found.files.length && !this.#found.ids) {
      say(at("refused"), "Put at least one link into the list.");
      return void this.#links.focus();
    }
    const body = this.body();
    const text = JSON.stringify(body);
    // The same list sent again after a lost answer must not make a second job.
    if (this.#sent.body !== text) this.#sent = { body: text, key: newKey() };
    this.#setBusy(true);
    try {
      await this.#submit(body, this.#sent.key);
      this.#sent = { body: "", key: "" };
      this.#links.value = this.#rejected(); // to be put right, and sent by themselves
      this.#form.elements.archiveName.value = "";
      at("unique").checked = at("options").open = false;
      this.#choices();
      this.#look();
    } catch (error) {
      this.#refuse(error);
    } finally {
      this.#setBusy(false);
    }
  }

  /** The lines of a plain list that are no links. */
  #rejected() {
    const rows = this.#links.value.split(/\r\n|\r|\n/);
    const { errors, isPlain } = this.#found;
    return isPlain ? errors.map(({ line }) => rows[line - 1]).join("\n") : "";
  }

  #setBusy(busy) {
    this.#busy = busy;
    this.#form.querySelector("[type=submit]").ariaDisabled = String(busy);
    if (busy) this.#label("Sending…");
    else this.#tellAgain();
  }

  #tellAgain() {
    const kept = [...at("faults").children];
    this.#tell();
    if (at("refused").textContent) at("faults").replaceChildren(...kept);
  }

  #refuse(error) {
    const faults = error.problem?.errors || [];
    const shown = faults.filter((one) => !this.#atField(one));
    this.#faults(shown.map((one) => this.#atLine(one)), "");
    say(at("refused"), faults.length ? "Some of this has to be put right first." : explained(error));
    const wrong = this.#form.querySelector("[aria-invalid=true]") || (faults.length && this.#links);
    if (wrong) wrong.focus();
  }

  #atLine({ pointer, detail }) {
    const index = /^\/(?:files|source_urls|file_ids|sourceUrls|fileIds)\/(\d+)/.exec(pointer)?.[1];
    const line = this.#lines[index] ?? 1;
    const of = index === undefined ? pointer : this.#found.files[index]?.url.slice(0, 200);
    return { line, of: of || "", text: detail };
  }

  /** Say what is wrong at the field that it is about; false when it has none. */
  #atField({ pointer, detail }) {
    const name = { callback_url: "callbackUrl", archive_name: "archiveName" }[pointer.slice(1)];
    const field = this.#form.elements[name || pointer.replace("/options/", "/").slice(1)];
    if (!field?.name) return false;
    at("options").open = true;
    this.#mark(field, detail);
    return true;
  }

  #mark(field, detail) {
    document.getElementById(`${field.name}-wrong`)?.remove();
    if (!detail) return void field.removeAttribute("aria-invalid");
    field.ariaInvalid = "true";
    field.setAttribute("aria-describedby", `${field.name}-wrong`);
    field.closest("p, label").append(make("small", { id: `${field.name}-wrong`, className: "error", textContent: detail }));
  }
}

function hrefs(html) {
  const anchors = [...new DOMParser().parseFromString(html, "text/html").querySelectorAll("a[href]")];
  return anchors.map((a) => a.getAttribute("href")).filter((url) => !fault(url));
}
