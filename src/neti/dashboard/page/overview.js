/* The first view: how far the migration is, what is wrong, with which hosts, and what to type. */
"use strict";
(function (N) {
  const el = N.el;
  const S = N.store;
  const FEW_EVENTS = 25;
  const MOST_TIERS = 60; // rows of the table
  const state = { allEvents: false, held: null };

  N.overview = {
    title: () => "Fleet",
    render() {
      const count = S.count();
      return [
        el("h1", { tabindex: "-1", "data-key": "h1" }, "The fleet"),
        el("p", { class: "quiet intro", "data-key": "intro" },
          "Each host starts in shadow (nothing is dropped), goes through a trial, and ends up enforced ",
          "(only members and open ports get in)", S.to ? [", and moves to site ", N.bdi(S.to), "."] : "."),
        totals(count),
        strip(count),
        el("div", { class: "first", "data-key": "first" },
          N.section("needs", "What needs attention now", needs()),
          N.section("map", "Every host, by site and tier", legend(count), filtered(), maps()),
          N.section("tiers", "Tier by tier", tiers())),
        el("div", { class: "pair", "data-key": "pair" },
          N.section("events", "Last hour", lastHour()),
          N.section("went", "How it went", went())),
      ];
    },
    after() {
      N.drawMaps();
      N.drawChart();
    },
  };

  /** In words, for whoever reads one line only. */
  function totals(count) {
    const of = N.number(count.hosts);
    const fact = (key, part, what, href) =>
      el("li", { class: `fact fact-${key}` },
        el("a", { href }, el("b", null, N.number(part)), ` of ${of} ${what}`));
    return el("ul", { class: "facts", "data-key": "facts" },
      fact("enforced", count.enforced, "enforced", "#/hosts?shade=enforced"),
      fact("registered", count.registered, "registered", "#/hosts?shade=registered"),
      ...S.allSites().map((site) =>
        el("li", { class: "fact" }, el("a", { href: `#/hosts?site=${encodeURIComponent(site)}` },
          el("b", null, N.number(S.count(site).hosts)), site === S.to ? ` of ${of} moved, to ` : S.to ? " still in " : " in ",
          N.bdi(site === "?" ? "a site not known" : site)))),
      el("li", { class: `fact ${count.critical ? "is-critical" : count.attention ? "is-warning" : ""}` },
        el("a", { href: "#/hosts?problem=attention" }, el("b", null, N.number(count.attention)),
          count.attention === 1 ? " needs attention" : " need attention",
          count.critical ? `, ${count.critical === count.attention ? "" : `${N.number(count.critical)} of them `}critical` : "")));
  }

  /** All hosts as one bar, from the best to the worst. The numbers are in the legend. */
  function strip(count) {
    return el("div", { class: "strip", "data-key": "strip", "aria-hidden": "true" },
      S.shades.filter((one) => count[one]).map((one) =>
      el("span", { class: `part s-${one}`, "data-key": one, width: `${(100 * count[one]) / count.hosts}%` })));
  }

  function legend(count) {
    const button = (value, ...inside) =>
      el("li", null, el("button", {
        type: "button", "data-act": "filter", "data-value": value,
        "aria-pressed": String(S.filter === value), title: N.SHADES[value],
      }, inside));
    return el("div", { class: "legend", "data-key": "legend" },
      el("ul", { "aria-label": "Show only hosts that are" },
        S.shades.filter((one) => count[one] > 0 || one === "enforced" || S.filter === one).map((one) =>
          button(one, N.shade(one), " ", el("b", null, N.number(count[one])))),
        button("attention", el("span", { "aria-hidden": "true" }, "✕▲"), " need attention ", el("b", null,
          N.number(count.attention)))),
      el("p", { class: "quiet" }, "✕ critical problem, ▲ warning, – note. Hollow: not registered. ",
        "Point at a square to see the host, click to open it."));
  }

  function filtered() {
    if (S.filter === null) return "";
    const many = S.order.filter((id) => S.passes(S.hosts.get(id))).length;
    const what = S.filter === "attention" ? "that need attention" : `that are ${S.filter}`;
    const href = S.filter === "attention" ? "#/hosts?problem=attention" : `#/hosts?shade=${S.filter}`;
    return el("p", { class: "filtered", "data-key": "filtered" },
      `Showing the ${N.counted(many, "host")} ${what}${N.SHADES[S.filter] ? ` (${N.SHADES[S.filter]})` : ""}. `,
      el("a", { href }, "List them"), " ",
      el("button", { type: "button", "data-act": "filter", "data-value": S.filter }, "Show all"));
  }

  function maps() {
    return el("div", { class: "sites", "data-key": "sites" }, S.allSites().map((site) => {
      const count = S.count(site);
      return el("div", { class: "site", "data-key": `site-${site}` },
        el("h3", null, "Site ", N.bdi(site === "?" ? "not known" : site), site === S.to ? " (new)" : "",
          el("small", null, `: ${N.counted(count.hosts, "host")}, ${N.number(count.enforced)} enforced`)),
        el("div", { class: "map", "data-own": "map", "data-site": site, "data-key": `map-${site}` }),
        el("ul", { class: "hidden" }, S.shades.filter((one) => count[one]).map((one) =>
          el("li", null, `${N.number(count[one])} ${one}`))));
    }));
  }

  /** Where all the hosts of a need can be listed. */
  function listOf(need) {
    if (Object.hasOwn(N.SHADES, need.code)) return `#/hosts?shade=${need.code}`;
    if (need.code.startsWith("problem ")) {
      return `#/hosts?problem=${encodeURIComponent(need.code.slice("problem ".length))}`;
    }
    return { leftovers: "#/breaks", hurts: "#/breaks", unreached: "#/breaks" }[need.code] || null;
  }

  function needs() {
    if (!S.hosts.size) {
      return [el("p", null, "No host has registered yet."), el("p", null, N.commandLine("neti status",
        "on a host"), " says why.")];
    }
    if (!S.needs.length) return el("p", { class: "good" },
      "Nothing. All hosts that are registered say that all is well.");
    return el("ol", { class: "needs", "data-key": "needs-list" }, S.needs.map((one) => {
      const list = listOf(one);
      return el("li", { class: `need is-${one.severity}`, "data-key": `need-${one.code}` },
        el("p", { class: "need-what" }, N.severity(one.severity), " ", N.bdi(one.what)),
        one.remedy ? el("p", null, N.bdi(one.remedy), /[.!?]$/.test(one.remedy) ? "" : ".") : "",
        one.hosts.length
          ? el("div", { class: "need-hosts" }, list && one.count > 1 ? [el("a", { href: list },
            `All ${N.number(one.count)} hosts`), ": "] : "",
            N.hostRefs(one.hosts, one.count, one.code))
          : "",
        one.then.length
          ? el("ul", { class: "commands" }, one.then.map((text) => {
            const { where, text: typed } = N.command(text);
            return el("li", null, N.commandLine(typed, where));
          }))
          : "");
    }));
  }

  /** So many of those who say; and how many do not, which is not the same as no. */
  function of(count, said, all) {
    const rest = all - said;
    return [said ? N.bar(count, said) : "", rest > 0 ? el("small", null, ` not known: ${N.number(rest)}`) : ""];
  }

  function tiers() {
    const sites = S.allSites();
    const shown = S.tiers.slice(0, MOST_TIERS);
    const heads = ["Tier", "Hosts", "Registered", "Reached all", "No leftovers", "Enforced",
      ...sites.map((site) => [site === S.to ? "Moved to " : "In ", N.bdi(site)])];
    const rows = shown.map((one) => [
      one.value,
      el("a", { href: `#/hosts?tier=${encodeURIComponent(one.value)}` }, N.bdi(N.tierName(one.value))),
      N.number(one.hosts),
      N.bar(one.agents, one.hosts), of(one.reach, one.verified, one.agents), of(one.clean, one.told, one.agents),
      N.bar(one.enforced, one.hosts),
      ...sites.map((site) => N.bar(one.sites[site] || 0, one.hosts)),
    ]);
    return [
      el("p", { class: "quiet" },
        S.key ? ["Tiers are the values of the label ", el("code", null, N.bdi(S.key)),
          "; 'neti dashboard --by LABEL' chooses another. "] : "No host has labels. Set them with 'labels' in neti.yml. ",
        "Reached all: of the hosts that have verified since their agent started, those that reached each member. ",
        "No leftovers: it calls no member by a real address. ",
        S.tiers.some((one) => one.value === "?") ? "Not known: hosts that are away, or say nothing, have no labels to go by." : ""),
      N.table("Tiers: how many hosts are how far", heads, rows, { captionHidden: true, className: "tiers" }),
      S.tiers.length > MOST_TIERS
        ? el("p", null, `${N.number(S.tiers.length - MOST_TIERS)} more tiers are not shown.`) : "",
    ];
  }

  function lastHour() {
    // While somebody points at the list or is in it, it stands still: nobody should click the wrong
    // host because a line was put above it.
    const now = S.lastHour();
    const still = document.querySelector("#events .events:hover, #events .events:focus-within");
    const events = still && state.held ? state.held : now;
    state.held = events;
    const waiting = now.length && events.length ? now.findIndex((one) => one === events[0]) : 0;
    const shown = state.allEvents || N.printing ? events : events.slice(0, FEW_EVENTS);
    return [
      el("p", { class: "quiet" }, "Watched since ", N.time(S.began), ". Times are in ", N.zone(), ".",
        waiting > 0 ? el("b", null, ` ${N.counted(waiting, "new event")}: they show once you point elsewhere.`) : ""),
      events.length ? N.events(shown) : el("p", null, "Nothing has happened."),
      events.length > FEW_EVENTS
        ? el("button", { type: "button", "data-act": "all-events" },
          state.allEvents ? "Show fewer" : `Show all ${N.number(events.length)}`) : "",
    ];
  }

  function went() {
    if (S.samples.length < 2) {
      const now = N.sampleInWords();
      return el("p", null, "The chart begins with the second minute of watching.", now ? ` Now: ${now}.` : "");
    }
    return [
      el("div", { class: "chart", "data-own": "chart", "data-key": "chart", role: "img",
        "aria-label": `Hosts by shade over time. First ${N.sampleInWords(0)}. Last ${N.sampleInWords()}.` }),
      el("p", { id: "chart-says", class: "quiet", "data-own": "text" }, N.sampleInWords()),
      el("ul", { class: "keys" }, S.shades.map((one) => el("li", null, N.shade(one)))),
    ];
  }

  N.acts = {
    filter(button) {
      const value = button.dataset.value;
      S.filter = S.filter === value ? null : value;
      N.changed();
    },
    "all-events"() {
      state.allEvents = !state.allEvents;
      state.held = null;
      N.changed();
    },
  };
})(window.Neti);
