/* Which view is shown, and when it is made anew. Everything begins here. */
"use strict";
(function (N) {
  const view = document.getElementById("view");
  const search = document.getElementById("search");
  const scrolled = new Map(); // address -> how far down it was
  let shown = null; // the address that is on the page
  let depth = 0; // entries of the history that are of this page, so that Esc does not leave it
  let forward = true;
  let moved = false; // by a link or Back, not by typing into a filter
  let asked = null; // the whole address, with what a table is filtered by

  /** What the address asks for. */
  N.route = function () {
    const [path, query] = location.hash.replace(/^#/, "").split("?");
    const route = { path, query: new URLSearchParams(query || ""), view: N.overview, id: "" };
    if (path === "/breaks") route.view = N.breaks;
    else if (path === "/hosts") route.view = N.hosts;
    else if (path.startsWith("/host/")) {
      route.view = N.host;
      try { route.id = decodeURIComponent(path.slice(6)); } catch { route.id = path.slice(6); }
    }
    return route;
  };

  N.back = function () {
    if (depth > 0) history.back();
    else location.hash = "#/";
  };

  function render() {
    const route = N.route();
    const old = N.live.state === "live" && N.store.unanswered !== null;
    document.body.dataset.state = old ? "old" : N.live.state;
    N.morph(document.getElementById("live"), [...N.el("p", null, N.live.inShort()).childNodes]);
    N.morph(document.getElementById("banner"), N.live.banner());
    N.morph(document.getElementById("footer"), footer());
    for (const link of document.querySelectorAll("#nav a")) {
      const here = link.getAttribute("href") === `#${route.path || "/"}`;
      if (here) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    if (N.live.state === "refused") return void N.morph(view, refused());
    if (!N.store.ready) return void N.morph(view, [N.el("p", null, "Loading the fleet.")]);
    const place = route.path;
    const other = place !== shown;
    if (other) view.replaceChildren();
    if (other && route.view.enter) route.view.enter(route);
    N.morph(view, route.view.render(route));
    if (route.view.after) route.view.after();
    retitle();
    if (document.activeElement !== search) search.value = route.view === N.hosts ? route.query.get("q") || "" : "";
    // Another page of the same table begins at its top, too.
    const turned = moved && location.hash !== asked;
    asked = location.hash;
    moved = false;
    if (other || turned) arrived(place);
  }

  /** The tab says what is critical, also while nobody looks at it. */
  function retitle() {
    const route = N.route();
    const critical = N.store.needs.filter((one) => one.severity === "critical").length;
    document.title = `${critical ? `(${critical} critical) ` : ""}${route.view.title(route)} - Neti`;
  }
  N.retitle = retitle;

  function arrived(place) {
    const first = shown === null;
    shown = place;
    window.scrollTo(0, forward ? 0 : scrolled.get(place) || 0);
    forward = false;
    // Whoever hears the page learns where it is now. Not on the first view: nobody has moved yet.
    const heading = view.querySelector("h1");
    if (!first && heading && document.activeElement !== search) heading.focus({ preventScroll: true });
  }

  function refused() {
    return [
      N.el("h1", { tabindex: "-1" }, "Open the link that 'neti dashboard' printed"),
      N.el("p", null, "This page shows a fleet only to whoever has that link: it ends with ", N.el("code",
        null, "#token=…"), "."),
      N.el("p", null, "Each start of 'neti dashboard' prints another one, and this browser's tab has none, or an old one. ",
        "Go to the terminal where it runs, and open the whole link, or start it anew:"),
      N.el("p", null, N.commandLine("neti dashboard", "on an operator's machine")),
    ];
  }

  function footer() {
    return [N.el("p", null, N.store.ready ? ["What you see is from ", N.moment(N.store.at), ". "] : "",
      "This page changes nothing. ",
      N.store.version ? `Neti ${N.safe(N.store.version)}. ` : "",
      `Times are in ${N.zone()}. `,
      N.el("button", { type: "button", "data-act": "help" }, "Keys (?)"))];
  }

  // --- when ---

  history.scrollRestoration = "manual";
  document.addEventListener("click", (event) => {
    if (event.target.closest("a")) forward = true;
  }, true);
  window.addEventListener("scroll", () => { if (shown !== null) scrolled.set(shown, window.scrollY); },
    { passive: true });
  window.addEventListener("hashchange", () => {
    if (!N.store.copy && N.live.takeToken()) { // a new link in an old tab
      shown = null;
      N.live.connect();
      return;
    }
    depth = history.state ? history.state.depth : depth + 1;
    history.replaceState({ depth }, "");
    moved = true;
    N.changed();
  });
  N.watch(render);
  let width = 0;
  window.addEventListener("resize", () => {
    if (width === innerWidth) return;
    width = innerWidth;
    N.changed();
  });

  const anew = () => { N.repaint(); N.drawChart(true); };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", anew);
  // Paper is white: the canvases have to be drawn in the light colours before.
  // Tables go on it whole, and what was folded is open.
  const printing = (yes) => {
    N.printing = yes;
    document.documentElement.classList.toggle("printing", yes);
    render();
    for (const one of view.querySelectorAll(yes ? "details:not([open])" : "details[data-folded]")) {
      one.open = yes;
      one.toggleAttribute("data-folded", yes);
    }
    anew();
  };
  window.addEventListener("beforeprint", () => printing(true));
  window.addEventListener("afterprint", () => printing(false));

  depth = history.state ? history.state.depth : 0;
  history.replaceState({ depth }, "");
  render();
  N.live.start();
})(window.Neti);
