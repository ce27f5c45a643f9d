// The Draw tab: the picture follows the stroke.

import { Easel, palette, toolbar } from "./easel.js";
import { Refusal, bytesOf, download, follow, get, pause, post } from "./net.js";
import { chooseFile, toast, working } from "./ui.js";
import { keep } from "./gallery.js";

const $ = (id) => document.getElementById(id);
const MOST_STYLES = 8;
const seed = () => Math.floor(Math.random() * 1_000_000);

const state = {
  model: null, about: null, chosen: 0,
  styles: [{ own: true }, { seed: 1 }, { seed: 2 }, { seed: 3 }], // or { code, name }
  look: { from: 0, to: 0, alpha: 1, psi: 1 },
  layout: null, // the code of the map as refined, until the map changes
  refining: null, // the errand that refines it
};
let easel, choose, wanted = null, busy = false;

export function start() {
  easel = new Easel($("viewport"), { onchange: mapChanged });
  ({ choose } = toolbar($("tools"), easel));
  $("blank").onclick = () => easel.load(new Uint8Array(easel.ids.length).fill(easel.blank));
  $("upload-map").onclick = openMap;
  $("upload-photo").onclick = () => openPhoto({ map: true });
  $("photo-style").onclick = () => openPhoto({ map: false });
  $("shuffle").onclick = shuffle;
  $("refine").onclick = toggleRefine;
  $("keep").onclick = keepThis;
  $("downloads").onclick = (event) => event.target.dataset.what && save(event.target.dataset.what);
}

// Begin with a model: its classes, examples and layers.
export async function openModel(name, about) {
  Object.assign(state, { model: name, about });
  Object.assign(state.look, { from: about.style_layers[0], to: about.num_ws - 1 });
  state.styles = state.styles.filter((style) => !style.code);
  state.chosen = Math.min(state.chosen, state.styles.length - 1);
  easel.size = about.kind === "sparse" ? 6 : 14;
  easel.open(about.side, about.classes.map((c) => c.color));
  const select = palette($("palette"), about.classes, easel, choose);
  select(1);
  $("upload-photo").hidden = $("photo-style").hidden = $("refine").hidden = !about.photos;
  $("refine").ariaPressed = about.photos && about.kind === "sparse";
  sliders();
  const maps = new Uint8Array(await (await get("/api/examples", { model: name })).arrayBuffer());
  showExamples(maps);
  easel.load(about.examples.length ? maps.subarray(0, easel.ids.length) : easel.ids, { remember: false });
}

// Open a map again in the styles it had.
export function restore({ ids, styles, look, chosen }) {
  Object.assign(state, { styles: structuredClone(styles), look: { ...look }, chosen });
  sliders();
  easel.load(ids);
}

// ---- the picture

const word = (style) => (style.own ? "own" : style.code ?? String(style.seed));

function query(styles) {
  const { from, to, alpha, psi } = state.look;
  const layout = state.layout ?? "";
  return { model: state.model, styles: styles.map(word).join(), layers: `${from}-${to}`, alpha, psi, layout };
}

// Ask for the picture of the map as it is now. While a stroke is drawn the chosen style alone is
// asked for. One request at a time; whatever changes meanwhile is asked for next, the latest only.
function request(live) {
  wanted = { live: live && wanted?.live !== false };
  if (!busy) serve();
}

async function serve() {
  busy = true;
  while (wanted) {
    const styles = wanted.live ? [state.styles[state.chosen]] : [...state.styles];
    const first = wanted.live ? state.chosen : 0;
    wanted = null;
    const began = performance.now();
    try {
      const response = await post("/api/draw", query(styles), easel.ids.slice());
      const image = await createImageBitmap(await response.blob());
      show(image, styles.length, first);
      $("status").textContent = `${Math.round(performance.now() - began)} ms`;
      $("status").dataset.drawn = Number($("status").dataset.drawn ?? 0) + 1;
      $("status").className = "";
    } catch (error) {
      await refused(error, wanted ?? { live: false });
    }
  }
  busy = false;
}

// ---- refinement: after each stroke the layout is fitted to the map

function mapChanged(live) {
  state.layout = null;
  if (state.refining) post(`/api/errands/${state.refining}/cancel`).catch(() => {});
  state.refining = null;
  request(live);
  if (!live && $("refine").ariaPressed === "true") refine();
}

