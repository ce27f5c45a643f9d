// Small things every tab uses: messages, a file chooser, a dialog for what takes a while.

const $ = (id) => document.getElementById(id);
let hiding;

export function toast(text) {
  $("toast").textContent = text;
  $("toast").classList.add("shown");
  clearTimeout(hiding);
  hiding = setTimeout(() => $("toast").classList.remove("shown"), 2500 + 50 * text.length);
}

// Ask for a picture; null if none is chosen.
export function chooseFile() {
  const input = $("file");
  input.value = "";
  input.click();
  return new Promise((done) => {
    input.onchange = () => done(input.files[0] ?? null);
    input.oncancel = () => done(null);
  });
}

// Show how far something is, with a button to stop it.
export function working(text, stop) {
  $("working-bar").removeAttribute("value");
  $("working-text").textContent = text;
  $("working-stop").onclick = $("working").oncancel = stop;
  $("working").showModal();
  return {
    step: ({ step, steps, ahead }) => {
      $("working-text").textContent = ahead ? `${text}: ${ahead} before you` : text;
      if (steps) $("working-bar").value = step / steps;
    },
    close: () => $("working").close(),
  };
}
