/* How the page says things: numbers, times, and what each shade, state and column means. */
"use strict";
(function (N) {
  /** What a host looks like, for people who meet the word here first. */
  N.SHADES = {
    enforced: "rules are in force: strangers are dropped",
    trial: "strangers are dropped until a deadline, then no more unless it is confirmed",
    shadow: "nothing is dropped yet",
    relaxed: "an operator turned enforcement off",
    down: "an operator took Neti out of the kernel",
    silent: "registered, but its agent says nothing",
    lost: "gone without a word",
    held: "lost, and its removal is held until somebody decides",
    away: "has a lease, and is not registered",
  };
  const UNHEARD = ["silent", "lost", "held", "away"];
  /** Whether a host says how it is: else that it names no problem is no good news. */
  N.heard = (host) => !UNHEARD.includes(host.shade);
  N.LEVELS = ["fine", "note", "warning", "critical"];

  const grouped = new Intl.NumberFormat("en");
  N.number = (value) => (value === null || value === undefined ? "?" : grouped.format(value));
  N.counted = (count, one, many) => `${N.number(count)} ${count === 1 ? one : many || one + "s"}`;
  N.percent = function (part, whole) {
    if (!whole) return "0%";
    // Never "100%" while one is missing, nor "0%" where there is one.
    const share = (100 * part) / whole;
    if (share > 99 && part < whole) return "99%";
    if (share < 1 && part > 0) return "1%";
    return `${Math.round(share)}%`;
  };

  const two = (value) => String(value).padStart(2, "0");
  const clockOf = (date) => `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  const dayOf = (date) => `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;

  /** Unix seconds as "14:03:22", with the day where that is not today. */
  N.clock = function (seconds) {
    const date = new Date(seconds * 1000);
    return dayOf(date) === dayOf(new Date()) ? clockOf(date) : `${dayOf(date)} ${clockOf(date)}`;
  };
  N.moment = (seconds) => {
    const date = new Date(seconds * 1000);
    return `${dayOf(date)} ${clockOf(date)}`;
  };
  N.time = (seconds) =>
    N.el("time", { datetime: new Date(seconds * 1000).toISOString() }, N.clock(seconds));
  N.zone = () => Intl.DateTimeFormat().resolvedOptions().timeZone || "this browser's";

  /** A tier's name, also where it has none. */
  N.tierName = function (tier) {
    if (tier === "?") return "tier not known";
    if (tier !== "") return tier;
    return N.store.key ? `without label ${N.store.key}` : "all hosts";
  };

  /** One host in words, for tips and screen readers. Plain text. */
  N.hostInWords = function (host) {
    const parts = [N.apart(host.name || host.id)];
    if (host.name && host.name !== host.id) parts[0] += ` (${host.id})`;
    parts.push(host.shade, `in ${N.apart(host.site)}`);
    if (host.tier && host.tier !== "?") parts.push(`tier ${N.apart(host.tier)}`);
    if (host.problems.length) {
      parts.push(`${N.LEVELS[host.level] || "problem"}: ${host.problems.map(N.apart).join(", ")}`);
    } else if (host.level >= 2) parts.push("needs attention");
    return parts.join(", ");
  };

  /** A command as the server writes it: "there: X" has to be typed on the hosts that it is about. */
  N.command = (text) =>
    text.startsWith("there: ")
      ? { where: "on the host", text: text.slice(7) }
      : { where: "on an operator's machine", text };

  /** A line of a finding, "→ COMMAND, on HOST, says more", in its parts. Ids have no commas, so the
      first one ends the command. What is no command is all `more`. */
  N.step = function (line) {
    const whole = line.replace(/^→ /, "");
    const found = /^((?:neti|systemctl) [^,;]+)(?:, (on [^,;]+))?(?:[,;] )?(.*)$/.exec(whole);
    return found ? { command: found[1], where: found[2] || null, more: found[3] }
      : { command: null, where: null, more: whole };
  };
})(window.Neti);