function toggleRefine() {
  const on = $("refine").ariaPressed !== "true";
  $("refine").ariaPressed = on;
  if (on) return refine();
  mapChanged(false);
}

async function refine() {
  try {
    const errand = await (await post("/api/refine", { model: state.model }, easel.ids.slice())).json();
    state.refining = errand.id;
    const found = await follow(errand, ({ step, steps }) => {
      if (state.refining === errand.id) $("status").textContent = `refining ${step} of ${steps || "?"}`;
    });
    if (!found || state.refining !== errand.id) return;
    state.refining = null;
    state.layout = found.code;
    request(false);
  } catch (error) {
    toast(error.message);
  }
}

async function refused(error, again) {
  if (error.status === 409) return; // a later stroke of ours is on its way
  if (error.message.includes("no longer kept")) {
    state.layout = null;
    state.styles = state.styles.filter((style) => !style.code);
    if (!state.styles.length) state.styles = [{ own: true }];
    state.chosen = 0;
    return changed();
  }
  if (error.status !== 503 && error.status !== 0) return toast(error.message);
  $("status").textContent = error.message;
  $("status").className = "wait";
  await pause(error.status ? 700 : 2000);
  wanted ??= again;
}

// Show `count` pictures of a strip, the first being that of style `first`.
function show(strip, count, first) {
  const size = strip.height;
  while ($("styles").querySelectorAll("figure").length !== state.styles.length) showStyles();
  const canvases = $("styles").querySelectorAll("canvas");
  for (let i = 0; i < count; i++) {
    const targets = first + i === state.chosen ? [canvases[first + i], $("picture")] : [canvases[first + i]];
    for (const canvas of targets) {
      if (!canvas) continue;
      if (canvas.width !== size) canvas.width = canvas.height = size;
      canvas.getContext("2d").drawImage(strip, i * size, 0, size, size, 0, 0, size, size);
    }
  }
  captions();
}

// ---- styles

function showStyles() {
  const figures = state.styles.map((_, i) => {
    const figure = document.createElement("figure");
    const canvas = document.createElement("canvas");
    const caption = document.createElement("figcaption");
    const pin = document.createElement("button");
    pin.className = "pin";
    pin.innerHTML = '<svg><use href="#i-pin"/></svg>';
    pin.onclick = (event) => { event.stopPropagation(); state.styles[i].pinned = !state.styles[i].pinned; captions(); };
    figure.append(canvas, caption, pin);
    figure.tabIndex = 0;
    figure.onclick = () => pickStyle(i);
    figure.onkeydown = (event) => event.key === "Enter" && pickStyle(i);
    return figure;
  });
  const more = document.createElement("div");
  more.className = "more";
  const button = (label, title, act) => {
    const made = Object.assign(document.createElement("button"), { textContent: label, title, onclick: act });
    made.ariaLabel = title;
    more.append(made);
  };
  if (state.styles.length < MOST_STYLES) button("+", "One more style", () => { state.styles.push({ seed: seed() }); changed(); });
  if (state.styles.length > 1) button("−", "One style less", () => { state.styles.pop(); state.chosen = Math.min(state.chosen, state.styles.length - 1); changed(); });
  $("styles").replaceChildren(...figures, more);
}

function captions() {
  $("styles").querySelectorAll("figure").forEach((figure, i) => {
    const style = state.styles[i];
    figure.querySelector("figcaption").textContent = style.own ? "as drawn" : style.name ?? `seed ${style.seed}`;
    figure.ariaSelected = i === state.chosen;
    if (i === state.chosen) $("styles").scrollTo({ left: figure.offsetLeft - $("styles").offsetLeft - 90, top: figure.offsetTop - $("styles").offsetTop - 40 });
    const pin = figure.querySelector(".pin");
    pin.hidden = Boolean(style.own || style.code);
    pin.ariaPressed = Boolean(style.pinned);
    pin.title = pin.ariaLabel = style.pinned ? "Pinned: shuffle leaves it" : "Pin this style";
  });
}

function changed() {
  showStyles();
  captions();
  request(false);
}

function pickStyle(i) {
  state.chosen = i;
  const small = $("styles").querySelectorAll("canvas")[i];
  const big = $("picture");
  big.width = big.height = small.width;
  big.getContext("2d").drawImage(small, 0, 0);
  captions();
}

