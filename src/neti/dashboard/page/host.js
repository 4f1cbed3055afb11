/* One host: all that it says of itself, what others say of it, and what to do. */
"use strict";
(function (N) {
  const el = N.el;
  const S = N.store;
  const AGAIN = 5_000; // ms, where something of it has changed
  const ANYWAY = 60_000; // ms
  const QUESTIONS = { move: "May it move?", enforce: "May it be enforced?", retire: "May it be retired?" };
  const state = { id: null, data: null, at: 0, asked: 0, seen: null, missing: false, failed: null, timer: null };

  async function read(id) {
    state.asked = Date.now();
    state.seen = S.hosts.get(id);
    try {
      const data = S.copy ? S.copy.hosts[id]
        : await (await N.live.get(`data/host?id=${encodeURIComponent(id)}`)).json();
      if (state.id !== id) return;
      Object.assign(state, { data: data || null, missing: !data, at: S.copy ? S.at : Date.now() / 1000,
        failed: null });
    } catch (error) {
      if (state.id !== id) return;
      if (error.status === 404) state.missing = true;
      else state.failed = error.message;
    }
    N.changed();
  }

  N.host = {
    title: (route) => N.safe(route.id),
    enter(route) {
      if (state.id !== route.id) Object.assign(state,
        { id: route.id, data: null, at: 0, missing: false, failed: null });
      read(route.id);
    },
    render(route) {
      const host = S.hosts.get(route.id);
      again(route.id, host);
      const heading = el("h1", { tabindex: "-1", "data-key": "h1" }, "Host ", N.bdi(route.id),
        host && host.name && host.name !== host.id ? el("small", null, " ", N.bdi(host.name)) : "");
      if (!host) {
        return [heading, el("p", null, state.missing || S.ready
          ? "Nobody has this id now. It may have been retired, or the link is old. " : "Reading. ",
        el("a", { href: "#/hosts" }, "All hosts"))];
      }
      const d = state.data;
      return [
        heading,
        el("p", { class: "standing", "data-key": "standing" }, standing(host, d && d.said)),
        state.failed ? el("p", { class: "notice", "data-key": "failed" },
          `Its details could not be read: ${state.failed}.`) : "",
        d ? [
          N.section("problems", "Problems", problems(host, d)),
          N.section("ready", "Is it ready?", findings(d)),
          el("div", { class: "pair", "data-key": "pair-1" },
            N.section("facts", "What it is", facts(host, d)),
            N.section("day", "Its last day", day(d))),
          N.section("shut", "Ports that enforcing would shut", shut(d.said)),
          N.section("calls", "Whom it calls by real addresses (leftovers)", calls(d.said)),
          N.section("callers", "Who calls it by a real address", callers(d.callers)),
          N.section("verified", "Its last verification", verified(d.said)),
          el("p", { class: "quiet", "data-key": "read" }, "Read at ", N.time(state.at), "."),
        ] : el("p", null, "Reading its details."),
      ];
    },
  };

  /** Read anew once something of it has changed, but not each second. */
  function again(id, host) {
    if (S.copy || !host || state.id !== id || N.live.state !== "live") return;
    const since = Date.now() - state.asked;
    if (since > ANYWAY || (since > AGAIN && host !== state.seen)) read(id);
    else if (host !== state.seen && !state.timer) {
      state.timer = setTimeout(() => { state.timer = null; N.changed(); }, AGAIN);
    }
  }

  function standing(host, said) {
    const order = (one) => (one ? [one.by ? [" by ", N.bdi(one.by)] : "", one.at ? [" at ", N.time(one.at)] : "",
      one.until ? [", until ", N.time(one.until)] : ""] : "");
    return [
      el("b", null, N.shade(host.shade)), `, ${N.SHADES[host.shade] || host.state}`, ". In site ", N.bdi(host.site), N.store.to ? (host.site === N.store.to ? " (moved)" : " (to be moved)") : "",
      host.tier && host.tier !== "?" ? [", tier ", N.bdi(host.tier)] : "", ". ",
      host.state === "registered" ? "Registered. " : [`Not registered: ${host.state}`,
        host.since ? [", since ", N.time(host.since)] : "", ". "],
      said && said.down ? ["Taken down", order(said.down), ". "] : "",
      said && said.relaxed ? ["Relaxed", order(said.relaxed), ". "] : "",
    ];
  }

  function problems(host, d) {
    if (!d.problems.length) {
      if (!N.heard(host)) return el("p", null, "Nobody knows: it says nothing now.");
      return d.said && d.said.problems ? el("p", null, "None on this host. Whether it is ready for the next step is another question: see below.") : el("p", null, "It has not reported that.");
    }
    return el("ul", { class: "needs" }, d.problems.map((one) =>
      el("li", { class: `need is-${one.severity}`, "data-key": `p-${one.code}` },
        el("p", { class: "need-what" }, N.severity(one.severity), " ", el("b", null, N.bdi(one.code)), ": ",
          N.bdi(one.meaning), "."),
        one.remedy ? el("p", null, "What to do: ", N.bdi(one.remedy), ".") : "",
        el("p", null, N.commandLine("neti status", "on the host")))));
  }

  const WORST = { green: 0, yellow: 1, red: 2 };
  function findings(d) {
    return el("div", { class: "questions" }, Object.entries(QUESTIONS).map(([key, question]) => {
      const those = d.findings.filter((one) => one.of.includes(key)).sort((a, b) => WORST[b.light] - WORST[a.light]);
      return el("div", { class: "question", "data-key": `q-${key}` },
        el("h3", null, question, " ", those.length ? N.light(those[0].light, true) : ""),
        those.length
          ? el("ul", { class: "findings" }, those.map((one) => el("li", null,
            el("p", null, N.light(one.light), " ", N.bdi(one.what)),
            one.then.map((line) => {
              const { command, where, more } = N.step(line);
              return el("p", null, command ? [N.commandLine(command, where), " "] : "", more ? N.bdi(more) : "");
            }))))
          : el("p", null, "Nothing is known about that."));
    }));
  }

  function facts(host, d) {
    const said = d.said || {};
    const row = (name, ...value) => [el("dt", null, name), el("dd", null, value)];
    const when = (at) => (at ? N.time(at) : "not reported");
    return el("dl", { class: "pairs" },
      row("Overlay address", host.overlay || "none"),
      row("Private address", host.private || "none"),
      row("Public address", host.public || "none"),
      d.more.length ? row("More addresses", d.more.join(", ")) : "",
      row("Labels", Object.keys(host.labels).length
        ? Object.entries(host.labels).map(([key, value], at) => [at ? ", " : "", N.bdi(`${key}=${value}`)]) : "none"),
      row("Version", N.bdi(host.version || "not reported"),
        said.installed ? [", installed as ", N.bdi(said.installed)] : ""),
      row("Configuration read", when(said.config_read),
        said.config_unread ? [". ", N.severity("note"), " neti.yml was changed at ", N.time(said.config_unread),
          " and not read. ", N.commandLine("neti reload", "on the host")] : ""),
      row("Last report", when(host.written)),
      row("Encryption", said.encryption ? N.bdi(said.encryption) : "not reported"),
      row("Member ports", said.member_ports ? N.bdi(said.member_ports) : "not reported"),
      said.openings ? row("Ports open for a time", N.number(said.openings)) : "",
      d.gateway ? row("Gateway", N.bdi(typeof d.gateway === "string" ? d.gateway : JSON.stringify(d.gateway))) : "",
      row("Drained", d.drained ? "yes" : "no"),
      row("Called by members", calledBy(said.calls)),
    );
  }

  function calledBy(calls) {
    if (!calls) return "it has not reported that";
    return [calls.last ? ["the last time at ", N.time(calls.last)] : "not once", ", watched since ",
      N.time(calls.since),
      calls.open === null || calls.open === undefined ? "" : `; ${N.counted(calls.open, "connection")} open`];
  }

  function shut(said) {
    if (!said || !said.hurts) return el("p", null, "It has not reported that.");
    const at = said.hurts.at || [];
    const since = said.hurts.since ? [" It has watched since ", N.time(said.hurts.since), "."] : "";
    if (!said.hurts.ports) return el("p", { class: "good" }, "None that is in use.", since);
    return [
      N.table("Ports that enforcing would shut", ["Port", "Sources", "From"], at.map(([port, sources, networks]) =>
        [port, el("code", null, N.bdi(port)), N.number(sources),
          networks && networks.length ? N.bdi(networks.join(", ")) : "not reported"]), { captionHidden: true }),
      said.hurts.ports > at.length ? el("p", { class: "notice" },
        `${N.number(said.hurts.ports - at.length)} more that it had no room to name.`) : "",
      el("p", null, N.commandLine("neti preview", "on the host"), " names them all, with the lines for open_ports.", since),
    ];
  }

  function calls(said) {
    if (!said || said.left === null || said.left === undefined) return el("p", null, "It has not reported that.");
    if (!said.left.length) {
      return el("p", { class: "good" }, "Nobody", said.left_since ? [", watched since ",
        N.time(said.left_since)] : "", ".");
    }
    return [
      N.table("Members that it calls by real addresses", ["Server", "Port", "Calls", "Last"], said.left.map((one) =>
        [`${one.to}-${one.port}`, N.hostRef(one.to, true), el("code", null, N.bdi(one.port)),
          N.number(one.calls), N.time(one.last)]), { captionHidden: true }),
      said.left_more ? el("p", { class: "notice" }, `${N.number(said.left_more)} more.`) : "",
      el("p", null, N.commandLine("neti leftovers", "on the host"), " says which programs they are."),
    ];
  }

  function callers(found) {
    if (!found.length) return el("p", { class: "good" }, "Nobody, as far as hosts say.");
    return N.table("Members that call it by a real address", ["Client", "Port", "Calls", "Last"], found.map((one) =>
      [`${one.from}-${one.port}`, N.hostRef(one.from, true), el("code", null, N.bdi(one.port)),
        N.number(one.calls), N.time(one.last)]), { captionHidden: true });
  }

  function verified(said) {
    const row = said && said.verified;
    if (!row) return el("p", null, "It has not verified in this run of its agent. ",
      N.commandLine("neti verify", "on the host"));
    return el("p", null, row.reached < row.tried ? N.severity("warning") : N.severity("fine"),
      ` It reached ${N.number(row.reached)} of ${N.counted(row.tried, "member")} that it tried, at `,
        N.time(row.at), ". ",
      row.missed.length ? ["Not reached: ", row.missed.map((id, at) => [at ? ", " : "", N.hostRef(id)]),
        row.missed_more ? ` and ${N.number(row.missed_more)} more` : "", "."] : "");
  }

  function day(d) {
    return [
      el("p", { class: "quiet" }, "The dashboard has been watching since ", N.time(d.since),
        "; of what was before, it knows nothing."),
      d.events.length ? N.events([...d.events].reverse(), true) : el("p", null, "Nothing has happened since."),
    ];
  }
})(window.Neti);
