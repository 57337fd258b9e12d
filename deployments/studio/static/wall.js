"use strict";
/* The choice on a wall of drafts, by click and by keys. The text #numbers is what is sent; ticks follow it and it follows
   them, so tiles that are loaded later know whether they are chosen. One tile is in the order of tabs, the focused one. */
(() => {
  const form = document.getElementById("choice");
  if (!form) return;
  const wall = form.querySelector(".wall"), text = form.querySelector("#numbers");
  const total = Number(form.dataset.rows);
  // The same as of `parse_winners` (`darkroom/batches/winners.py`).
  const DASHES = /\s*[-‐‑‒–—]\s*/g, PART = /^(\d{1,9})(?:-(\d{1,9}))?$/;
  // By every row but some, as "all" is about rows, too, that have failed or are not on the page yet, or that fail later.
  let every = false, named = new Set(), anchor = null, current = null;

  const tiles = () => [...wall.querySelectorAll(".tile")];
  const boxOf = (tile) => tile?.querySelector("input[type=checkbox]");
  const boxes = () => [...wall.querySelectorAll("input[type=checkbox]")];

  function read() {
    const words = text.value.toLowerCase().replace(DASHES, "-").split(/[,;\s]+/).filter(Boolean);
    every = words[0] === "all" && (words.length === 1 || words[1] === "but");
    named = new Set();
    for (const word of words) {
      const [, from, to = from] = PART.exec(word) ?? [];
      // No further than there are rows, whatever is being typed.
      for (let n = Number(from); n <= Math.min(Number(to), total); n++) named.add(n);
    }
  }

  function write() {
    const numbers = [...named].sort((a, b) => a - b), ranges = [];
    for (const n of numbers) {
      const last = ranges.at(-1);
      if (last && last[1] === n - 1) last[1] = n;
      else ranges.push([n, n]);
    }
    const words = ranges.map(([a, b]) => (a === b ? `${a}` : `${a}-${b}`)).join(", ");
    return every ? `all${words && ` but ${words}`}` : words;
  }

  const isChosen = (box) => every !== named.has(Number(box.value));

  function show() {
    const all = boxes();
    if (!all.includes(current)) current = all.find((box) => box.checked) ?? all[0];
    for (const box of all) {
      box.removeAttribute("name");  // the text is sent: a row that is named twice is refused
      box.checked = isChosen(box);
      box.tabIndex = box === current ? 0 : -1;
    }
    for (const link of wall.querySelectorAll("a.tile-number")) link.tabIndex = -1;
  }

  function changed() {
    text.value = write();
    show();
    text.dispatchEvent(new Event("chosen"));
  }

  function mark(box, on) {
    if (on !== every) named.add(Number(box.value)); else named.delete(Number(box.value));
  }

  function markRange(to) {
    const all = boxes(), [a, b] = [all.indexOf(anchor ?? to), all.indexOf(to)].sort((x, y) => x - y);
    for (const box of all.slice(Math.max(a, 0), b + 1)) mark(box, true);
  }

  function choose(all) {
    every = all;
    named.clear();
    changed();
  }

  // Two boxes are touched, and not all: a wall has thousands.
  function focus(box) {
    if (current) current.tabIndex = -1;
    current = box;
    box.tabIndex = 0;
    box.focus();
  }

  function step(box, key) {
    // How many stand side by side is up to the stylesheet; its computed value names each column.
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
    if (event.target !== box) event.preventDefault();  // else the label clicks its box, and this is heard twice
    const on = event.target === box ? box.checked : !isChosen(box);
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
    } else if (key === "a" || key === "A") choose(true);
    else if (key === "n" || key === "N") choose(false);
    else if (key === "Enter") box.closest(".tile").querySelector("a").click();
    else if (!key.startsWith("Arrow")) return;  // an arrow at the edge does not scroll the page either
    event.preventDefault();
  });

  text.addEventListener("input", () => { read(); show(); text.dispatchEvent(new Event("chosen")); });
  document.body.addEventListener("htmx:load", (event) => { if (event.detail.elt.closest?.(".wall")) show(); });
  // What is on the page already is not put there again: the focus would be lost.
  document.body.addEventListener("htmx:oobBeforeSwap", (event) => {
    const fresh = event.detail.fragment.querySelector?.("[data-status]");
    if (fresh && event.detail.target.dataset.status === fresh.dataset.status) event.detail.shouldSwap = false;
  });

  // Here the price follows by itself.
  form.querySelector("#price").hidden = true;
  const ticked = boxes().filter((box) => box.checked);
  read();
  for (const box of ticked) mark(box, true);
  if (ticked.length) text.value = write();
  show();
})();