function shuffle() {
  for (const style of state.styles) if (!style.own && !style.code && !style.pinned) style.seed = seed();
  changed();
}

function sliders() {
  const { num_ws } = state.about;
  const last = num_ws - 1;
  const rows = [
    ["from", "Style from", 0, last, 1, "first layer that takes the style: low layers change the shape, high ones the colours"],
    ["to", "up to", 0, last, 1, "last layer that takes the style"],
    ["alpha", "Strength", 0, 1, 0.05, "how far the layers go towards the style"],
    ["psi", "Variety", 0, 1, 0.05, "truncation: lower for more usual styles"],
  ];
  $("sliders").replaceChildren(...rows.map(([key, text, min, max, step, title]) => {
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"), { type: "range", min, max, step, title });
    input.value = state.look[key];
    const value = document.createElement("output");
    const told = () => (value.textContent = step === 1 ? `layer ${input.value}` : Number(input.value).toFixed(2));
    input.id = `look-${key}`;
    input.oninput = () => {
      state.look[key] = Number(input.value);
      if (key === "from" && state.look.to < state.look.from) set("to", state.look.from);
      if (key === "to" && state.look.from > state.look.to) set("from", state.look.to);
      told();
      request(false);
    };
    const set = (other, to) => {
      state.look[other] = to;
      const input = $(`look-${other}`);
      input.value = to;
      input.nextSibling.textContent = `layer ${to}`;
    };
    told();
    label.append(text, input, value);
    label.title = title;
    return label;
  }));
}

// ---- maps and photographs

function showExamples(maps) {
  const { side } = easel, size = side * side;
  const buttons = state.about.examples.map((name, i) => {
    const ids = maps.slice(i * size, (i + 1) * size);
    const canvas = Object.assign(document.createElement("canvas"), { width: side, height: side });
    const pixels = canvas.getContext("2d").createImageData(side, side);
    new Uint32Array(pixels.data.buffer).set(Uint32Array.from(ids, (id) => easel.table[id]));
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    const button = document.createElement("button");
    button.append(canvas);
    button.title = button.ariaLabel = `Example ${name}`;
    button.onclick = () => easel.load(ids);
    return button;
  });
  $("examples").replaceChildren(...buttons);
}

async function openMap() {
  const file = await chooseFile();
  if (!file) return;
  try {
    const response = await post("/api/upload-map", { model: state.model }, file);
    easel.load(new Uint8Array(await response.arrayBuffer()));
  } catch (error) {
    toast(error.message);
  }
}

// Look for the code of a photograph: its map, or its style alone.
async function openPhoto({ map }) {
  const file = await chooseFile();
  if (!file) return;
  try {
    const errand = await (await post("/api/photo", { model: state.model }, file)).json();
    const dialog = working("Looking at the photo", () => post(`/api/errands/${errand.id}/cancel`));
    const found = await follow(errand, dialog.step).finally(dialog.close);
    if (!found) return;
    const style = { code: found.code, name: file.name.replace(/\.[^.]*$/, "").slice(0, 14) || "photo" };
    const place = state.styles.findIndex((s) => s.code);
    if (place < 0 && state.styles.length < MOST_STYLES) state.styles.push(style);
    else state.styles[place < 0 ? state.styles.length - 1 : place] = style;
    state.chosen = state.styles.indexOf(style);
    showStyles();
    if (map && found.label) easel.load(bytesOf(found.label));
    else request(false);
  } catch (error) {
    toast(error.message);
  }
}

// ---- keeping

const blobOf = (canvas) => new Promise((done) => canvas.toBlob(done, "image/png"));

async function keepThis() {
  const { model, styles, look, chosen } = state;
  await keep({
    model, title: state.about.name, ids: easel.ids.slice(), styles: structuredClone(styles), look: { ...look }, chosen,
    picture: await blobOf($("picture")), map: await blobOf(easel.canvas),
  });
  toast("Kept in the gallery.");
}

async function save(what) {
  $("downloads").open = false;
  try {
    const asked = query([state.styles[state.chosen]]);
    if (what === "picture") return download(await (await post("/api/draw", asked, easel.ids)).blob(), "picture.png");
    if (what === "map") return download(await (await post("/api/map", asked, easel.ids)).blob(), "map.png");
    download(await (await post("/api/code", query(state.styles), easel.ids)).blob(), "codes.safetensors");
  } catch (error) {
    toast(error.message);
  }
}
