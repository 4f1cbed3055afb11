/* The maps: a canvas for each site with a square for each host, drawn only when something of it has
   changed, and what the mouse, a finger and the keys do on them. */
"use strict";
(function (N) {
  const HOLLOW = new Set(["lost", "held", "away"]);
  const maps = new Map(); // site -> { box, canvas, cursor, map, drawn, current }
  let colours = null;
  let membership = -1;
  let grouped = null;

  const rank = (shade) => N.store.shades.indexOf(shade);

  function palette() {
    const style = getComputedStyle(document.documentElement);
    const of = (name) => style.getPropertyValue(`--${name}`).trim();
    colours = { text: of("text"), soft: of("soft"), back: of("panel") };
    for (const shade of N.store.shades) colours[shade] = of(`s-${shade}`) || of("s-away");
    return colours;
  }

  /** The colours have changed: all is drawn anew. */
  N.repaint = function () {
    colours = null;
    for (const one of maps.values()) one.drawn = null;
    N.drawMaps();
  };
  N.colourOf = (name) => (colours || palette())[name];

  /** Fill the places that the view has left for maps, and draw what is not as it should be. */
  N.drawMaps = function () {
    const places = document.querySelectorAll("[data-own='map']");
    if (!places.length) return;
    if (membership !== N.store.membership) {
      grouped = N.grouped(N.store);
      membership = N.store.membership;
      for (const one of maps.values()) one.map = null;
    }
    const width = Math.floor(places[0].clientWidth);
    if (!width) return;
    const height = Math.max(240, Math.min(window.innerHeight * 0.4, 500));
    const size = N.sizeFor(grouped, width, height);
    for (const place of places) draw(place, width, size);
  };

  function draw(box, width, size) {
    const site = box.dataset.site;
    let one = maps.get(site);
    if (!one || one.box !== box) maps.set(site, (one = begun(box, site)));
    const groups = grouped.get(site) || [];
    if (!one.map || one.map.width !== width || one.map.size !== size) {
      one.map = N.laidOut(groups, width, size);
      one.drawn = null;
    }
    // What the picture depends on; where none of it is another, nothing is drawn.
    let sum = 0;
    for (const id of one.map.ids) {
      const host = N.store.hosts.get(id);
      sum = (Math.imul(sum, 31) + rank(host.shade) * 8 + host.level * 2 + (host.problems.length ? 1 : 0)) | 0;
    }
    const seen = `${sum} ${N.store.filter} ${devicePixelRatio}`;
    if (seen === one.drawn) return;
    one.drawn = seen;
    paint(one);
    const count = N.store.count(site);
    one.canvas.setAttribute("aria-label",
      `Map of ${N.apart(site)}: ${N.counted(count.hosts, "host")}, ${count.enforced} enforced, ` +
      `${count.attention} need attention. Arrow keys go from host to host, Enter opens one.`);
  }

  function paint(one) {
    const { map, canvas } = one;
    const scale = window.devicePixelRatio || 1;
    canvas.width = Math.round(map.width * scale);
    canvas.height = Math.round(map.height * scale);
    canvas.style.width = `${map.width}px`;
    canvas.style.height = `${map.height}px`;
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    const c = colours || palette();
    pen.font = "13px system-ui, sans-serif";
    pen.textBaseline = "middle";
    for (const block of map.blocks) {
      const name = block.tier === null ? "other tiers" : N.tierName(block.tier);
      pen.fillStyle = c.text;
      pen.fillText(fitted(pen, `${N.apart(name)}: ${block.count}`, map.width), 0, block.label + 10);
    }
    const gap = map.size > 9 ? 2 : 1;
    const side = map.size - gap;
    const marks = [];
    for (const block of map.blocks) {
      for (let i = 0; i < block.count; i += 1) {
        const host = N.store.hosts.get(map.ids[block.first + i]);
        const x = (i % map.columns) * map.size;
        const y = block.top + Math.floor(i / map.columns) * map.size;
        pen.globalAlpha = N.store.passes(host) ? 1 : 0.13;
        if (HOLLOW.has(host.shade)) {
          const line = side > 8 ? 2 : 1;
          pen.strokeStyle = c[host.shade];
          pen.lineWidth = line;
          pen.strokeRect(x + line / 2, y + line / 2, side - line, side - line);
          if (host.shade === "held") {
            pen.fillStyle = c.held;
            pen.fillRect(x + side / 2 - line, y + side / 2 - line, 2 * line, 2 * line);
          }
        } else {
          pen.fillStyle = c[host.shade];
          pen.fillRect(x, y, side, side);
        }
        // Hollow squares are a shape of their own.
        if ((host.problems.length ? host.level : host.level >= 2) && pen.globalAlpha === 1) {
          marks.push([host.level, x + side / 2, y + side / 2]);
        }
      }
    }
    pen.globalAlpha = 1;
    // Marks last and the gravest on top: on small squares they are larger than those.
    for (const [level, x, y] of marks.sort((a, b) => a[0] - b[0])) {
      N.mark(pen, level, x, y, Math.max(3, side * 0.36), c);
    }
  }

  /** The shape that says how grave a problem is: a cross, a triangle, a bar. */
  N.mark = function (pen, level, x, y, r, c) {
    const path = new Path2D();
    if (level >= 3) {
      path.moveTo(x - r, y - r); path.lineTo(x + r, y + r);
      path.moveTo(x + r, y - r); path.lineTo(x - r, y + r);
    } else if (level === 2) {
      path.moveTo(x, y - r); path.lineTo(x + r, y + r * 0.8); path.lineTo(x - r, y + r * 0.8);
      path.closePath();
    } else {
      path.moveTo(x - r, y); path.lineTo(x + r, y);
    }
    pen.lineJoin = pen.lineCap = "round";
    pen.strokeStyle = c.back;
    pen.lineWidth = Math.max(3, r);
    pen.stroke(path);
    if (level === 2) {
      pen.fillStyle = c.text;
      pen.fill(path);
    } else {
      pen.strokeStyle = c.text;
      pen.lineWidth = Math.max(1.5, r / 2.2);
      pen.stroke(path);
    }
  };

  function fitted(pen, text, width) {
    if (pen.measureText(text).width <= width) return text;
    let short = text.slice(0, 120);
    while (short && pen.measureText(short + "…").width > width) short = short.slice(0, -1);
    return short + "…";
  }

  // --- mouse, finger and keys ---

  function begun(box, site) {
    const canvas = N.el("canvas", { tabindex: "0", role: "application", "aria-label": "Map" });
    const cursor = N.el("div", { class: "cursor", hidden: true });
    box.replaceChildren(canvas, cursor);
    const one = { box, canvas, cursor, site, map: null, drawn: null, current: null };
    const at = (event) => N.squareAt(one.map, event.offsetX, event.offsetY);
    canvas.addEventListener("pointermove", (event) => {
      if (event.pointerType !== "touch") point(one, at(event));
    });
    canvas.addEventListener("pointerleave", (event) => {
      if (event.pointerType !== "touch") point(one, -1);
    });
    canvas.addEventListener("click", (event) => {
      const number = at(event);
      // A finger covers several squares: the first touch says which one it was.
      const sure = event.pointerType !== "touch" || one.current === one.map.ids[number];
      point(one, number);
      if (number >= 0 && sure) open(one);
    });
    canvas.addEventListener("focus", () => {
      if (!canvas.matches(":focus-visible")) return;
      const number = one.map.at.get(one.current);
      point(one, number === undefined ? 0 : number, true);
    });
    canvas.addEventListener("blur", () => point(one, -1));
    canvas.addEventListener("keydown", (event) => key(one, event));
    return one;
  }

  function key(one, event) {
    if (event.altKey || event.ctrlKey || event.metaKey || !one.map.ids.length) return;
    const number = one.map.at.get(one.current) || 0;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      if (one.current) open(one);
    } else if (/^(Arrow|Home$|End$)/.test(event.key)) {
      event.preventDefault();
      point(one, N.squareBeside(one.map, number, event.key), true);
    }
  }

  function open(one) {
    const id = one.current;
    point(one, -1);
    one.current = id;
    location.hash = N.hostLink(id);
  }

  /** Show whose square this is; -1: nobody's. `aloud`: for who cannot see it. */
  function point(one, number, aloud) {
    const tip = document.getElementById("tip");
    const host = number >= 0 ? N.store.hosts.get(one.map.ids[number]) : undefined;
    one.cursor.hidden = tip.hidden = !host;
    one.canvas.classList.toggle("over", Boolean(host));
    if (!host) return;
    one.current = host.id;
    const { x, y } = N.placeOf(one.map, number);
    const { size } = one.map;
    Object.assign(one.cursor.style, {
      left: `${x - 3}px`, top: `${y - 3}px`, width: `${size + 3}px`, height: `${size + 3}px`,
    });
    const words = N.hostInWords(host);
    tip.textContent = words;
    const frame = one.canvas.getBoundingClientRect();
    const left = Math.min(frame.left + x + size + 8, innerWidth - tip.offsetWidth - 8);
    const under = frame.top + y + size + 10;
    const fits = under + tip.offsetHeight < innerHeight;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${fits ? under : frame.top + y - tip.offsetHeight - 10}px`;
    if (aloud) {
      N.say(words);
      one.cursor.scrollIntoView({ block: "nearest" });
    }
  }
})(window.Neti);
