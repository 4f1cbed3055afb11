/* Parts that several views are made of: links to hosts, words for severities, bars, commands. */
"use strict";
(function (N) {
  const el = N.el;

  N.hostLink = (id) => `#/host/${encodeURIComponent(id)}`;

  /** A link to a host by its id, with its name where that is another. */
  N.hostRef = function (id, always) {
    const host = N.store.hosts.get(id);
    const name = host && host.name && host.name !== id ? [" ", el("small", null, N.bdi(host.name))] : [];
    if (!host && !always) return el("span", null, N.bdi(id));
    return el("span", { class: "host-ref" }, el("a", { href: N.hostLink(id) }, N.bdi(id)), name);
  };

  // Which lists are unfolded. What is folded is not made at all: in a large fleet it would be most
  // of the page.
  const unfolded = new Set();
  document.addEventListener("toggle", (event) => {
    const key = event.target.getAttribute("data-key");
    if (event.target.nodeName !== "DETAILS" || unfolded.has(key) === event.target.open) return;
    if (event.target.open) unfolded.add(key);
    else unfolded.delete(key);
    N.changed();
  }, true);

  /** Links to hosts, one after the other; a few, and the rest behind a click. */
  N.hostRefs = function (ids, count, key) {
    const few = 5;
    const list = (those) => those.map((id, at) => [at ? ", " : "", N.hostRef(id)]);
    const rest = ids.slice(few);
    const unnamed = count - ids.length;
    const open = N.printing || unfolded.has(`rest-${key}`);
    return [
      list(ids.slice(0, few)),
      rest.length
        ? [" ", el("details", { class: "rest", "data-key": `rest-${key}` },
          el("summary", null, `and ${N.number(rest.length)} more`), open ? list(rest) : "",
          open && unnamed > 0 ? ` and ${N.number(unnamed)} that are not named here` : "")]
        : unnamed > 0 ? ` and ${N.number(unnamed)} more` : "",
    ];
  };

  /** How grave something is: a word and a shape, not colour alone. */
  const SIGNS = { critical: "✕", warning: "▲", note: "–", fine: "✓" };
  N.severity = (word) =>
    el("span", { class: `severity is-${SIGNS[word] ? word : "warning"}` },
      el("span", { "aria-hidden": "true" }, SIGNS[word] || "▲"), " ", word);
  N.level = (level) => N.severity(N.LEVELS[level] || "warning");

  /** Green, yellow and red, as words and shapes. `answer`: what they say to the whole question. */
  const LIGHTS = { green: ["✓", "go"], yellow: ["▲", "look first"], red: ["✕", "not yet"] };
  N.light = function (light, answer) {
    const known = LIGHTS[light] ? light : "yellow";
    return el("span", { class: `severity light-${known}` },
      el("span", { "aria-hidden": "true" }, LIGHTS[known][0]), " ", known, answer ? `: ${LIGHTS[known][1]}` : "");
  };

  /** The square of a shade, as on the maps, and its word. */
  N.shade = (shade) => [el("span", { class: `swatch s-${N.store.shades.includes(shade) ? shade : "away"}`,
    "aria-hidden": "true" }), " ", shade];

  /** A number of a whole, with a bar. */
  N.bar = (part, whole) =>
    el("span", { class: "bar" },
      el("span", { class: "bar-number" }, N.number(part), el("small", null, ` ${N.percent(part, whole)}`)),
      el("span", { class: "bar-track", "aria-hidden": "true" },
        el("span", { class: "bar-part", width: whole ? `${(100 * part) / whole}%` : "0" })));

  /** A command with a button that copies it. Nothing is copied that could end a line: what is
      pasted into a shell must wait for its Enter. */
  N.commandLine = function (text, where) {
    return el("span", { class: "command" },
      where ? el("span", { class: "where" }, `${where}: `) : "",
      el("span", { class: "typed" }, el("code", null, N.bdi(text)), " ",
        el("button", { type: "button", "data-act": "copy", "data-text": N.safe(text),
          "aria-label": `Copy: ${N.safe(text)}` }, "Copy")));
  };

  /** A table with a caption. `heads`: texts or nodes of th; `rows`: lists of cells, with a key. */
  N.table = function (caption, heads, rows, options) {
    const { className, captionHidden } = options || {};
    return el("div", { class: "table-box", tabindex: "0", role: "region", "aria-label": caption },
      el("table", { class: className || null },
        el("caption", { class: captionHidden ? "hidden" : null }, caption),
        el("thead", null, el("tr", null, heads.map((one) =>
          (one instanceof Node ? one : el("th", { scope: "col" }, one))))),
        el("tbody", null, rows.map(([key, ...cells]) =>
          el("tr", { "data-key": `r-${key}` }, cells.map((cell, at) =>
            at === 0 ? el("th", { scope: "row" }, cell) : el("td", null, cell)))))));
  };

  N.num = (text) => el("th", { scope: "col", class: "num" }, text);

  /** A section with a heading that labels it. */
  N.section = function (id, title, ...inside) {
    return el("section", { "aria-labelledby": `${id}-title`, id, "data-key": id },
      el("h2", { id: `${id}-title` }, title), inside);
  };

  N.events = (events, bare) =>
    el("ol", { class: "events" }, events.map((one) =>
      el("li", { "data-key": `${one.at}-${one.id}-${one.what}` },
        N.time(one.at), " ", one.level >= 2 ? [N.level(one.level), " "] : "",
        bare ? "" : [N.hostRef(one.id), " "], N.bdi(one.what))));
})(window.Neti);
