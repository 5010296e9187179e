// The calls of the page as commands for a shell. A key is never written out.

import { quoted } from "./format.js";

const BASE = "/v1/download";
const ARGUMENT_BYTES = 100_000; // one argument may have 128 KiB on Linux

function words(flags, url, hasKey, ...more) {
  const key = hasKey ? ['-H "Authorization: Bearer $DOWNLOADER_KEY"'] : [];
  return [`curl ${flags} ${quoted(url)}`, ...key, ...more];
}

/** Starts the job that `body` asks for. */
export function start(base, body, hasKey) {
  const text = JSON.stringify(body, null, 1);
  const head = words("-sS", `${base}${BASE}/initiate`, hasKey, "-H 'Content-Type: application/json'");
  const argument = quoted(text);
  const isShort = new TextEncoder().encode(argument).length < ARGUMENT_BYTES;
  if (isShort) return [...head, `-d ${argument}`].join(" \\\n  ");
  return `${[...head, "--data-binary @- <<'JSON'"].join(" \\\n  ")}\n${text}\nJSON`;
}

/** Follows the job. */
export function follow(base, id, hasKey) {
  return words("-sSN", `${base}${BASE}/subscribe/${id}`, hasKey).join(" \\\n  ");
}

/** Saves the archive. */
export function download(base, id, hasKey) {
  return words("-sSLOJ", `${base}${BASE}/${id}`, hasKey).join(" \\\n  ");
}
