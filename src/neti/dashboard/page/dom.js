/* Making elements, and bringing what is on the page in step with what should be there.

   Views make a whole new tree each time; `morph` then changes only what differs, so that focus,
   scrolling and selected text survive. Data gets in as text nodes and attributes only: whatever a
   host says of itself can never become markup. */
"use strict";
window.Neti = window.Neti || {};
(function (N) {
  // Characters that would turn around the text beside them, or cannot be seen.
  const UNSEEN = new RegExp("[\\u0000-\\u001f\\u007f-\\u009f\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5" +
    "\\u180b-\\u180f\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\u2800\\u3164\\ufe00-\\ufe0f\\ufeff" +
    "\\uffa0\\u{e0000}-\\u{e0fff}]", "gu");

  /** Text for places where no element can hold it apart: attributes, options, canvases. */
  N.safe = (text) => String(text).replace(UNSEEN, "\ufffd");

  /** The same where other text follows: held apart by the characters that say so, so that a name
      that is written from right to left stays where it is. Not for what is copied. */
  N.apart = (text) => `\u2068${N.safe(text)}\u2069`;

  /** A new element. Attributes that are null, undefined or false are left out. */
  N.el = function (tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === null || value === undefined || value === false) continue;
      // `width` is a share of its parent: the policy of this page allows no style attributes.
      if (name === "width") made.style.width = value;
      else made.setAttribute(name, value === true ? "" : String(value));
    }
    for (const child of children.flat(9)) {
      if (child === null || child === undefined || child === false || child === "") continue;
      made.append(child instanceof Node ? child : String(child));
    }
    return made;
  };

  /** What somebody else has said: held apart, so that it cannot reorder what is around it. */
  N.bdi = (text) => N.el("bdi", null, N.safe(text));

  /** Make the children of `parent` be like `wanted`, a list of nodes. */
  N.morph = function (parent, wanted) {
    const focused = document.activeElement;
    children(parent, wanted.flat(9).filter((one) => one instanceof Node));
    // A node that was moved loses the focus: whoever had it keeps it.
    if (focused && focused !== document.activeElement && focused.isConnected && focused !== document.body) {
      focused.focus({ preventScroll: true });
    }
  };

  const keyOf = (node) => (node.nodeType === 1 ? node.getAttribute("data-key") : null);

  function children(parent, wanted) {
    const keyed = new Map();
    for (const node of parent.childNodes) {
      const key = keyOf(node);
      if (key !== null) keyed.set(key, node);
    }
    let at = parent.firstChild;
    for (const fresh of wanted) {
      const key = keyOf(fresh);
      let old = key !== null ? keyed.get(key) : at;
      if (key === null) while (old && keyOf(old) !== null) old = old.nextSibling;
      if (old && key !== null) keyed.delete(key);
      if (!old || old.nodeName !== fresh.nodeName) {
        parent.insertBefore(fresh, at);
        continue;
      }
      if (old === at) at = at.nextSibling;
      else parent.insertBefore(old, at);
      one(old, fresh);
    }
    while (at) {
      const next = at.nextSibling;
      at.remove();
      at = next;
    }
  }

  function one(old, fresh) {
    if (old.nodeType === 3) {
      if (old.data !== fresh.data) old.data = fresh.data;
      return;
    }
    for (const { name } of [...old.attributes]) {
      // Whether a <details> is open is the reader's business; styles come below.
      if (!fresh.hasAttribute(name) && name !== "open" && name !== "data-folded" && name !== "style") old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      if (name !== "style" && old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    if (old.style.width !== fresh.style.width) old.style.width = fresh.style.width;
    // What draws itself (a canvas, a chart) looks after what is inside.
    if (old.hasAttribute("data-own")) return;
    children(old, [...fresh.childNodes]);
    if (old.nodeName === "SELECT" && document.activeElement !== old) {
      old.value = fresh.getAttribute("data-value") || "";
    }
  }
})(window.Neti);
