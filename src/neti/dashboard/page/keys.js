/* Keys and clicks for the whole page. Views mark what can be clicked with data-act; one listener
   here serves all, since views are made anew all the time. */
"use strict";
(function (N) {
  const search = document.getElementById("search");
  const help = document.getElementById("help");
  const KEYS = [
    ["/", "find a host"], ["Esc", "back; in the search field: leave it"], ["?", "these keys"],
    ["g", "the fleet"], ["b", "what would break"], ["h", "hosts"],
    ["Arrows", "among the squares: from host to host"], ["Enter", "on a square: open the host"],
  ];

  Object.assign(N.acts, {
    skip() { document.getElementById("main").focus(); },
    help: showHelp,
    "close-help"() { help.close(); },
    // Another order of the same table is no step for Back.
    replace(link) {
      history.replaceState(history.state, "", link.getAttribute("href"));
      N.changed();
    },
    async copy(button) {
      const text = button.dataset.text;
      const done = await copied(text);
      button.textContent = done ? "Copied" : "Select it and copy";
      N.say(done ? `Copied: ${text}` : "It could not be copied.");
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    },
  });

  async function copied(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch { /* not a secure context, or not allowed: the old way */ }
    const field = N.el("textarea", { class: "hidden", "aria-hidden": "true" });
    field.value = text;
    const focused = document.activeElement;
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    if (focused) focused.focus({ preventScroll: true });
    return done;
  }

  function showHelp() {
    N.morph(help, [
      N.el("h2", { id: "help-title" }, "Keys"),
      N.el("dl", { class: "pairs" }, KEYS.map(([key, what]) => [N.el("dt", null, N.el("kbd", null, key)),
        N.el("dd", null, what)])),
      N.el("button", { type: "button", "data-act": "close-help" }, "Close"),
    ]);
    help.showModal();
  }

  document.addEventListener("click", (event) => {
    const found = event.target.closest("[data-act]");
    if (!found || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (found.nodeName === "A") event.preventDefault();
    N.acts[found.dataset.act](found);
  });

  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || help.open) return;
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.nodeName);
    if (event.key === "Escape") {
      if (typing) event.target.blur();
      else if (N.route().view !== N.overview) N.back();
      else document.getElementById("tip").hidden = true;
      return;
    }
    if (typing) return;
    if (event.key === "/") {
      event.preventDefault();
      search.focus();
      search.select();
    } else if (event.key === "?") showHelp();
    else if (event.key === "g") location.hash = "#/";
    else if (event.key === "b") location.hash = "#/breaks";
    else if (event.key === "h") location.hash = "#/hosts";
  });

  document.addEventListener("change", (event) => {
    if (event.target.closest("#filters")) N.choose(event.target.name, event.target.value);
  });

  // Typing filters the table where it is shown; elsewhere Enter goes there.
  search.addEventListener("input", () => {
    if (N.route().view === N.hosts) N.choose("q", search.value.trim());
  });
  document.getElementById("find").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = search.value.trim();
    if (N.route().view === N.hosts) N.choose("q", text);
    else if (N.store.hosts.has(text)) location.hash = N.hostLink(text);
    else location.hash = text ? `#/hosts?q=${encodeURIComponent(text)}` : "#/hosts";
  });
})(window.Neti);
