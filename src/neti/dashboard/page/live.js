/* How the page gets its data, and how it knows that it has none: the token, the first picture, the
   stream of changes, and what the header and the banner say about all that.

   Must never do: show an old picture as if it were a new one, believe another process than the one
   that it began with, or leave the token where a look over the shoulder or a copied link would give
   it away. (The browser's history has the link that was opened.) */
"use strict";
(function (N) {
  const KEPT = "neti-token";
  const QUIET = 30_000; // ms: the server says something each 15 s, if only that it is there
  const MOST_WAIT = 15_000; // ms between two tries
  // starting | waiting (for the registry's first answer) | live | lost | refused | copy
  const L = (N.live = { state: "starting", since: null, heard: null });
  let token = null;
  let early = null; // the first answer, asked for while the other scripts still load
  let instance = null; // of the process that answered first with this token
  let running = 0; // so that an older connection cannot speak once there is a newer one

  /** Take the token out of the address bar. Tells whether there was one. */
  L.takeToken = function () {
    const found = /^#token=([^&]+)/.exec(location.hash);
    if (!found) return false;
    token = decodeURIComponent(found[1]);
    instance = null;
    history.replaceState(history.state, "", location.pathname + "#/");
    try { sessionStorage.setItem(KEPT, token); } catch { /* then it lasts as long as this page */ }
    return true;
  };

  function storedToken() {
    try { return sessionStorage.getItem(KEPT); } catch { return null; }
  }

  L.start = function () {
    const held = document.getElementById("neti-export");
    if (held) {
      const data = JSON.parse(held.textContent);
      held.remove(); // what is in it is in memory now
      N.store.copy = { breaks: data.breaks, hosts: data.hosts };
      become("copy");
      N.store.whole(data.fleet);
      return;
    }
    connect();
  };

  /** As early as can be: a large fleet takes a second or two to arrive. */
  function ahead() {
    if (document.getElementById("neti-export")) return;
    L.takeToken();
    token = token || storedToken();
    if (!token) return;
    early = L.get("data/fleet", AbortSignal.timeout(QUIET));
    early.catch(() => { /* whoever awaits it sees it too */ });
  }

  function become(state) {
    L.state = state;
    if (state === "lost") L.since = L.since || L.heard || Date.now() / 1000;
    else if (state !== "starting") L.since = null;
    N.changed();
  }

  /** Fetch JSON from the server, or from the copy. Throws an Error with a `status`. */
  L.get = async function (path, signal) {
    const used = token;
    const answer = await fetch(path, {
      headers: { Authorization: `Bearer ${used}` }, cache: "no-store", signal,
    });
    if (!answer.ok) {
      const error = new Error(`the server answered ${answer.status}`);
      error.status = answer.status;
      if (answer.status === 401 && used === token) refused(); // and no newer link was opened
      throw error;
    }
    // Whoever takes the port after the dashboard has ended can answer what it likes.
    const said = answer.headers.get("neti-instance");
    instance = instance || said;
    if (!said || said !== instance) {
      if (used === token) refused();
      throw new Error("another process answers");
    }
    return answer;
  };

  function refused() {
    running += 1;
    early = null;
    try { sessionStorage.removeItem(KEPT); } catch { /* it is gone with this page */ }
    token = null;
    become("refused");
  }

  async function connect() {
    const mine = (running += 1);
    if (!token) return become("refused");
    let failures = 0;
    while (mine === running) {
      try {
        // All of it, also after a stream that broke: an answer is what shows that it is live again.
        const answer = early || L.get("data/fleet", AbortSignal.timeout(QUIET));
        early = null;
        const fleet = await (await answer).json();
        if (mine !== running) return;
        N.store.whole(fleet);
        heard();
        become("live");
        if (await follow(mine, () => { failures = 0; })) continue;
        // A stream that ends by itself: the server is going, or something between us cut it.
        throw new Error("the stream ended");
      } catch (error) {
        if (mine !== running) return;
        if (error.status === 503) become("waiting");
        else {
          become("lost");
          failures += 1;
        }
      }
      const wait = L.state === "waiting" ? 1000 : Math.min(MOST_WAIT, 500 * 2 ** failures);
      await new Promise((done) => setTimeout(done, wait));
    }
  }

  const heard = () => { L.heard = Date.now() / 1000; };

  /** Read changes until the stream ends. True: the picture has to be fetched anew. */
  async function follow(mine, well) {
    const stop = new AbortController();
    let timer = setTimeout(() => stop.abort(), QUIET);
    try {
      const answer = await L.get(`data/changes?since=${N.store.revision}`, stop.signal);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done || mine !== running) return false;
        clearTimeout(timer);
        timer = setTimeout(() => stop.abort(), QUIET);
        heard();
        well();
        text += value;
        const parts = text.split("\n\n");
        text = parts.pop();
        for (const part of parts) {
          if (!part.startsWith("data: ")) continue; // a comment: it is there, and nothing is new
          const change = JSON.parse(part.slice(6));
          if (change.anew) return true;
          N.store.change(change);
        }
      }
    } finally {
      clearTimeout(timer);
      stop.abort();
    }
  }

  L.connect = connect;
  ahead();

  // --- in words ---

  /** What stands in the header: short, and not read out each second. */
  L.inShort = function () {
    switch (L.state) {
      case "live":
        return N.store.unanswered === null
          ? ["Live. Last change ", N.time(N.store.at)]
          : ["Old picture, of ", N.time(N.store.at)];
      case "lost": return ["Not reached"];
      case "copy": return ["A copy of ", N.moment(N.store.at), ", not live"];
      case "refused": return [];
      default: return ["Loading"];
    }
  };

  /** What the banner says; empty: all is well. */
  L.banner = function () {
    if (L.state === "lost" && !N.store.ready) {
      return [N.el("p", null, N.el("strong", null, "The dashboard cannot be reached. "),
        "Look whether 'neti dashboard' still runs. The page tries again by itself.")];
    }
    if (L.state === "lost") {
      return [
        N.el("p", null, N.el("strong", null, "The dashboard has not been reached since ", N.clock(L.since), ". "),
          "What you see is as old as that. The page tries again by itself; if this stays, look ",
          "whether 'neti dashboard' still runs. Hosts do not need it."),
      ];
    }
    if (L.state === "waiting") {
      return [N.el("p", null, "The registry has not answered yet. The page asks again each second.")];
    }
    if (N.store.ready && N.store.unanswered !== null) {
      return [
        N.el("p", null, N.el("strong", null, "The registry does not answer. "),
          "What you see is old, as of ", N.time(N.store.at), ". Traffic goes on without the registry. ",
          "Do not restart agents. It says: ", N.bdi(N.store.unanswered)),
      ];
    }
    if (N.store.ready && N.store.unheard !== "") {
      return [N.el("p", null, N.el("strong", null, "All hosts look silent: "), N.bdi(N.store.unheard), ".")];
    }
    return [];
  };
})(window.Neti);
