// What is asked of the server: answers as objects, problems as sentences, pictures with a token.

const ROOT = new URL("..", import.meta.url); // this file is ROOT/page/api.js
const KEPT_AS = "lift-token";

// A request that failed. Its message is a sentence for people; status is 0 without an answer.
export class Problem extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

// The token comes once, behind the # of the address (which no server and no log ever sees), and
// stays for as long as the tab does. Returns whether there was one.
export function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given === null) return false;
  keepToken(given);
  history.replaceState(history.state, "", location.pathname + location.search);
  return true;
}

export const keepToken = (token) => sessionStorage.setItem(KEPT_AS, token.trim());

const token = () => sessionStorage.getItem(KEPT_AS) || "";

function headers(others = {}) {
  return token() ? { ...others, Authorization: `Bearer ${token()}` } : others;
}

async function answered(path, options) {
  let response;
  try {
    response = await fetch(new URL(path, ROOT), { ...options, credentials: "same-origin" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server can't be reached. Is it still running?");
  }
  if (!response.ok) throw new Problem(await sentence(response), response.status);
  return response;
}

// What the server says went wrong, or what its status means.
async function sentence(response) {
  try {
    const { error } = await response.json();
    if (typeof error.message === "string" && error.message) return error.message;
  } catch {
    // not from our server: a proxy's page, or an answer cut short
  }
  if (response.status === 413) return "This is more than the server takes.";
  if (response.status === 429 || response.status === 503) return "The server is busy: try again.";
  return `The server could not answer (status ${response.status}).`;
}

async function json(response) {
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The answer of the server can't be read.");
  }
}

// GET with fields in the address; empty ones are left out.
export async function get(path, fields = {}, signal = undefined) {
  const asked = Object.entries(fields).filter(([, value]) => value !== "");
  const query = asked.length ? `?${new URLSearchParams(asked)}` : "";
  return json(await answered(path + query, { headers: headers(), signal }));
}

export async function post(path, body, signal = undefined) {
  const options = {
    method: "POST",
    headers: headers({ "Content-Type": "application/json" }),
    body: JSON.stringify(body),
    signal,
  };
  return json(await answered(path, options));
}

// --- pictures ----------------------------------------------------------------------------------

// Without a token the browser loads pictures itself. With one they have to be fetched, since an
// <img> can't send it; only those that are about to be seen are.
const near = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      fetchPicture(target);
    }
  },
  { rootMargin: "600px" },
);

export function showPicture(img, key, number = 0) {
  const path = `image?${new URLSearchParams({ key, number })}`;
  img.dataset.path = path;
  if (token()) near.observe(img);
  else img.src = new URL(path, ROOT);
}

async function fetchPicture(img) {
  const path = img.dataset.path;
  try {
    const blob = await (await answered(path, { headers: headers() })).blob();
    if (img.dataset.path !== path) return; // it shows another by now
    const address = URL.createObjectURL(blob);
    img.addEventListener("load", () => URL.revokeObjectURL(address), { once: true });
    img.src = address;
  } catch {
    img.dispatchEvent(new Event("error"));
  }
}
