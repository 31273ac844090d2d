/* The preview's comforts: light or dark by a button, the sidebar at the current page, and a search
   in an index that is loaded when somebody searches. Nothing is asked of the network. */
"use strict";

const root = document.currentScript.dataset.root;
const kept = { get: () => { try { return localStorage.colours; } catch { return null; } },
               set: (value) => { try { localStorage.colours = value; } catch { /* not kept */ } } };
const prefers = () => (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
const colours = () => document.documentElement.style.colorScheme || prefers();
if (kept.get()) document.documentElement.style.colorScheme = kept.get();

// Letters without accents and case, so that "ale" finds "Ålé".
const plain = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();

// How well one place answers: every word has to be there; a heading says more than a text.
function score(place, words) {
  let sum = 0;
  for (const word of words) {
    const found = place.heading === word ? 20 : place.heading.startsWith(word) ? 10
      : place.heading.includes(word) ? 6 : place.page.includes(word) ? 3 : place.text.includes(word) ? 1 : 0;
    if (!found) return 0;
    sum += found;
  }
  return sum;
}

let places;
function loadIndex() {
  places ??= new Promise((done) => {
    const script = document.createElement("script");
    script.src = root + "search_index.js"; // a script, since a page from a folder may not fetch
    script.onload = () => done(window.searchIndex.map(([url, page, heading, text]) =>
      ({ url, shown: { page, heading, text }, page: plain(page), heading: plain(heading), text: plain(text) })));
    document.head.append(script);
  });
  return places;
}

// An element; its text is never read as HTML.
function element(name, ...inside) {
  const made = document.createElement(name);
  made.append(...inside);
  return made;
}

function result(place, word) {
  const link = element("a", element("b", place.shown.heading || place.shown.page));
  if (place.shown.heading) link.append(" · ", place.shown.page);
  const at = Math.max(0, place.text.indexOf(word) - 40), text = place.shown.text;
  const here = text.toLowerCase().indexOf(word, at);
  link.append(here < 0 ? element("small", text.slice(0, 120))
    : element("small", at ? "… " : "", text.slice(at, here), element("mark", text.slice(here, here + word.length)),
              text.slice(here + word.length, at + 140)));
  link.href = root + place.url;
  return element("li", link);
}

async function search(text, said, list) {
  const words = plain(text).split(/\s+/).filter(Boolean);
  const all = await loadIndex();
  const found = !words.length ? [] : all.map((place) => [score(place, words), place])
    .filter(([points]) => points).sort((a, b) => b[0] - a[0]).map(([, place]) => place);
  said.textContent = !words.length ? "" : !found.length ? "Nothing found." : `${found.length} found`
    + (found.length > 30 ? ", the best 30:" : ":");
  list.replaceChildren(...found.slice(0, 30).map((place) => result(place, words[0])));
}

addEventListener("DOMContentLoaded", () => {
  const button = document.querySelector(".colours"), form = document.querySelector(".search");
  const input = form.querySelector("input"), panel = form.querySelector(".found");
  const list = panel.querySelector("ul"), links = () => [...list.querySelectorAll("a")];
  const close = () => { panel.hidden = true; };
  button.hidden = form.hidden = false;
  button.onclick = () => {
    const other = colours() === "dark" ? "light" : "dark";
    document.documentElement.style.colorScheme = other;
    kept.set(other);
  };
  for (const nav of document.querySelectorAll("nav.sidebar")) {
    const here = nav.querySelector("[aria-current]");
    if (here) nav.scrollTop = here.offsetTop - nav.clientHeight / 2;
  }
  input.onfocus = loadIndex;
  input.oninput = async () => {
    const text = input.value;
    panel.hidden = !text.trim();
    if (!panel.hidden) await search(text, panel.querySelector("p"), list);
  };
  form.onsubmit = (event) => { event.preventDefault(); links()[0]?.click(); };
  form.onkeydown = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") { close(); input.focus(); }
    if (!step) return;
    event.preventDefault();
    const stops = [input, ...links()];
    stops[Math.min(stops.length - 1, Math.max(0, stops.indexOf(document.activeElement) + step))].focus();
  };
  addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.target.closest("input, textarea")) return;
    event.preventDefault();
    input.focus();
  });
  addEventListener("click", (event) => { if (!form.contains(event.target)) close(); });
});
