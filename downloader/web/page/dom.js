// Small helpers for the document. Text only ever becomes text.

/** An element with properties and children. */
export function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

/** Set the text of a node, when it is another; a live region then speaks of changes only. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** An address that may be followed, or null: http(s), whatever a service answers. */
export function safe(url) {
  const parsed = URL.canParse(url || "", location.href) ? new URL(url, location.href) : null;
  return url && /^https?:$/.test(parsed?.protocol) ? parsed.href : null;
}

/** A button that copies what `text()` gives; "" is nothing to copy, and why is told elsewhere. */
export function copier(label, text, properties = {}) {
  const button = make("button", { type: "button", className: "quiet", textContent: label, ...properties });
  button.addEventListener("click", async () => {
    const what = await text();
    if (!what) return;
    const done = await copied(what);
    button.textContent = done ? "Copied" : "Copying is blocked";
    setTimeout(() => (button.textContent = label), 1500);
  });
  return button;
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return byHand(text); // no clipboard without https
  }
}

function byHand(text) {
  const area = make("textarea", { value: text, className: "unseen", ariaLabel: "Copy" });
  const [host, focused] = [document.querySelector("dialog[open]") || document.body, document.activeElement];
  host.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  focused?.focus();
  return done;
}

const asked = new WeakMap(); // what ends the question of a dialog

/** Show a dialog; gives the value of the button that closed it, "" for none. */
export function ask(dialog) {
  // A dialog tells of its closing a moment later, when it may be open again for another question.
  asked.get(dialog)?.();
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    const end = () => {
      asked.delete(dialog);
      dialog.removeEventListener("close", closed);
      resolve(dialog.returnValue);
    };
    const closed = () => dialog.open || end();
    asked.set(dialog, end);
    dialog.addEventListener("close", closed);
  });
}
