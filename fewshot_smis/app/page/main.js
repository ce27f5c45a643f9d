// Tabs and models.

import { openModel, restore, start } from "./draw.js";
import { showGallery } from "./gallery.js";
import * as label from "./label.js";
import { get } from "./net.js";
import { toast } from "./ui.js";

const chooser = document.getElementById("model");
const tabs = [...document.querySelectorAll("[data-tab]")];
let models = {};

function show(name) {
  for (const tab of tabs) {
    tab.ariaSelected = tab.dataset.tab === name;
    document.getElementById(tab.dataset.tab).hidden = tab.dataset.tab !== name;
  }
  if (name === "gallery") showGallery(open).catch((error) => toast(error.message));
  if (name === "label") label.enter();
}

async function open(entry) {
  if (!models[entry.model] || models[entry.model].side ** 2 !== entry.ids.length) {
    return toast(`The model it was drawn with, ${entry.title}, is not here.`);
  }
  if (chooser.value !== entry.model) await choose(entry.model);
  show("draw");
  restore(entry);
}

async function choose(name) {
  chooser.value = name;
  await openModel(name, models[name]);
}

async function refresh() {
  models = await (await get("/api/models")).json();
  chooser.replaceChildren(...Object.entries(models).map(([name, about]) => new Option(about.name, name)));
}

// Draw with a model that has just been trained.
async function drawWith(name) {
  await refresh();
  show("draw");
  await choose(name);
}

async function begin() {
  for (const tab of tabs) tab.addEventListener("click", () => show(tab.dataset.tab));
  start();
  await refresh();
  chooser.addEventListener("change", () => choose(chooser.value).catch((error) => toast(error.message)));
  label.start(models[Object.keys(models)[0]], drawWith);
  await choose(Object.keys(models)[0]);
}

begin().catch((error) => toast(error.message));
