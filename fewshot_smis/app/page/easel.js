// The drawing surface: a square of class ids, painted with hard edges; undo, fill, zoom and pan.

const UNKNOWN = 255;
const MOST_UNDO = 80;

export class Easel {
  // `onchange(live)` is called while a stroke is drawn (live) and once when it is done.
  constructor(viewport, { onchange, onpick }) {
    this.viewport = viewport;
    this.onchange = onchange;
    this.onpick = onpick ?? (() => {});
    this.tool = "brush";
    this.brush = 0; // the class painted
    this.blank = 0; // the class the eraser paints
    this.size = 14; // diameter in map pixels
    this.view = { scale: 1, x: 0, y: 0 };
    this.pointers = new Map();
    this.sheet = document.createElement("div");
    this.sheet.className = "sheet";
    this.under = document.createElement("canvas");
    this.under.className = "under";
    this.canvas = document.createElement("canvas");
    this.ring = document.createElement("div");
    this.ring.className = "ring";
    this.sheet.append(this.under, this.canvas);
    viewport.append(this.sheet, this.ring);
    this.listen();
  }

  // Start anew with maps of `side` pixels in these colours [[r, g, b], ...].
  open(side, colors) {
    this.side = this.canvas.width = this.canvas.height = side;
    this.ids = new Uint8Array(side * side).fill(this.blank);
    this.past = [];
    this.future = [];
    this.context = this.canvas.getContext("2d");
    this.pixels = this.context.createImageData(side, side);
    this.setColors(colors);
    this.fit();
  }

  setColors(colors) {
    this.table = new Uint32Array(256).fill(0xff808080);
    colors.forEach(([r, g, b], i) => (this.table[i] = (0xff << 24) | (b << 16) | (g << 8) | r));
    if (this.clear !== undefined) this.table[this.clear] = 0;
    this.paint();
  }

  paint() {
    const out = new Uint32Array(this.pixels.data.buffer);
    for (let i = 0; i < out.length; i++) out[i] = this.table[this.ids[i]];
    this.context.putImageData(this.pixels, 0, 0);
  }

  // Replace the map, as one step that can be undone.
  load(ids, { remember = true } = {}) {
    if (remember) this.remember();
    this.ids.set(ids);
    this.paint();
    this.onchange(false);
  }

  // Show a picture below the map, or none; `opacity` is the map's.
  trace(image, opacity = 1) {
    this.under.width = this.under.height = image ? image.width : 1;
    if (image) this.under.getContext("2d").drawImage(image, 0, 0);
    this.canvas.style.opacity = opacity;
  }

  remember() {
    this.past.push(this.ids.slice());
    if (this.past.length > MOST_UNDO) this.past.shift();
    this.future = [];
  }

  undo() { this.step(this.past, this.future); }
  redo() { this.step(this.future, this.past); }

  step(from, to) {
    if (!from.length) return;
    to.push(this.ids.slice());
    this.load(from.pop(), { remember: false });
  }

  // ---- painting

  get id() { return this.tool === "erase" ? this.blank : this.brush; }

  // Set every pixel whose centre is within half the brush of the segment a-b.
  segment(a, b) {
    const { side, ids, id } = this;
    const r = this.size / 2;
    const dx = b.x - a.x, dy = b.y - a.y, length = dx * dx + dy * dy;
    const clamp = (v) => Math.max(0, Math.min(side - 1, v));
    const [x0, x1] = [clamp(Math.floor(Math.min(a.x, b.x) - r)), clamp(Math.ceil(Math.max(a.x, b.x) + r))];
    const [y0, y1] = [clamp(Math.floor(Math.min(a.y, b.y) - r)), clamp(Math.ceil(Math.max(a.y, b.y) + r))];
    for (let y = y0; y <= y1; y++) {
      for (let x = x0; x <= x1; x++) {
        const px = x + 0.5 - a.x, py = y + 0.5 - a.y;
        const t = length ? Math.max(0, Math.min(1, (px * dx + py * dy) / length)) : 0;
        if ((px - t * dx) ** 2 + (py - t * dy) ** 2 <= Math.max(r * r, 0.5)) ids[y * side + x] = id;
      }
    }
  }

