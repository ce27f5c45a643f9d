// The Label & train tab: paint the maps of one to five pictures, and train a model of your own.

import { Easel, palette, toolbar } from "./easel.js";
import { bytesOf, follow, get, pause, post } from "./net.js";
import { chooseFile, toast, working } from "./ui.js";

const $ = (id) => document.getElementById(id);
const MOST_SHOTS = 5;
const UNKNOWN = 255;
const MODEL = "first"; // trainings go on from the generator that the app was started with

const state = {
  about: null, classes: [], sparse: false, own: false, // own: the classes are no longer the model's
  shots: [], chosen: -1, // { picture: data URL, image, code, ids }
};
let easel, choose, select, watching = false, ondraw;

export function start(about, draw) {
  Object.assign(state, { about, classes: about.classes.map((c) => ({ ...c })), sparse: about.kind === "sparse" });
  ondraw = draw;
  easel = new Easel($("label-viewport"), { onchange: changed });
  ({ choose } = toolbar($("label-tools"), easel));
  easel.clear = easel.blank = state.sparse ? 0 : UNKNOWN;
  easel.open(about.side, state.classes.map((c) => c.color));
  easel.size = state.sparse ? 4 : 14;
  $("shot-sample").onclick = addSample;
  $("shot-upload").onclick = addUpload;
  $("shot-guess").onclick = guess;
  $("add-class").onclick = addClass;
  $("sparse").checked = state.sparse;
  $("sparse").onchange = toggleSparse;
  $("blend").oninput = () => (easel.canvas.style.opacity = $("blend").value);
  $("train").onclick = train;
  showClasses();
  showShots();
}

// Begin with a sample the first time the tab is opened, and watch the trainings while it is.
export async function enter() {
  if (!state.shots.length) await addSample();
  watch();
}

// ---- pictures

const current = () => state.shots[state.chosen];

async function imageOf(url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  return image;
}

async function addShot(picture, code, label) {
  const ids = label && !state.own ? bytesOf(label) : new Uint8Array(easel.ids.length).fill(easel.blank);
  state.shots.push({ picture, image: await imageOf(picture), code, ids });
  pickShot(state.shots.length - 1);
}

async function addSample() {
  try {
    const seed = Math.floor(Math.random() * 1_000_000);
    const found = await (await post("/api/sample", { model: MODEL, seed })).json();
    await addShot(found.picture, found.code, state.sparse ? null : found.label);
  } catch (error) {
    toast(error.message);
  }
}

async function addUpload() {
  const file = await chooseFile();
  if (!file) return;
  try {
    const blob = await (await post("/api/picture", { model: MODEL }, file)).blob();
    const reader = new FileReader();
    reader.readAsDataURL(blob);
    await new Promise((done) => (reader.onload = done));
    await addShot(reader.result, null, null);
  } catch (error) {
    toast(error.message);
  }
}

// Let the model say what it sees in the chosen picture.
async function guess() {
  const shot = current();
  try {
    const errand = await (await post("/api/photo", { model: MODEL }, bytesOf(shot.picture.split(",")[1]))).json();
    const dialog = working("Looking at the picture", () => post(`/api/errands/${errand.id}/cancel`));
    const found = await follow(errand, dialog.step).finally(dialog.close);
    if (found?.label) easel.load(bytesOf(found.label));
  } catch (error) {
    toast(error.message);
  }
}

function pickShot(i) {
  state.chosen = i;
  const shot = current();
  easel.past = [];
  easel.future = [];
  if (shot) easel.load(shot.ids, { remember: false });
  easel.trace(shot?.image, $("blend").value);
  showShots();
}

function dropShot(i) {
  state.shots.splice(i, 1);
  pickShot(Math.min(i, state.shots.length - 1));
}

function changed(live) {
  if (!current()) return;
  current().ids = easel.ids.slice();
  if (!live) thumbnail(state.chosen);
}

