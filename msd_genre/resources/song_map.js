// The map's panel: search, filter, nearest songs, keys. Bokeh draws, zooms and tells of clicks.
// Names of songs are untrusted: they are set as text, never as HTML.
"use strict";
try { document.documentElement.style.colorScheme = localStorage.colours || ""; } catch { /* as the system has it */ }
const element = (id) => document.getElementById(id);
const SHOWN = 20; // songs found that are listed
const REACH = 24; // pixels around a click in which a song is looked for
const K = 10; // nearest songs of each

const bytes = Uint8Array.from(atob(element("nearest").textContent.trim()), (c) => c.charCodeAt(0));
const nearest = new Int32Array(bytes.buffer);
let songs, models, plot, chosen = -1, genres = [], hidden = new Set(), texts = [];

const name = (row) => `${songs.artist[row]} – ${songs.title[row]}`;
const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();

function button(row, place) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = name(row);
  const small = document.createElement("small");
  small.textContent = songs.genre[row] === songs.answer[row]
    ? songs.genre[row] : `${songs.genre[row]}, taken for ${songs.answer[row]}`;
  made.append(small);
  made.addEventListener("click", () => {
    choose(row);
    (element(place) ?? element("near").querySelector("button"))?.focus();
  });
  const item = document.createElement("li");
  item.append(made);
  return item;
}

function choose(row) {
  chosen = row;
  const near = row < 0 ? [] : [...nearest.subarray(row * K, row * K + K)].filter((r) => r >= 0);
  const at = (rows) => ({ x: rows.map((r) => songs.x[r]), y: rows.map((r) => songs.y[r]) });
  models.chosen.data = at(row < 0 ? [] : [row]);
  models.near.data = at(near);
  models.lines.data = {
    x0: near.map(() => songs.x[row]), y0: near.map(() => songs.y[row]),
    x1: near.map((r) => songs.x[r]), y1: near.map((r) => songs.y[r]),
  };
  element("chosen").textContent = row < 0 ? "No song chosen" : name(row);
  element("facts").textContent = row < 0 ? "Click a point, or find a song by its name."
    : `Genre ${songs.genre[row]}; predicted ${songs.answer[row]}. Its nearest songs:`;
  element("near").replaceChildren(...near.map((r) => button(r)));
  if (row >= 0) keepInSight([row, ...near]);
}

function keepInSight(rows) {
  const [x, y] = [plot.x_range, plot.y_range];
  const row = rows[0];
  const inside = (range, v) => v > Math.min(range.start, range.end) && v < Math.max(range.start, range.end);
  if (inside(x, songs.x[row]) && inside(y, songs.y[row])) return;
  shift(songs.x[row] - (x.start + x.end) / 2, songs.y[row] - (y.start + y.end) / 2);
}

function setRanges(x0, x1, y0, y1) {
  plot.x_range.setv({ start: x0, end: x1 });
  plot.y_range.setv({ start: y0, end: y1 });
}

function shift(dx, dy) {
  const [x, y] = [plot.x_range, plot.y_range];
  setRanges(x.start + dx, x.end + dx, y.start + dy, y.end + dy);
}

function zoom(factor) {
  const [x, y] = [plot.x_range, plot.y_range];
  const [cx, cy] = [(x.start + x.end) / 2, (y.start + y.end) / 2];
  setRanges(cx + (x.start - cx) * factor, cx + (x.end - cx) * factor,
    cy + (y.start - cy) * factor, cy + (y.end - cy) * factor);
}

function nearestOnMap(x, y, reach) {
  const perX = Math.abs(plot.x_range.end - plot.x_range.start) / plot.inner_width;
  const perY = Math.abs(plot.y_range.end - plot.y_range.start) / plot.inner_height;
  let best = -1, least = reach * reach;
  for (let row = 0; row < songs.x.length; row++) {
    if (row === chosen && reach === Infinity || hidden.has(songs.genre[row])) continue;
    const d = ((songs.x[row] - x) / perX) ** 2 + ((songs.y[row] - y) / perY) ** 2;
    if (d < least) [best, least] = [row, d];
  }
  return best;
}

