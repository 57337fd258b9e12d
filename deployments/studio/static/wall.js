"use strict";
/* The choice on a wall of drafts, by click and by keys. The text #numbers is what is sent; ticks follow it and it follows
   them, so tiles that are loaded later know whether they are chosen. One tile is in the order of tabs, the focused one. */
(() => {
  const form = document.getElementById("choice");
  if (!form) return;
  const wall = form.querySelector(".wall"), text = form.querySelector("#numbers");
  const total = Number(form.dataset.rows);
  let chosen = new Set(), anchor = null, current = null;

  const tiles = () => [...wall.querySelectorAll(".tile")];
  const boxOf = (tile) => tile?.querySelector("input[type=checkbox]");
  const boxes = () => [...wall.querySelectorAll("input[type=checkbox]")];

  function read() {
    const words = text.value.trim().toLowerCase().split(/[,;\s]+/).filter(Boolean), found = new Set();
    if (words.length === 1 && words[0] === "all") return new Set(Array.from({ length: total }, (_, n) => n + 1));
    for (const word of words) {
      const [, from, to = from] = /^(\d{1,9})(?:[-–](\d{1,9}))?$/.exec(word) ?? [];
      for (let n = Number(from); n <= Math.min(Number(to), total); n++) found.add(n);
    }
    return found;
  }

  function write() {
    const numbers = [...chosen].sort((a, b) => a - b), ranges = [];
    for (const n of numbers) {
      const last = ranges.at(-1);
      if (last && last[1] === n - 1) last[1] = n;
      else ranges.push([n, n]);
    }
    return ranges.map(([a, b]) => (a === b ? `${a}` : `${a}-${b}`)).join(", ");
  }

  function show() {
    const all = boxes();
    if (!all.includes(current)) current = all.find((box) => box.checked) ?? all[0];
    for (const box of all) {
      box.removeAttribute("name");
      box.checked = chosen.has(Number(box.value));
      box.tabIndex = box === current ? 0 : -1;
    }
    for (const link of wall.querySelectorAll("a.tile-number")) link.tabIndex = -1;
  }

  function changed(words = write()) {
    text.value = words;
    show();
    text.dispatchEvent(new Event("chosen"));
  }

  function mark(box, on) {
    if (on) chosen.add(Number(box.value)); else chosen.delete(Number(box.value));
  }

  function markRange(to) {
    const all = boxes(), [a, b] = [all.indexOf(anchor ?? to), all.indexOf(to)].sort((x, y) => x - y);
    for (const box of all.slice(Math.max(a, 0), b + 1)) mark(box, true);
  }

  function chooseAll() {
    chosen = new Set(Array.from({ length: total }, (_, n) => n + 1));
    changed("all");
  }

  function focus(box) {
    if (current) current.tabIndex = -1;
    current = box;
    box.tabIndex = 0;
    box.focus();
  }

  function step(box, key) {
    const all = tiles(), columns = getComputedStyle(wall).gridTemplateColumns.split(" ").length;
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -all.length, End: all.length }[key];
    if (!by) return null;
    let at = all.indexOf(box.closest(".tile")) + by;
    if (key === "Home") at = 0;
    if (key === "End") at = all.length - 1;
    const on = by < 0 && key !== "Home" || key === "End" ? -1 : 1;  // past tiles without a picture, in the same direction
    while (all[at] && !boxOf(all[at])) at += on;
    return boxOf(all[at]);
  }

  wall.addEventListener("click", (event) => {
    const label = event.target.closest("label");
    if (!label) return;
    const box = label.querySelector("input");
    if (event.target !== box) event.preventDefault();
    const on = event.target === box ? box.checked : !chosen.has(Number(box.value));
    if (event.shiftKey && anchor) markRange(box); else mark(box, on);
    anchor = current = box;
    box.focus();
    changed();
  });

  wall.addEventListener("keydown", (event) => {
    const box = event.target;
    if (!box.matches("input[type=checkbox]") || event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.key, to = step(box, key);
    if (to) {
      if (event.shiftKey) { anchor ??= box; markRange(to); changed(); } else anchor = to;
      focus(to);
    } else if (key === "a" || key === "A") chooseAll();
    else if (key === "n" || key === "N") { chosen.clear(); changed(""); }
    else if (key === "Enter") box.closest(".tile").querySelector("a").click();
    else if (!key.startsWith("Arrow")) return;
    event.preventDefault();
  });

  text.addEventListener("input", () => { chosen = read(); show(); text.dispatchEvent(new Event("chosen")); });
  document.body.addEventListener("htmx:load", (event) => { if (event.detail.elt.closest?.(".wall")) show(); });
  // What is on the page already is not put there again: the focus would be lost.
  document.body.addEventListener("htmx:oobBeforeSwap", (event) => {
    const fresh = event.detail.fragment.querySelector?.("[data-status]");
    if (fresh && event.detail.target.dataset.status === fresh.dataset.status) event.detail.shouldSwap = false;
  });

  form.querySelector("#price").hidden = true;
  for (const box of boxes()) if (box.checked) chosen.add(Number(box.value));
  for (const n of read()) chosen.add(n);
  if (chosen.size && text.value.trim().toLowerCase() !== "all") text.value = write();
  show();
})();
