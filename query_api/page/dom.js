// Elements without innerHTML: ids and names come from users, so data only ever becomes text.

const SVG = "http://www.w3.org/2000/svg";

/** Return an HTML element. Children are nodes or text; null and false are left out. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** Return an SVG element. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(2).filter((child) => child !== null && child !== false));
  return element;
}

/** Set the text only when it differs, so that an update without news touches nothing. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Set an attribute only when it differs; null takes it away. */
export function setAttribute(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

/** Tell people who listen instead of looking. Only for news, never for every look. */
export function announce(text) {
  setText(document.getElementById("announcer"), text);
}

/** Return a `<time>` in the viewer's locale, with UTC as its title. */
export function time(iso, format) {
  const element = h("time", { datetime: iso, title: utcTitle(iso) });
  element.textContent = format(iso);
  return element;
}

export function utcTitle(iso) {
  return `${new Date(iso).toISOString().replace("T", " ").replace("Z", "")} UTC`;
}