  // Give the region around a pixel the brush's class, a row at a time.
  flood(x, y) {
    const { side, ids, id } = this;
    const old = ids[y * side + x];
    if (old === id) return;
    const stack = [[x, y]];
    while (stack.length) {
      const [cx, cy] = stack.pop();
      let left = cx, right = cx;
      const row = cy * side;
      if (ids[row + cx] !== old) continue;
      while (left > 0 && ids[row + left - 1] === old) left--;
      while (right < side - 1 && ids[row + right + 1] === old) right++;
      ids.fill(id, row + left, row + right + 1);
      for (const ny of [cy - 1, cy + 1]) {
        if (ny < 0 || ny >= side) continue;
        for (let nx = left; nx <= right; nx++) if (ids[ny * side + nx] === old) stack.push([nx, ny]);
      }
    }
  }

  // ---- the pointer

  listen() {
    const v = this.viewport;
    v.addEventListener("pointerdown", (e) => this.down(e));
    v.addEventListener("pointermove", (e) => this.move(e));
    for (const name of ["pointerup", "pointercancel"]) v.addEventListener(name, (e) => this.up(e));
    v.addEventListener("pointerleave", () => (this.ring.style.display = "none"));
    v.addEventListener("contextmenu", (e) => e.preventDefault());
    v.addEventListener("wheel", (e) => {
      e.preventDefault();
      this.zoom(Math.exp(-e.deltaY * (e.deltaMode ? 0.05 : 0.0018)), e);
    }, { passive: false });
    new ResizeObserver(() => this.place()).observe(v);
  }

  // Where an event is, in map pixels.
  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const scale = this.side / box.width;
    return { x: (event.clientX - box.left) * scale, y: (event.clientY - box.top) * scale };
  }

  down(event) {
    this.viewport.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, event);
    if (this.pointers.size === 2) return this.pinch();
    if (this.pointers.size > 1) return;
    if (event.button !== 0 || this.held) return (this.panning = true);
    const at = this.at(event);
    const [x, y] = [Math.floor(at.x), Math.floor(at.y)];
    const inside = x >= 0 && y >= 0 && x < this.side && y < this.side;
    if (this.tool === "pick") return inside && this.onpick(this.ids[y * this.side + x]);
    this.remember();
    if (this.tool === "fill") {
      if (inside) this.flood(x, y);
      this.paint();
      return this.onchange(false);
    }
    this.last = at;
    this.draw([event]);
  }

  move(event) {
    this.showRing(event);
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    this.pointers.set(event.pointerId, event);
    if (this.pointers.size === 2) return this.pinched();
    if (this.panning) return this.pan(event.clientX - before.clientX, event.clientY - before.clientY);
    if (this.last) this.draw(event.getCoalescedEvents?.().length ? event.getCoalescedEvents() : [event]);
  }

  draw(events) {
    for (const event of events) {
      const at = this.at(event);
      this.segment(this.last, at);
      this.last = at;
    }
    this.paint();
    this.onchange(true);
  }

  up(event) {
    this.pointers.delete(event.pointerId);
    this.panning = false;
    if (!this.last) return;
    this.last = null;
    this.onchange(false);
  }

  // ---- zoom and pan

  pinch() {
    if (this.last) { // the first finger had begun a stroke: take it back
      this.last = null;
      this.ids.set(this.past.pop());
      this.paint();
      this.onchange(false);
    }
    this.gesture = this.spread();
  }

  spread() {
    const [a, b] = [...this.pointers.values()];
    return {
      clientX: (a.clientX + b.clientX) / 2, clientY: (a.clientY + b.clientY) / 2,
      distance: Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY),
    };
  }

  pinched() {
    const now = this.spread();
    this.pan(now.clientX - this.gesture.clientX, now.clientY - this.gesture.clientY);
    this.zoom(now.distance / Math.max(this.gesture.distance, 1), now);
    this.gesture = now;
  }

  pan(dx, dy) {
    this.view.x += dx;
    this.view.y += dy;
    this.place();
  }

  zoom(factor, at) {
    const box = this.viewport.getBoundingClientRect();
    const [x, y] = at ? [at.clientX - box.left, at.clientY - box.top] : [box.width / 2, box.height / 2];
    const scale = Math.max(1, Math.min(16, this.view.scale * factor));
    const ratio = scale / this.view.scale;
    this.view = { scale, x: x - (x - this.view.x) * ratio, y: y - (y - this.view.y) * ratio };
    this.place();
  }

  fit() {
    this.view = { scale: 1, x: 0, y: 0 };
    this.place();
  }

  place() {
    const size = this.viewport.clientWidth, { scale } = this.view;
    const bound = (v) => Math.min(0, Math.max(size - size * scale, v));
    this.view.x = bound(this.view.x);
    this.view.y = bound(this.view.y);
    this.sheet.style.transform = `translate(${this.view.x}px, ${this.view.y}px) scale(${scale})`;
  }

  showRing(event) {
    const box = this.viewport.getBoundingClientRect();
    const shown = event.pointerType !== "touch" && (this.tool === "brush" || this.tool === "erase");
    const width = Math.max((this.size / this.side) * box.width * this.view.scale, 3);
    Object.assign(this.ring.style, {
      display: shown ? "block" : "none", width: `${width}px`, height: `${width}px`,
      transform: `translate(${event.clientX - box.left - width / 2}px, ${event.clientY - box.top - width / 2}px)`,
    });
  }
}

