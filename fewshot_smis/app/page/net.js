// Talking with the server: bytes in the body, everything else in the query.

export const user = crypto.randomUUID?.() ?? String(Math.random()).slice(2);

export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function answer(pending) {
  let response;
  try {
    response = await pending;
  } catch {
    throw new Refusal(0, "The server does not answer. Is it still running?");
  }
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  throw new Refusal(response.status, told.error ?? `The server says ${response.status}.`);
}

export const get = (path, query = {}) => answer(fetch(`${path}?${new URLSearchParams(query)}`));

export const post = (path, query = {}, body = "") =>
  answer(fetch(`${path}?${new URLSearchParams({ user, ...query })}`, {
    method: "POST", body, headers: { "content-type": "application/octet-stream" },
  }));

export const pause = (ms) => new Promise((done) => setTimeout(done, ms));

// Follow an errand to its end; `onstep(errand)` is called on the way. Cancelled ones give null.
export async function follow(errand, onstep) {
  while (errand.state === "waiting" || errand.state === "running") {
    onstep(errand);
    await pause(250);
    errand = await (await get(`/api/errands/${errand.id}`)).json();
  }
  if (errand.state === "failed") throw new Refusal(400, errand.error);
  return errand.state === "done" ? errand.result : null;
}

export const bytesOf = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));

export function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
