// Figures as people read them.

const UNITS = ["B", "kB", "MB", "GB", "TB", "PB"];

/** Bytes in decimal units: 0 B, 999 B, 1.2 MB. */
export function bytes(count) {
  let power = 0;
  for (; count >= 999.5 && power < UNITS.length - 1; power += 1) count /= 1000;
  return `${power && count < 99.95 ? count.toFixed(1) : Math.round(count)} ${UNITS[power]}`;
}

/** A count with its noun: 1 file, 2,000 files. */
export function count(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}

/** A time of day, with its date unless that is today. */
export function clock(ms) {
  const time = new Date(ms);
  const day = time.toDateString() === new Date().toDateString() ? {} : { month: "short", day: "numeric" };
  return time.toLocaleString([], { hour: "2-digit", minute: "2-digit", ...day });
}

/** A word for a POSIX shell, whatever stands in it. */
export function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
