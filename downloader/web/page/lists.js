// Reads what people paste or drop: a list of links in any usual form. Pure: text in, plain objects out.

const SCHEME = /(?:https?|s3):\/\//i;
const URL_CHARS = 8192;
const MISSES_MOST = 3;
const COLUMNS = {
  url: "url", link: "url", href: "url", sourceurl: "url", downloadurl: "url",
  name: "name", filename: "name", title: "name", id: "id", fileid: "id",
  size: "size", checksum: "checksum", sha256: "sha256", md5: "md5", contenttype: "contentType",
};

/**
 * The list that `text` is: `files` for the API with the line of each, `errors` as {line, text, reason}, how many are
 * `duplicates`, `body`, the rest of an initiate request if the text was one, and whether it `isPlain` lines.
 */
export function parse(text) {
  const found = { files: [], lines: [], errors: [], duplicates: 0, body: null, isPlain: false };
  const start = text.trimStart();
  if (/^[[{]/.test(start) && !/^\[[^\]\n]*\]\(/.test(start)) json(text, found);
  else if (/<a\s[^>]*href/i.test(text)) html(text, found);
  else if (header(text)) csv(text, found);
  else plain(text, found);
  const seen = new Set(found.files.map((file) => `${file.url} ${file.name || ""}`));
  found.duplicates = found.files.length - seen.size;
  return found;
}

function plain(text, found) {
  found.isPlain = true;
  text.split(/\r\n|\r|\n/).forEach((line, index) => oneLine(line, index + 1, found));
}

/** The files without those that stand there twice, and their lines. */
export function unique({ files, lines }) {
  const seen = new Map(files.map((file, index) => [`${file.url} ${file.name || ""}`, index]).reverse());
  const first = [...seen.values()].sort((a, b) => a - b);
  return { files: first.map((index) => files[index]), lines: first.map((index) => lines[index]) };
}

/** Several lists as one text: plain lines where these hold everything, else JSON. */
export function joined(texts) {
  const full = texts.filter((text) => text.trim());
  if (full.length < 2) return full.join("");
  const all = full.map(parse);
  if (all.some((one) => one.errors.length)) return full.map((text) => text.trimEnd()).join("\n");
  const files = all.flatMap((one) => one.files);
  const plain = ({ url, name, ...more }) => !Object.keys(more).length && !/[\t\n]/.test(name || "");
  if (!files.every(plain)) return JSON.stringify(files, null, 1);
  return files.map((file) => (file.name ? `${file.name}\t${file.url}` : file.url)).join("\n");
}

/** Why `url` is no link to a file; "" when it is one. */
export function fault(url) {
  if (typeof url !== "string" || !url) return "is no link";
  if (url.length > URL_CHARS) return `is longer than ${URL_CHARS} characters`;
  if (!SCHEME.test(url.slice(0, 8))) {
    if (/^[\w-]+(\.[\w-]+)+([/:?#]|$)/.test(url)) return "has no https:// in front";
    return /^[a-z][a-z0-9+.-]*:/i.test(url) ? "starts with none of https://, http://, s3://" : "is no link";
  }
  if (/[\u0000-\u0020\u007f-\u009f]/.test(url)) return "has a space or control character in it; write %20 for a space";
  try {
    if (new URL(url).hostname) return "";
  } catch { /* said below */ }
  return "names no host";
}

function add(found, line, file) {
  const reason = fault(file.url);
  if (reason) return void found.errors.push({ line, text: String(file.url ?? "").slice(0, 200), reason });
  found.files.push(file);
  found.lines.push(line);
}

function oneLine(raw, line, found) {
  const text = raw.trim().replace(/^(?:[-*•]|\d+[.)])\s+/, "");
  if (!text || text.startsWith("#")) return;
  const markdown = /^\[([^\]]*)\]\(<?(\S+?)>?\)$/.exec(text);
  if (markdown) return add(found, line, named(markdown[2], markdown[1]));
  const at = text.search(SCHEME);
  if (at < 0) return add(found, line, { url: text });
  const before = text.slice(0, at);
  const cell = /^(.*?)\s*[\t,;]\s*["'<]?$/.exec(before);
  if (before.trim() && !cell && !/^["'<]$/.test(before)) {
    return void found.errors.push({ line, text: text.slice(0, 200), reason: "needs a comma or a tab between name and link" });
  }
  links(text.slice(at), cell ? bare(cell[1]) : "", line, found);
}

/** The links at the start of `text`, the first with its name in front or behind it. */
function links(text, before, line, found) {
  const end = text.search(/\s/);
  const url = (end < 0 ? text : text.slice(0, end)).replace(/[,;]+$/, "").replace(/["'>]$/, "");
  const rest = end < 0 ? "" : text.slice(end).trim();
  if (rest.search(SCHEME) === 0) {
    add(found, line, named(url, before));
    return links(rest, "", line, found);
  }
  add(found, line, named(url, before || bare(rest)));
}

function named(url, name) {
  return name ? { url, name } : { url };
}

function bare(text) {
  return text.trim().replace(/^(["'])(.*)\1$/, "$2");
}

function html(text, found) {
  const lineOf = lines(text);
  for (const a of new DOMParser().parseFromString(text, "text/html").querySelectorAll("a[href]")) {
    const url = a.getAttribute("href").trim();
    if (!url.startsWith("#")) add(found, lineOf(url), { url });
  }
}

/** Tells the line of each part of `text`, which are asked for in their order. */
function lines(text) {
  let [line, at, next, misses] = [1, 0, text.indexOf("\n"), 0];
  return (part) => {
    const found = misses < MISSES_MOST ? text.indexOf(part, at) : -1;
    if (found < 0) misses += 1; // written in another way, with \/ for instance; a search each time would take too long
    else at = found + part.length;
    for (; next >= 0 && next < at; next = text.indexOf("\n", next + 1)) line += 1;
    return line;
  };
}

/** What separates the cells, when the first line names columns of which one is the link's. */
function header(text) {
  const first = /^\s*([^\r\n]*)/.exec(text.replace(/^\uFEFF/, ""))[1];
  if (SCHEME.test(first)) return "";
  const mark = ["\t", ";", ","].find((one) => first.includes(one)) || ",";
  return first.split(mark).some((cell) => column(cell) === "url") ? mark : "";
}

function column(cell) {
  return COLUMNS[bare(cell).toLowerCase().replace(/[^a-z0-9]/g, "")];
}

function csv(text, found) {
  const [head, ...rows] = cells(text.replace(/^\uFEFF/, ""), header(text));
  const columns = head.cells.map(column);
  for (const row of rows) {
    if (row.cells.every((cell) => !cell.trim())) continue;
    const file = { url: "" };
    columns.forEach((name, index) => {
      const value = (row.cells[index] || "").trim();
      if (!value || !name) return;
      if (name === "sha256" || name === "md5") file.checksum = `${name}:${value}`;
      else file[name] = name === "size" && /^\d+$/.test(value) ? Number(value) : value;
    });
    add(found, row.line, file);
  }
}

/** The rows of a CSV (RFC 4180), each with the line it begins at. */
function cells(text, mark) {
  const rows = [];
  const next = new RegExp(`("(?:[^"]|"")*"?|[^${mark}\\r\\n]*)(${mark}|\\r\\n|\\r|\\n|$)`, "y");
  for (let line = 1, row = null; next.lastIndex <= text.length; ) {
    const at = next.lastIndex;
    const [all, cell, end] = next.exec(text) || [text.slice(at), text.slice(at), ""];
    row ??= rows[rows.push({ line, cells: [] }) - 1];
    row.cells.push(cell.startsWith('"') ? cell.replace(/^"|"$/g, "").replaceAll('""', '"') : cell);
    line += (all.match(/\r\n|\r|\n/g) || []).length;
    if (end !== mark) row = null;
    if (!end) break;
  }
  return rows;
}

function json(text, found) {
  let value;
  try {
    value = JSON.parse(text);
  } catch (error) {
    const at = Number(/position (\d+)/.exec(error.message)?.[1] ?? 0);
    const reason = `is not valid JSON: ${error.message}`;
    return void found.errors.push({ line: text.slice(0, at).split("\n").length, text: "", reason });
  }
  const { files, ...body } = Array.isArray(value) ? { files: value } : value;
  let list = files;
  if (!list && body.url) list = [value];
  else if (Object.keys(body).length) found.body = body;
  if (!list && body.source_urls) list = seedForm(body);
  if (!list && (body.file_ids || body.file_keys)) return void (found.ids = (body.file_ids || body.file_keys).length);
  if (!Array.isArray(list)) {
    return void found.errors.push({ line: 1, text: "", reason: "needs a list of links, or an object with files or source_urls" });
  }
  const lineOf = lines(text);
  for (const item of list) {
    const file = typeof item === "string" ? { url: item } : { ...item };
    add(found, file.url ? lineOf(JSON.stringify(file.url)) : lineOf(""), file);
  }
}

/** The older form: ids and links, position by position. */
function seedForm(body) {
  const { source_urls: urls, file_ids: ids = body.file_keys } = body;
  for (const name of ["source_urls", "file_ids", "file_keys"]) delete body[name];
  return Array.isArray(urls) && urls.map((url, index) => (ids ? { id: ids[index], url } : { url }));
}