function filter() {
  hidden = new Set(genres.filter((box) => !box.checked).map((box) => box.value));
  const rows = [];
  for (let row = 0; row < songs.genre.length; row++) if (!hidden.has(songs.genre[row])) rows.push(row);
  models.filter.indices = rows;
  element("shown").textContent = `Genres: ${rows.length.toLocaleString("en")} songs shown`;
}

function search() {
  const wanted = plain(element("search").value).split(/\s+/).filter(Boolean);
  const found = [];
  for (let row = 0; wanted.length && row < texts.length && found.length < SHOWN; row++)
    if (wanted.every((word) => texts[row].includes(word))) found.push(row);
  element("found").replaceChildren(...found.map((row) => button(row, "search")));
  if (wanted.length && !found.length) {
    const none = document.createElement("li");
    none.textContent = "no such song on the map";
    element("found").append(none);
  }
  return found;
}

function checkbox(genre, look, n) {
  const label = document.createElement("label"), box = document.createElement("input");
  const mark = document.createElement("span");
  box.type = "checkbox"; box.checked = true; box.value = genre;
  box.addEventListener("change", filter);
  mark.textContent = ` ${look.sign} `; mark.style.color = look.colour;
  mark.setAttribute("aria-hidden", "true");
  label.append(box, mark, `${genre} (${n.toLocaleString("en")})`);
  element("genres").append(label);
  genres.push(box);
}

function onMapKey(event) {
  const step = 0.15 * (plot.x_range.end - plot.x_range.start);
  const rise = 0.15 * (plot.y_range.end - plot.y_range.start);
  const keys = {
    ArrowLeft: () => shift(-step, 0), ArrowRight: () => shift(step, 0),
    ArrowUp: () => shift(0, rise), ArrowDown: () => shift(0, -rise),
    "+": () => zoom(0.7), "=": () => zoom(0.7), "-": () => zoom(1 / 0.7),
    0: () => setRanges(...models.whole),
    n: () => choose(nearestOnMap((plot.x_range.start + plot.x_range.end) / 2,
      (plot.y_range.start + plot.y_range.end) / 2, Infinity)),
  };
  if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  keys[event.key]();
}

async function start() {
  const item = JSON.parse(element("figure").textContent);
  const view = await Bokeh.embed.embed_item(item.item, "plot");
  const root = (view.roots ?? [...view])[0]?.model ?? Bokeh.documents[0].roots()[0];
  plot = root;
  const get = (id) => plot.document.get_model_by_name(id);
  models = { chosen: get("chosen"), near: get("near"), lines: get("lines"), filter: get("filter"),
    whole: item.whole };
  songs = get("songs").data;
  texts = Array.from({ length: songs.x.length }, (_, row) => plain(name(row)));
  for (const [genre, look] of Object.entries(item.genres)) checkbox(genre, look, look.songs);
  element("all").addEventListener("click", () => { genres.forEach((b) => { b.checked = true; }); filter(); });
  element("none").addEventListener("click", () => { genres.forEach((b) => { b.checked = false; }); filter(); });
  plot.on_event("tap", (event) => choose(nearestOnMap(event.x, event.y, REACH)));
  element("search").addEventListener("input", search);
  element("search").addEventListener("keydown", (event) => {
    if (event.key === "Enter") { const [first] = search(); if (first !== undefined) choose(first); }
  });
  element("plot").addEventListener("keydown", onMapKey);
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && document.activeElement !== element("search")) {
      event.preventDefault();
      element("search").focus();
    } else if (event.key === "Escape") choose(-1);
  });
  requestAnimationFrame(() => requestAnimationFrame(() => {
    window.songMap = { ready: performance.now(), choose, plot };
  }));
}
start();