function showShots() {
  const figures = state.shots.map((shot, i) => {
    const figure = document.createElement("figure");
    figure.append(document.createElement("canvas"));
    figure.ariaSelected = i === state.chosen;
    figure.onclick = () => pickShot(i);
    const bin = document.createElement("button");
    bin.className = "pin";
    bin.innerHTML = '<svg><use href="#i-bin"/></svg>';
    bin.title = bin.ariaLabel = "Take the picture away";
    bin.onclick = (event) => { event.stopPropagation(); dropShot(i); };
    figure.append(bin);
    return figure;
  });
  const ghosts = Array.from({ length: MOST_SHOTS - figures.length }, () => {
    const ghost = document.createElement("div");
    ghost.className = "ghost";
    return ghost;
  });
  $("shots").replaceChildren(...figures, ...ghosts);
  state.shots.forEach((_, i) => thumbnail(i));
  const full = state.shots.length >= MOST_SHOTS;
  $("shot-sample").disabled = $("shot-upload").disabled = full;
  $("shot-guess").hidden = state.own || state.sparse || !state.about.photos;
  $("train").disabled = !state.shots.length;
}

// The picture, with the map over its right half.
function thumbnail(i) {
  const canvas = $("shots").querySelectorAll("canvas")[i];
  const shot = state.shots[i];
  if (!canvas) return;
  const side = (canvas.width = canvas.height = easel.side);
  const context = canvas.getContext("2d");
  const map = new OffscreenCanvas(side, side), over = map.getContext("2d");
  const pixels = over.createImageData(side, side);
  new Uint32Array(pixels.data.buffer).set(Uint32Array.from(shot.ids, (id) => easel.table[id]));
  over.putImageData(pixels, 0, 0);
  context.drawImage(shot.image, 0, 0, side, side);
  context.drawImage(map, side / 2, 0, side / 2, side, side / 2, 0, side / 2, side);
}

// ---- classes

function showClasses() {
  easel.setColors(state.classes.map((c) => c.color));
  select = palette($("label-palette"), state.classes, easel, choose);
  if (state.sparse) $("label-palette").firstChild.hidden = true;
  select(Math.min(Math.max(easel.brush, 1), state.classes.length - 1));
  $("class-rows").replaceChildren(...state.classes.map(classRow));
  $("hint").textContent = state.sparse
    ? "Mark a few places of each class: points, strokes or crosses. What you leave empty is unknown."
    : "Fill each region with its class. What you leave unpainted is unknown, and does not count.";
}

const hex = (color) => `#${color.map((v) => v.toString(16).padStart(2, "0")).join("")}`;

function classRow(entry, id) {
  const row = document.createElement("div");
  const color = Object.assign(document.createElement("input"), { type: "color", value: hex(entry.color) });
  const name = Object.assign(document.createElement("input"), { type: "text", value: entry.name, maxLength: 24 });
  color.ariaLabel = `Colour of ${entry.name}`;
  name.ariaLabel = `Name of class ${id}`;
  color.onchange = () => {
    const picked = [1, 3, 5].map((i) => parseInt(color.value.slice(i, i + 2), 16));
    if (state.classes.some((c, i) => i !== id && hex(c.color) === color.value)) return toast("Another class has this colour.");
    renew(() => (entry.color = picked));
  };
  name.onchange = () => renew(() => (entry.name = name.value.trim() || entry.name));
  row.append(color, name);
  if (id === state.classes.length - 1 && id > 1) {
    const bin = document.createElement("button");
    bin.innerHTML = '<svg><use href="#i-bin"/></svg>';
    bin.title = bin.ariaLabel = `Remove ${entry.name}`;
    bin.onclick = () => removeLast();
    row.append(bin);
  }
  return row;
}

function renew(change) {
  change();
  state.own = true;
  showClasses();
  showShots();
}

