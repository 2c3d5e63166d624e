// The token of an index that others can reach: asked for where the address didn't bring it.

import { keepToken, takeToken } from "./api.js";
import { find } from "./dom.js";

export function askForToken() {
  find("#login").hidden = false;
  find("#token").focus();
}

// Call start() whenever there is another token: typed, or behind the # of an address.
export function onToken(start) {
  find("#login").addEventListener("submit", (event) => {
    event.preventDefault();
    keepToken(find("#token").value);
    find("#token").value = "";
    find("#login").hidden = true;
    start();
  });
  addEventListener("hashchange", () => {
    if (!takeToken()) return;
    find("#login").hidden = true;
    start();
  });
}
