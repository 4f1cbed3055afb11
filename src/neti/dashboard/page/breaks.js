/* "What would break": what enforcing would shut, who still calls by real addresses, and which site
   reaches which. Asked for when somebody looks, since the server has to count for it. */
"use strict";
(function (N) {
  const el = N.el;
  const AGAIN = 60_000; // ms
  const MOST = 200; // rows at first
  const state = { data: null, at: 0, next: 0, failed: null, busy: false, all: false };

  async function read() {
    if (state.busy) return;
    state.busy = true;
    const began = Date.now();
    try {
      state.data = N.store.copy ? N.store.copy.breaks : await (await N.live.get("data/breaks")).json();
      state.at = N.store.copy ? N.store.at : Date.now() / 1000;
      state.failed = null;
      // What keeps a server of a large fleet busy for long is not asked for each minute.
      state.next = Date.now() + Math.max(AGAIN, 10 * (Date.now() - began));
    } catch (error) {
      state.failed = error.message;
    }
    state.busy = false;
    N.changed();
  }

  N.breaks = {
    title: () => "What would break",
    enter: read,
    render() {
      if (!N.store.copy && state.at && Date.now() > state.next && !state.failed) read();
      return [
        el("h1", { tabindex: "-1", "data-key": "h1" }, "What would break"),
        el("p", { class: "quiet", "data-key": "read" },
          state.at ? ["Read at ", N.time(state.at), ". "]
            : "Reading. The server counts this anew; with thousands of hosts that takes a while. ",
          state.failed ? `Not read anew: ${state.failed}. ` : "",
          N.store.copy || !state.at ? "" : el("button", { type: "button", "data-act": "read-breaks" },
            state.busy ? "Reading" : "Read again")),
        state.data ? [ports(state.data), leftovers(state.data), reach(state.data.reach)] : "",
      ];
    },
  };

  function ports(data) {
    const rows = data.ports.flatMap((tier) => tier.lost.ports.map((port) => [
      `${tier.value}-${port.port}`,
      N.bdi(N.tierName(tier.value)),
      el("code", null, N.bdi(port.port)),
      N.hostRefs(port.hosts, port.hosts.length, `${tier.value}-${port.port}`),
      N.number(port.sources),
      port.line
        ? [N.commandLine(port.line), port.wider ? el("small", null,
          port.line.includes("from:") ? " wider than needed: also lets in others of these networks"
            : " lets everybody in: some host could not name who comes") : ""]
        : "open_ports cannot let in all of it: look with 'neti preview' on the host",
    ]));
    const silent = data.ports.flatMap((tier) => tier.lost.silent);
    const young = data.ports.flatMap((tier) => tier.lost.young);
    const cut = data.ports.flatMap((tier) => Object.entries(tier.lost.cut));
    return N.section("ports", "Ports that enforcing would shut",
      el("p", null, "These ports are in use by machines that are not members. Enforcing shuts them, ",
        "unless a line in ", el("code", null, "open_ports"), " of neti.yml lets them in."),
      cut.length ? el("p", { class: "notice" }, el("b", null, "Not all is listed here: "),
        `${N.counted(cut.length, "host has", "hosts have")} more such ports than they could list. `,
        N.commandLine("neti preview", "on the host")) : "",
      rows.length
        ? N.table("Ports that enforcing would shut, by tier",
          ["Tier", "Port", "Hosts", "Sources", "Line for open_ports"], rows, { captionHidden: true })
        : el("p", { class: "good" }, "None, as far as hosts say."),
      silent.length ? el("div", { class: "notice" },
        `${N.counted(silent.length, "host does", "hosts do")} not say, so nobody knows of: `,
        N.hostRefs(silent, silent.length, "ports-silent")) : "",
      young.length ? el("div", { class: "notice" },
        `${N.counted(young.length, "host has", "hosts have")} watched for less than a day, so what runs `,
        "daily may not have come yet: ", N.hostRefs(young, young.length, "ports-young")) : "",
      cut.length ? el("details", { "data-key": "cut" },
        el("summary", null, "Hosts of which more ports are not listed"),
        cut.slice(0, MOST).map(([id, more], at) => [at ? ", " : "", N.hostRef(id), ` (${N.number(more)} more)`])) : "");
  }

  function leftovers(data) {
    const left = state.all || N.printing ? data.leftovers : data.leftovers.slice(0, MOST);
    const rows = left.map((one) => [
      `${one.from}-${one.to}-${one.port}`,
      N.hostRef(one.from, true), ["→ ", N.hostRef(one.to, true)], el("code", null, N.bdi(one.port)),
      N.number(one.calls), N.time(one.last),
    ]);
    return N.section("leftovers", "Leftovers: who still calls by real addresses",
      el("p", null, "Such a call ends in the wrong place once the server has moved. Point the client at ",
        "the overlay address. ", N.commandLine("neti leftovers", "on the client")),
      rows.length
        ? N.table("Leftovers, by server and by the last call", ["Client", "Server", "Port", "Calls", "Last"],
          rows, { captionHidden: true })
        : el("p", { class: "good" }, "None, as far as hosts say."),
      data.leftovers.length > MOST
        ? el("button", { type: "button", "data-act": "all-leftovers" },
          state.all ? "Show fewer" : `Show all ${N.number(data.leftovers.length)}`) : "",
      data.leftovers_cut ? el("p", { class: "notice" }, `${N.number(data.leftovers_cut)} more are not shown: `,
        N.commandLine("neti fleet leftovers")) : "",
      data.leftovers_silent.length ? el("div", { class: "notice" },
        `${N.counted(data.leftovers_silent.length, "host does", "hosts do")} not say whom they call: `,
        N.hostRefs(data.leftovers_silent.slice(0, 200), data.leftovers_silent.length, "left-silent")) : "");
  }

  function reach(found) {
    const sites = [...new Set([...Object.keys(found.pairs),
      ...Object.values(found.pairs).flatMap(Object.keys)])].sort(N.natural);
    const rows = sites.map((from) => [from, N.bdi(from), ...sites.map((to) => {
      const pair = (found.pairs[from] || {})[to];
      if (!pair) return "nobody has verified";
      const [all, some, unknown] = pair;
      return [
        some ? [N.severity("warning"), ` ${N.counted(some, "host")} missed some, `] : [N.severity("fine"), " "],
        `${N.number(all)} reached all that they tried`, unknown ? `, of ${N.number(unknown)} nobody can say` : "",
      ];
    })]);
    const targets = found.targets.slice(0, MOST).map((one) => [
      one.id, N.hostRef(one.id, true), `${N.number(one.by.length)} of ${N.number(one.of)}`,
      N.hostRefs(one.by, one.by.length, `target-${one.id}`),
    ]);
    return N.section("reach", "Reachability between sites",
      el("p", null, "What hosts saw at their last verification. ", N.commandLine("neti fleet verify --wait")),
      rows.length
        ? N.table("Which site's hosts reach which site", ["From", ...sites.map((to) => ["To ", N.bdi(to)])],
          rows, { captionHidden: true })
        : el("p", { class: "notice" }, "Nobody has verified yet."),
      targets.length
        ? [el("h3", null, "Hosts that others did not reach"),
          N.table("Hosts that others did not reach, the worst first",
            ["Host", "Not reached by", "Who says so"], targets, { captionHidden: true })]
        : "",
      found.silent.length ? el("div", { class: "notice" },
        `${N.counted(found.silent.length, "host has", "hosts have")} not verified: `,
        N.hostRefs(found.silent.slice(0, 200), found.silent.length, "reach-silent")) : "");
  }

  N.acts["read-breaks"] = read;
  N.acts["all-leftovers"] = () => { state.all = !state.all; N.changed(); };
})(window.Neti);