function addClass() {
  const hue = (state.classes.length * 137.5) % 360;
  const part = (n) => {
    const k = (n + hue / 30) % 12;
    return Math.round(255 * (0.55 - 0.4 * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  };
  renew(() => state.classes.push({ name: `class ${state.classes.length}`, color: [part(0), part(8), part(4)] }));
}

function removeLast() {
  const gone = state.classes.length - 1;
  for (const shot of state.shots) shot.ids = shot.ids.map((id) => (id === gone ? easel.blank : id));
  renew(() => state.classes.pop());
  pickShot(state.chosen);
}

// Marks have 0 for unknown pixels, regions 255.
function toggleSparse() {
  const [from, to] = $("sparse").checked ? [UNKNOWN, 0] : [0, UNKNOWN];
  for (const shot of state.shots) shot.ids = shot.ids.map((id) => (id === from ? to : id));
  state.sparse = $("sparse").checked;
  easel.clear = easel.blank = to;
  renew(() => {});
  pickShot(state.chosen);
}

// ---- training

const base64 = (bytes) => {
  let text = "";
  for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
  return btoa(text);
};

async function train() {
  const [recipe, steps] = $("effort").value.split(" ");
  const body = {
    title: $("title").value.trim() || "my model", recipe, steps: Number(steps),
    classes: { kind: state.sparse ? "sparse" : "dense", classes: state.classes },
    pictures: state.shots.map(({ picture, code, ids }) => ({ picture: picture.split(",")[1], code, ids: base64(ids) })),
  };
  try {
    await post("/api/trainings", {}, JSON.stringify(body));
    toast("The training is on its way. You can draw meanwhile.");
    watch();
  } catch (error) {
    toast(error.message);
  }
}

async function watch() {
  if (watching) return;
  watching = true;
  try {
    for (;;) {
      const found = await (await get("/api/trainings")).json();
      $("trainings").replaceChildren(...found.map(card));
      if ($("label").hidden || !found.some(({ state: s }) => s === "running" || s === "waiting")) break;
      await pause(1000);
    }
  } catch (error) {
    toast(error.message);
  }
  watching = false;
}

const sheets = new Map(); // name of a sheet -> its image, so that it is fetched once

function card(training) {
  const made = document.createElement("article");
  made.className = "training";
  const head = document.createElement("header");
  const title = document.createElement("b");
  title.textContent = training.title;
  const told = document.createElement("span");
  told.textContent = training.state === "running" ? `${training.step} of ${training.steps}` : training.state;
  head.append(title, told);
  made.append(head);
  if (training.state === "running") {
    const bar = Object.assign(document.createElement("progress"), { max: 1 });
    if (training.step) bar.value = training.step / training.steps;
    const stage = document.createElement("p");
    stage.textContent = training.stage;
    made.append(bar, stage);
  }
  if (training.error) {
    const error = document.createElement("p");
    error.className = "error";
    error.textContent = training.error;
    made.append(error);
  }
  if (training.curve.length > 2) made.append(curve(training.curve));
  if (training.sheet && training.state !== "stopped") {
    const key = `${training.id}/${training.sheet}`;
    if (!sheets.has(key)) {
      const image = new Image();
      image.className = "sheet-image";
      image.alt = "what it draws so far";
      image.src = `/api/trainings/${training.id}/sheet?${training.sheet}`;
      sheets.set(key, image);
    }
    made.append(sheets.get(key));
  }
  made.append(buttons(training));
  return made;
}

function buttons(training) {
  const row = document.createElement("div");
  row.className = "row";
  const button = (text, act, kind = "") => {
    const b = Object.assign(document.createElement("button"), { textContent: text, className: kind });
    b.onclick = () => act().catch((error) => toast(error.message));
    row.append(b);
  };
  const ask = (what) => async () => {
    await post(`/api/trainings/${training.id}/${what}`);
    await pause(300);
    watch();
  };
  if (training.state === "done") button("Draw with it", () => ondraw(training.id), "primary");
  if (training.state === "running" || training.state === "waiting") button("Stop", ask("cancel"));
  if (training.state === "stopped" || training.state === "failed") button("Go on", ask("resume"));
  return row;
}

// The loss so far, as a line; logarithmic, as losses fall by factors.
function curve(values) {
  const log = values.map((v) => Math.log(Math.max(v, 1e-9)));
  const [low, high] = [Math.min(...log), Math.max(...log)];
  const points = log.map((v, i) => `${(i / (log.length - 1)) * 300},${38 - ((v - low) / (high - low || 1)) * 36}`);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "curve");
  svg.setAttribute("viewBox", "0 0 300 40");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.innerHTML = `<title>loss</title><polyline points="${points.join(" ")}" vector-effect="non-scaling-stroke"/>`;
  return svg;
}
