/* The fleet in this browser's memory: everything that the views show, and who is told of changes.

   Host rows come as lists in the order of `columns`; here they are objects by id. */
"use strict";
(function (N) {
  const HOUR = 3600;
  const MOST_EVENTS = 500;
  const MOST_SAMPLES = 1440; // a day
  const natural = new Intl.Collator("en", { numeric: true });
  const watchers = [];
  let pending = false;

  const S = (N.store = {
    ready: false,
    copy: null, // of an exported page: { breaks, hosts }
    hosts: new Map(),
    order: [], // ids, "web-2" before "web-10"
    membership: 0, // counts up when hosts come, go, or change site or tier: squares move then
    filter: null, // the shade or "attention" that the map shows alone
    tiers: [], needs: [], events: [], samples: [], sites: [], shades: [], columns: [],
    at: 0, began: 0, key: "", unanswered: null, unheard: "", to: "", version: "", revision: 0,
  });

  N.natural = natural.compare;

  /** Call `watcher` once before the next frame after anything has changed. */
  N.watch = (watcher) => watchers.push(watcher);
  N.changed = function () {
    // A tab that nobody sees draws nothing until somebody does.
    if (document.hidden && S.ready && N.retitle) N.retitle();
    if (pending) return;
    pending = true;
    requestAnimationFrame(() => {
      pending = false;
      for (const watcher of watchers) watcher();
    });
  };

  function host(row) {
    const made = {};
    S.columns.forEach((name, at) => { made[name] = row[at]; });
    const labels = Object.entries(made.labels).map(([key, value]) => `${key}=${value}`);
    // What a search looks through, made once.
    made.text = [made.id, made.name, made.overlay, made.private, made.public, ...labels, ...made.problems]
      .filter(Boolean).join(" ").toLowerCase();
    return made;
  }

  function common(data) {
    for (const name of ["at", "sites", "key", "unanswered", "unheard", "to", "needs", "tiers", "revision"]) {
      if (name in data) S[name] = data[name];
    }
    S.tiers.sort((a, b) => (a.value === "?") - (b.value === "?") || natural.compare(a.value, b.value));
  }

  /** Everything anew. */
  S.whole = function (data) {
    S.columns = data.columns;
    S.shades = data.shades;
    S.hosts = new Map(data.hosts.map((row) => { const one = host(row); return [one.id, one]; }));
    S.order = [...S.hosts.keys()].sort(natural.compare);
    S.membership += 1;
    S.events = data.events;
    S.samples = data.samples;
    S.version = data.version;
    S.began = data.began;
    common(data);
    sayCritical(S.ready);
    S.ready = true;
    N.changed();
  };

  /** What has changed since. */
  S.change = function (data) {
    let other = false; // whether anybody came or went
    for (const row of data.hosts) {
      const now = host(row);
      const before = S.hosts.get(now.id);
      if (!before) other = true;
      if (!before || before.site !== now.site || before.tier !== now.tier) S.membership += 1;
      S.hosts.set(now.id, now);
    }
    for (const id of data.gone) other = S.hosts.delete(id) || other;
    if (other) {
      S.order = [...S.hosts.keys()].sort(natural.compare);
      S.membership += 1;
    }
    S.events = [...S.events, ...data.events].slice(-MOST_EVENTS);
    const last = S.samples.length ? S.samples[S.samples.length - 1][0] : 0;
    if (data.sample && data.sample[0] > last) {
      S.samples = [...S.samples, data.sample].slice(-MOST_SAMPLES);
    }
    common(data);
    sayCritical(true);
    N.changed();
  };

  /** Newest first, of the last hour. */
  S.lastHour = () => S.events.filter((one) => one.at >= S.at - HOUR).reverse();

  /** How many hosts look like what: over all, or of one site. */
  S.count = function (site) {
    const made = { hosts: 0, registered: 0, attention: 0, critical: 0 };
    for (const shade of S.shades) made[shade] = 0;
    for (const one of S.hosts.values()) {
      if (site !== undefined && one.site !== site) continue;
      made.hosts += 1;
      made[one.shade] = (made[one.shade] || 0) + 1;
      if (one.state === "registered") made.registered += 1;
      if (one.level >= 2) made.attention += 1;
      if (one.level >= 3) made.critical += 1;
    }
    return made;
  };

  /** Sites as they are to be shown, also those that only hosts name. */
  S.allSites = function () {
    const found = new Set(S.sites);
    for (const one of S.hosts.values()) found.add(one.site);
    return [...found];
  };

  /** Whether the map shows this host, by the legend's filter. */
  S.passes = (one) =>
    S.filter === null || (S.filter === "attention" ? one.level >= 2 : one.shade === S.filter);

  // --- told to screen readers ---

  let known = new Set();
  function sayCritical(aloud) {
    const now = S.needs.filter((one) => one.severity === "critical");
    for (const one of now) {
      if (aloud && !known.has(one.code)) N.say(`New and critical: ${N.safe(one.what)}`);
    }
    known = new Set(now.map((one) => one.code));
  }

  /** Read out, politely. */
  N.say = function (text) {
    const log = document.getElementById("said");
    log.append(N.el("p", null, text));
    while (log.childNodes.length > 3) log.firstChild.remove();
  };
})(window.Neti);
