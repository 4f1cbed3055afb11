/* Where each host's square is on its site's map. Geometry only: nothing here draws or listens.

   Squares stand in blocks, one for each tier, ordered by id, so that a host stays where it is while
   its colour changes. All sites have squares of one size, so that their areas can be compared. */
"use strict";
(function (N) {
  const SIZES = [18, 16, 14, 12, 10, 9, 8, 7, 6, 5]; // px from one square to the next
  const LABEL = 20; // px above each block, for the tier's name
  const BELOW = 6; // px below each block
  const MOST_TIERS = 24; // a label that is another on each host would make as many blocks

  /** The hosts of each site by tier: a Map of site to a list of [tier, hosts]. */
  N.grouped = function (store) {
    const sites = new Map(store.allSites().map((site) => [site, new Map()]));
    for (const id of store.order) {
      const host = store.hosts.get(id);
      const tiers = sites.get(host.site);
      if (!tiers.has(host.tier)) tiers.set(host.tier, []);
      tiers.get(host.tier).push(id);
    }
    const shown = new Set(store.tiers.slice(0, MOST_TIERS).map((one) => one.value));
    const made = new Map();
    for (const [site, tiers] of sites) {
      const names = [...tiers.keys()].sort(
        (a, b) => (a === "?") - (b === "?") || N.natural(a, b),
      );
      const groups = names.filter((one) => shown.has(one)).map((one) => [one, tiers.get(one)]);
      const rest = names.filter((one) => !shown.has(one)).flatMap((one) => tiers.get(one));
      if (rest.length) groups.push([null, rest]);
      made.set(site, groups);
    }
    return made;
  };

  /** The largest size at which no site's squares take more than `height`, their labels aside. */
  N.sizeFor = function (grouped, width, height) {
    return SIZES.find((size) =>
      [...grouped.values()].every((groups) => squaresOf(groups, width, size) <= height),
    ) || SIZES[SIZES.length - 1];
  };

  const columnsOf = (width, size) => Math.max(1, Math.floor(width / size));

  function squaresOf(groups, width, size) {
    const columns = columnsOf(width, size);
    return groups.reduce((sum, [, ids]) => sum + Math.ceil(ids.length / columns) * size, 0);
  }

  /** The map of one site: `blocks` with their place, and all `ids` in the order of the squares. */
  N.laidOut = function (groups, width, size) {
    const columns = columnsOf(width, size);
    const blocks = [];
    const ids = [];
    let top = 0;
    for (const [tier, those] of groups) {
      blocks.push({ tier, first: ids.length, count: those.length, label: top, top: top + LABEL });
      ids.push(...those);
      top += LABEL + Math.ceil(those.length / columns) * size + BELOW;
    }
    const at = new Map(ids.map((id, number) => [id, number]));
    return { blocks, ids, at, columns, size, width, height: Math.max(top, 1) };
  };

  const blockOf = (map, number) =>
    map.blocks.find((one) => number >= one.first && number < one.first + one.count);

  /** The corner of a square. */
  N.placeOf = function (map, number) {
    const block = blockOf(map, number);
    const within = number - block.first;
    return {
      x: (within % map.columns) * map.size,
      y: block.top + Math.floor(within / map.columns) * map.size,
    };
  };

  /** Which square is at a point; -1: none. */
  N.squareAt = function (map, x, y) {
    const block = map.blocks.find(
      (one) => y >= one.top && y < one.top + Math.ceil(one.count / map.columns) * map.size,
    );
    const column = Math.floor(x / map.size);
    if (!block || column < 0 || column >= map.columns) return -1;
    const within = Math.floor((y - block.top) / map.size) * map.columns + column;
    return within < block.count ? block.first + within : -1;
  };

  /** Where an arrow key leads from a square. */
  N.squareBeside = function (map, number, key) {
    const last = map.ids.length - 1;
    if (key === "ArrowLeft") return Math.max(0, number - 1);
    if (key === "ArrowRight") return Math.min(last, number + 1);
    if (key === "Home") return 0;
    if (key === "End") return last;
    const block = blockOf(map, number);
    const within = number - block.first;
    const column = within % map.columns;
    const down = key === "ArrowDown";
    const next = within + (down ? map.columns : -map.columns);
    if (next >= 0 && next < block.count) return block.first + next;
    // Out of the block: the same column of the next one, or its last square.
    if (down && Math.floor(within / map.columns) < Math.floor((block.count - 1) / map.columns)) {
      return block.first + block.count - 1;
    }
    const other = map.blocks[map.blocks.indexOf(block) + (down ? 1 : -1)];
    if (!other) return number;
    if (down) return other.first + Math.min(column, other.count - 1);
    const row = Math.floor((other.count - 1) / map.columns) * map.columns;
    return other.first + Math.min(row + column, other.count - 1);
  };
})(window.Neti);
