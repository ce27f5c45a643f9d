// The gallery: what was kept, in this browser's own store.

import { download } from "./net.js";

const box = () => document.getElementById("kept");
let onopen = () => {};

function store(mode) {
  return new Promise((done, fail) => {
    const opening = indexedDB.open("easel", 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore("kept", { keyPath: "id", autoIncrement: true });
    opening.onsuccess = () => done(opening.result.transaction("kept", mode).objectStore("kept"));
    opening.onerror = () => fail(opening.error);
  });
}

const result = (request) => new Promise((done, fail) => {
  request.onsuccess = () => done(request.result);
  request.onerror = () => fail(request.error);
});

export async function keep(entry) {
  await result((await store("readwrite")).add({ ...entry, when: Date.now() }));
}

// `open(entry)` takes an entry back to the easel.
export async function showGallery(open) {
  onopen = open ?? onopen;
  const entries = (await result((await store("readonly")).getAll())).reverse();
  document.getElementById("no-kept").hidden = entries.length > 0;
  for (const image of box().querySelectorAll("img")) URL.revokeObjectURL(image.src);
  box().replaceChildren(...entries.map(card));
}

function card(entry) {
  const made = document.createElement("article");
  const image = (blob, alt) => Object.assign(new Image(), { src: URL.createObjectURL(blob), alt });
  const row = document.createElement("div");
  const button = (icon, title, act) => {
    const b = document.createElement("button");
    b.innerHTML = `<svg><use href="#i-${icon}"/></svg>`;
    b.title = b.ariaLabel = title;
    b.onclick = act;
    row.append(b);
  };
  button("brush", "Draw on", () => onopen(entry));
  button("save", "Download the picture", () => download(entry.picture, "picture.png"));
  button("layers", "Download the map", () => download(entry.map, "map.png"));
  button("bin", "Throw away", async () => {
    await result((await store("readwrite")).delete(entry.id));
    await showGallery();
  });
  const map = image(entry.map, "its map");
  map.className = "small";
  made.append(image(entry.picture, "kept picture"), map, row);
  return made;
}
