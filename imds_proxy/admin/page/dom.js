// What touches the document. Everything goes in as text or as an attribute's value, never as markup.

/** An element with a class and content: nodes, or text. */
export function make(tag, className = "", ...content) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...content);
  return element;
}

/** Change a node's text only if it differs: an unchanged one keeps the reader's selection, and costs no layout. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** The same for an attribute. */
export function setAttribute(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

/** Text in a node that is shown only if there is some. */
export function showText(node, text) {
  setText(node, text ?? "");
  node.hidden = !text;
}

/** Build what is in a node anew, but only when what it is made of has changed. */
export function refresh(node, parts, build) {
  const signature = JSON.stringify(parts);
  if (node.signature === signature) return;
  node.signature = signature;
  node.replaceChildren(...build());
}

/** Bring children into an order. Only those out of place are moved, and the focus stays where it is. */
export function arrange(parent, children) {
  const focused = document.activeElement;
  let next = parent.firstChild;
  for (const child of children) {
    if (child === next) next = next.nextSibling;
    else parent.insertBefore(child, next);
  }
  while (next) {
    const gone = next;
    next = next.nextSibling;
    gone.remove();
  }
  if (focused !== document.activeElement && focused?.isConnected) focused.focus({ preventScroll: true });
}

/** A list of terms and what they are; of what is empty, nothing. */
export function definitions(pairs) {
  const list = make("dl");
  for (const [term, value] of pairs) {
    const values = [value ?? ""].flat().filter((each) => each !== "");
    if (values.length) list.append(make("dt", "", term), ...values.map((each) => make("dd", "", ...breakable(each))));
  }
  return list;
}

/** Text that breaks where an ARN, a path or an address has its joints, if it has to. */
export function breakable(text) {
  return text.split(/(?<=[:/])(?=\w)/).flatMap((piece, at) => (at ? [make("wbr"), piece] : [piece]));
}

/** A table; columns named in `numeric` are set to the right. */
export function table(caption, headings, rows, numeric = []) {
  const style = (heading) => (numeric.includes(heading) ? "number" : "");
  const head = make("tr", "", ...headings.map((heading) => cell("th", style(heading), heading, "col")));
  const body = rows.map((row) => make("tr", "", ...row.map((text, at) => cell("td", style(headings[at]), text))));
  return make("table", "", make("caption", "unseen", caption), make("thead", "", head), make("tbody", "", ...body));
}

function cell(tag, className, text, scope) {
  const made = make(tag, className, text);
  if (scope) made.scope = scope;
  return made;
}
