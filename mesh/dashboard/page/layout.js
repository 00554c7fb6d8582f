// Where services stand: layers from callers (left) to callees (right). Pure: names and
// edges in, coordinates out; the same input gives the same picture.

export const box = { width: 158, height: 50, columnGap: 52, rowGap: 22 };

// layout returns {nodes: Map name -> {x, y, layer}, width, height}.
export function layout(names, edges) {
  const order = [...names].sort();
  const out = new Map(order.map((n) => [n, []]));
  const into = new Map(order.map((n) => [n, []]));
  for (const { caller, callee } of edges) {
    if (caller === callee || !out.has(caller) || !out.has(callee)) continue;
    out.get(caller).push(callee);
    into.get(callee).push(caller);
  }
  const layers = layersOf(order, out);
  for (let sweep = 0; sweep < 8; sweep++) arrange(layers, sweep % 2 ? out : into, sweep % 2 === 1);
  return place(layers, out, into);
}

// components numbers the strongly connected components, callees first (Tarjan, with a
// stack of its own).
export function components(order, out) {
  const index = new Map(), low = new Map(), of = new Map(), stack = [], on = new Set();
  let count = 0, next = 0;
  for (const root of order) {
    if (index.has(root)) continue;
    const work = [[root, 0]];
    while (work.length) {
      const frame = work[work.length - 1], [v] = frame;
      if (frame[1] === 0) {
        index.set(v, next);
        low.set(v, next++);
        stack.push(v);
        on.add(v);
      }
      const callees = out.get(v);
      if (frame[1] < callees.length) {
        const w = callees[frame[1]++];
        if (!index.has(w)) work.push([w, 0]);
        else if (on.has(w)) low.set(v, Math.min(low.get(v), index.get(w)));
        continue;
      }
      work.pop();
      if (work.length) {
        const parent = work[work.length - 1][0];
        low.set(parent, Math.min(low.get(parent), low.get(v)));
      }
      if (low.get(v) !== index.get(v)) continue;
      for (let w = null; w !== v;) {
        w = stack.pop();
        on.delete(w);
        of.set(w, count);
      }
      count++;
    }
  }
  return of;
}

// layersOf puts a component one layer behind the last of its callers.
function layersOf(order, out) {
  const of = components(order, out);
  const depth = new Map();
  const members = new Map();
  for (const name of order) {
    const c = of.get(name);
    if (!members.has(c)) members.set(c, []);
    members.get(c).push(name);
    depth.set(c, 0);
  }
  for (const c of [...members.keys()].sort((a, b) => b - a)) {
    for (const name of members.get(c)) {
      for (const callee of out.get(name)) {
        const d = of.get(callee);
        if (d !== c) depth.set(d, Math.max(depth.get(d), depth.get(c) + 1));
      }
    }
  }
  const layers = [];
  for (const name of order) {
    const d = depth.get(of.get(name));
    while (layers.length <= d) layers.push([]);
    layers[d].push(name);
  }
  return layers;
}

// arrange orders each layer by where its neighbours stand.
function arrange(layers, neighbours, backwards) {
  const at = new Map();
  layers.forEach((layer) => layer.forEach((name, i) => at.set(name, (i + 0.5) / layer.length)));
  const sequence = backwards ? [...layers].reverse() : layers;
  for (const layer of sequence) {
    const weight = new Map(layer.map((name) => {
      const list = neighbours.get(name).map((n) => at.get(n));
      return [name, list.length ? list.reduce((a, b) => a + b, 0) / list.length : at.get(name)];
    }));
    layer.sort((a, b) => weight.get(a) - weight.get(b) || (a < b ? -1 : 1));
    layer.forEach((name, i) => at.set(name, (i + 0.5) / layer.length));
  }
}

// place gives coordinates: every service close to the middle of its neighbours.
function place(layers, out, into) {
  const step = box.height + box.rowGap;
  const tallest = Math.max(1, ...layers.map((l) => l.length)) * step;
  const y = new Map();
  for (const layer of layers) layer.forEach((name, i) => y.set(name, (tallest - layer.length * step) / 2 + i * step));
  for (let round = 0; round < 12; round++) {
    for (const layer of round % 2 ? [...layers].reverse() : layers) {
      const wanted = layer.map((name) => {
        const near = [...into.get(name), ...out.get(name)].map((n) => y.get(n));
        return near.length ? near.reduce((a, b) => a + b, 0) / near.length : y.get(name);
      });
      spread(wanted, step).forEach((value, i) => y.set(layer[i], value));
    }
  }
  const top = Math.min(0, ...y.values());
  const nodes = new Map();
  let height = 0;
  layers.forEach((layer, d) => layer.forEach((name) => {
    const node = { layer: d, x: d * (box.width + box.columnGap), y: y.get(name) - top };
    height = Math.max(height, node.y + box.height);
    nodes.set(name, node);
  }));
  return { nodes, width: layers.length * (box.width + box.columnGap) - box.columnGap, height };
}

// spread keeps an order and a distance while staying near what is wanted (pools of
// adjacent violators).
function spread(wanted, step) {
  const pools = [];
  wanted.forEach((value, i) => {
    pools.push({ sum: value - i * step, count: 1 });
    while (pools.length > 1) {
      const last = pools[pools.length - 1], before = pools[pools.length - 2];
      if (before.sum / before.count <= last.sum / last.count) break;
      before.sum += last.sum;
      before.count += last.count;
      pools.pop();
    }
  });
  return pools.flatMap((p) => Array(p.count).fill(p.sum / p.count)).map((value, i) => value + i * step);
}