// The row of tools above an easel; keys: B, E, F, I, [ and ], Ctrl+Z, Ctrl+Y, 0.
export function toolbar(row, easel) {
  const icon = (name) => `<svg><use href="#i-${name}"/></svg>`;
  const tools = { brush: "Brush (B)", erase: "Eraser (E)", fill: "Fill (F)", pick: "Pick a class (I)" };
  const button = (name, title, act) => {
    const made = document.createElement("button");
    made.innerHTML = icon(name);
    made.title = made.ariaLabel = title;
    made.dataset.tool = name;
    made.addEventListener("click", act);
    return made;
  };
  const choose = (tool) => {
    easel.tool = tool;
    for (const b of chooser.children) b.setAttribute("aria-pressed", b.dataset.tool === tool);
  };
  const chooser = document.createElement("div");
  chooser.className = "segmented";
  chooser.append(...Object.entries(tools).map(([name, title]) => button(name, title, () => choose(name))));
  const size = Object.assign(document.createElement("input"), { type: "range", min: 1, max: 64, value: easel.size });
  size.ariaLabel = size.title = "Brush size ( [ and ] )";
  size.className = "size";
  size.addEventListener("input", () => (easel.size = Number(size.value)));
  const steps = document.createElement("div");
  steps.className = "segmented";
  steps.append(button("undo", "Undo (Ctrl+Z)", () => easel.undo()), button("redo", "Redo (Ctrl+Y)", () => easel.redo()));
  const zooms = document.createElement("div");
  zooms.className = "segmented zooms";
  zooms.append(
    button("out", "Zoom out", () => easel.zoom(1 / 1.5)),
    button("fit", "Whole map (0)", () => easel.fit()),
    button("in", "Zoom in (or the wheel, or two fingers)", () => easel.zoom(1.5)),
  );
  row.append(chooser, size, steps, zooms);
  choose("brush");

  const resize = (by) => { size.value = easel.size = Math.max(1, Math.min(64, easel.size + by)); };
  const keys = {
    b: () => choose("brush"), e: () => choose("erase"), f: () => choose("fill"), i: () => choose("pick"),
    "[": () => resize(-2), "]": () => resize(2), 0: () => easel.fit(),
  };
  document.addEventListener("keydown", (event) => {
    if (!easel.viewport.offsetParent || /^(text|number)$/.test(event.target.type ?? "")) return;
    if (event.ctrlKey || event.metaKey) {
      const again = event.key === "y" || (event.key === "Z" && event.shiftKey);
      if (!again && event.key !== "z") return;
      event.preventDefault();
      return again ? easel.redo() : easel.undo();
    }
    if (event.key === " ") easel.held = true;
    keys[event.key]?.();
  });
  document.addEventListener("keyup", (event) => { if (event.key === " ") easel.held = false; });
  return { choose };
}

// Named classes as chips; `onchoose(id)` is told.
export function palette(box, classes, easel, choose) {
  const chip = ({ name, color }, id) => {
    const made = document.createElement("button");
    made.role = "radio";
    made.dataset.id = id;
    const dot = document.createElement("i");
    dot.style.background = `rgb(${color})`;
    made.append(dot, name.replaceAll("_", " "));
    made.addEventListener("click", () => select(id));
    return made;
  };
  const select = (id) => {
    easel.brush = id;
    if (easel.tool !== "fill") choose("brush");
    for (const b of box.children) b.setAttribute("aria-checked", Number(b.dataset.id) === id);
    const chip = box.children[id]; // brought into view without moving the page
    box.scrollTo({
      left: chip.offsetLeft - box.offsetLeft - (box.clientWidth - chip.offsetWidth) / 2,
      top: chip.offsetTop - box.offsetTop - (box.clientHeight - chip.offsetHeight) / 2,
    });
  };
  box.replaceChildren(...classes.map(chip));
  easel.onpick = (id) => { if (id !== UNKNOWN) { choose("brush"); select(id); } };
  return select;
}
