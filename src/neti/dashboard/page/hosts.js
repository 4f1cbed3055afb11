/* "Hosts": a table of all of them, with search, filters, sorting and pages. What is asked for is in
   the address, so that it can be sent to a colleague and Back works. */
"use strict";
(function (N) {
  const el = N.el;
  const S = N.store;
  const PAGE = 100;
  const ON_PAPER = 5000; // rows; a browser takes too long over more
  const shadeRank = (one) => S.shades.indexOf(one.shade);
  const number = (value) => (value === null ? -1 : value);

  // What a host can be besides its shade: whether it is registered at all.
  const AS = { registered: true, "not registered": false };

  // name -> [title, what it is sorted by, what is in the cell]
  const COLUMNS = {
    host: ["Host", null, (h) => N.hostRef(h.id)],
    shade: ["State", (a, b) => shadeRank(a) - shadeRank(b), (h) => N.shade(h.shade)],
    problems: ["Problems", (a, b) => a.level - b.level || a.problems.length - b.problems.length,
      (h) => (h.level ? [N.level(h.level), " ", problemsOf(h)] : N.heard(h) ? "none" : "not known")],
    site: ["Site", (a, b) => N.natural(a.site, b.site), (h) => N.bdi(h.site)],
    tier: ["Tier", (a, b) => N.natural(a.tier, b.tier), (h) => N.bdi(N.tierName(h.tier))],
    hurts: ["Would shut", (a, b) => number(a.hurts) - number(b.hurts),
      (h) => (h.hurts === null ? "not reported" : N.counted(h.hurts, "port"))],
    left: ["Leftovers", (a, b) => number(a.left) - number(b.left),
      (h) => (h.left === null ? "not reported" : N.number(h.left))],
    reached: ["Reached", (a, b) => missed(a) - missed(b),
      (h) => (h.tried === null ? "not verified" : `${N.number(h.reached)} of ${N.number(h.tried)}`)],
    overlay: ["Overlay", (a, b) => N.natural(a.overlay || "", b.overlay || ""), (h) => h.overlay || "none"],
    version: ["Version", (a, b) => N.natural(a.version || "", b.version || ""),
      (h) => N.bdi(h.version || "not reported")],
  };
  // Whoever is lost or silent has none to tell of: that is what is wrong with it.
  const problemsOf = (h) =>
    (h.problems.length ? h.problems.map((one, at) => [at ? ", " : "", N.bdi(one)]) : h.shade);
  const missed = (h) => (h.tried === null ? -1 : h.tried - h.reached);

  N.hosts = {
    title: () => "Hosts",
    render(route) {
      const q = route.query;
      const found = sorted(matching(q), q);
      const size = N.printing ? ON_PAPER : PAGE;
      const pages = Math.max(1, Math.ceil(found.length / size));
      const page = N.printing ? 1 : Math.min(pages, Math.max(1, Math.floor(Number(q.get("page"))) || 1));
      const shown = found.slice((page - 1) * size, page * size);
      return [
        el("h1", { tabindex: "-1", "data-key": "h1" }, "Hosts"),
        filters(q),
        el("p", { role: "status", "data-key": "count" },
          `${N.number(found.length)} of ${N.counted(S.hosts.size, "host")}`,
          q.get("q") ? [" with ", el("b", null, N.bdi(q.get("q")))] : "", ". ",
          [...q.keys()].some((one) => one !== "sort" && one !== "page")
            ? el("a", { href: "#/hosts" }, "Show all") : ""),
        found.length
          ? N.table(`Hosts, page ${page} of ${pages}`, heads(q), shown.map((h) =>
            [h.id, ...Object.values(COLUMNS).map(([, , cell]) => cell(h))]), { className: "hosts" })
          : el("p", null, "No host is like this. Search looks through names, ids, addresses, labels and problems."),
        pager(q, page, pages),
      ];
    },
  };

  function matching(q) {
    const words = (q.get("q") || "").toLowerCase().split(/\s+/).filter(Boolean);
    const [site, tier, shade, problem] = ["site", "tier", "shade", "problem"].map((one) => q.get(one));
    const made = [];
    for (const id of S.order) {
      const h = S.hosts.get(id);
      if (site !== null && h.site !== site) continue;
      if (tier !== null && h.tier !== tier) continue;
      if (shade !== null && h.shade !== shade && AS[shade] !== (h.state === "registered")) continue;
      if (problem === "attention" ? h.level < 2 : problem === "any" ? !h.problems.length
        : problem !== null && !h.problems.includes(problem)) continue;
      if (words.every((word) => h.text.includes(word))) made.push(h);
    }
    return made;
  }

  function sorted(found, q) {
    const sort = q.get("sort") || "host"; // the name of a column, after "-" where the last comes first
    const down = sort.startsWith("-");
    const column = sort.replace("-", "");
    const by = Object.hasOwn(COLUMNS, column) ? COLUMNS[column][1] : null;
    // They come in the order of their ids, and sorting keeps that among equals.
    if (by) found.sort(down ? (a, b) => by(b, a) : by);
    else if (down) found.reverse();
    return found;
  }

  const link = (q, changes) => {
    const made = new URLSearchParams(q);
    for (const [name, value] of Object.entries(changes)) {
      if (value === null || value === "") made.delete(name);
      else made.set(name, value);
    }
    const text = made.toString();
    return text ? `#/hosts?${text}` : "#/hosts";
  };

  function heads(q) {
    const sort = q.get("sort") || "host";
    return Object.entries(COLUMNS).map(([name, [title]]) => {
      const now = sort === name ? "ascending" : sort === `-${name}` ? "descending" : null;
      // The worst first, where there is a worst.
      const first = ["problems", "hurts", "left", "reached", "shade"].includes(name) ? `-${name}` : name;
      const next = sort === first ? (first[0] === "-" ? name : `-${name}`) : first;
      return el("th", { scope: "col", "aria-sort": now },
        el("a", { href: link(q, { sort: next, page: null }), "data-act": "replace" }, title,
          el("span", { "aria-hidden": "true" }, now === "ascending" ? " ▲" : now === "descending" ? " ▼" : "")));
    });
  }

  function filters(q) {
    const sites = S.allSites();
    const tiers = S.tiers.slice(0, 500).map((one) => one.value);
    const codes = new Set();
    for (const one of S.hosts.values()) for (const code of one.problems) codes.add(code);
    const select = (name, title, options) => {
      const value = q.get(name) === null ? "\u0000" : q.get(name);
      if (q.get(name) !== null && !options.some(([one]) => one === value)) options.push([value, value]);
      return el("p", null, el("label", { for: `f-${name}` }, title), " ",
        el("select", { id: `f-${name}`, name, "data-value": value },
          [["\u0000", "all"], ...options].map(([one, text]) =>
            el("option", { value: one, selected: one === value, "data-key": one }, N.safe(text)))));
    };
    return el("form", { class: "filters", id: "filters", "data-key": "filters", "aria-label": "Filters" },
      select("site", "Site", sites.map((one) => [one, one])),
      select("tier", "Tier", tiers.map((one) => [one, N.tierName(one)])),
      select("shade", "State", [...S.shades, ...Object.keys(AS)].map((one) => [one, one])),
      select("problem", "Problem", [["attention", "needs attention"], ["any", "any problem"],
        ...[...codes].sort().map((one) => [one, one])]));
  }

  function pager(q, page, pages) {
    if (pages < 2) return "";
    const to = (number, text) => (number < 1 || number > pages || number === page
      ? el("span", { class: "quiet" }, text)
      : el("a", { href: link(q, { page: number === 1 ? null : number }) }, text));
    return el("nav", { class: "pager", "aria-label": "Pages of the table", "data-key": "pager" },
      to(1, "First"), " ", to(page - 1, "Previous"), ` Page ${page} of ${pages} `,
      to(page + 1, "Next"), " ", to(pages, "Last"));
  }

  /** Another choice: the same entry of the history, and from the first page. */
  N.choose = function (name, value) {
    const { query } = N.route();
    history.replaceState(history.state, "", link(query, { [name]: value === "\u0000" ? null : value, page: null }));
    N.changed();
  };
})(window.Neti);
