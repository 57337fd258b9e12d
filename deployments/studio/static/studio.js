"use strict";
/* News, times in the reader's own zone, sliders, and links to copy. htmx does the rest.

   The stream is heard once for the page, and told to the elements whom it concerns: data-news="job_…", "files" or "any" gets
   the event "news"; data-newcomers="/path/" has the row of a new job put on top. htmx's own extension of the stream hands
   each message to every element, and to choose among them it would have to evaluate text, which the page's policy
   forbids. News of a job that come close together are one. A page that nobody looks at hears nothing, and goes on
   after the last number when it is looked at again: a browser opens six connections to a host, over all its pages. */
(() => {
  const TOPICS = ["job.created", "job.running", "job.progress", "job.completed", "job.failed", "job.cancelled",
    "asset.stored", "batch.awaiting_choice", "wait.opened", "budget.reached", "callback.disabled"];
  // After which there may be new files: of a batch's rows their batch tells.
  const OF_FILES = new Set(["asset.stored", "job.progress", "job.completed", "batch.awaiting_choice"]);
  const GATHERED_MS = 250, AGAIN_MS = 3000;
  const address = document.body.dataset.stream;
  const jobs = new Set(), created = new Set();
  const others = new Set();
  let source = null, last = null, timer = null;

  // A page that is left open for days would come to have all that has come since: it is loaded anew, once it is long
  // and nobody is in the middle of it.
  function tidy() {
    const isLong = (list) => list.childElementCount > Number(list.dataset.most);
    const isInUse = scrollY > innerHeight || document.querySelector("main input:checked, main :focus")
      || [...document.querySelectorAll("video, audio")].some((each) => !each.paused);
    if (isInUse || ![...document.querySelectorAll("[data-most]")].some(isLong)) return false;
    location.reload();
    return true;
  }

  function tell() {
    timer = null;
    if (tidy()) return;
    // What the page had when it was loaded, or what a stream tells again, is there already.
    for (const list of document.querySelectorAll("[data-newcomers]"))
      for (const id of created)
        if (!document.querySelector(`[data-news="${CSS.escape(id)}"]`))
          htmx.ajax("GET", list.dataset.newcomers + encodeURIComponent(id), { target: list, swap: "afterbegin" });
    for (const id of jobs)
      for (const each of document.querySelectorAll(`[data-news="${CSS.escape(id)}"]`)) htmx.trigger(each, "news");
    for (const what of others)
      for (const each of document.querySelectorAll(`[data-news="${what}"]`)) htmx.trigger(each, "news");
    jobs.clear(); created.clear(); others.clear();
  }

  function hear(event) {
    const news = JSON.parse(event.data);
    last = news.number;
    others.add("any");
    if (OF_FILES.has(event.type)) others.add("files");
    if (news.job_id) (event.type === "job.created" ? created : jobs).add(news.job_id);
    timer ??= setTimeout(tell, GATHERED_MS);
  }

  function open() {
    if (source || document.hidden) return;
    // A new one sends no Last-Event-ID, as one does that opens itself again.
    source = new EventSource(last === null ? address : `${address}?after=${last}`);
    for (const topic of TOPICS) source.addEventListener(topic, hear);
    source.onopen = () => { document.body.dataset.live = "yes"; };
    // A stream that breaks the browser opens again by itself; not one that was refused, or led to the sign-in page.
    source.onerror = () => {
      document.body.dataset.live = "no";
      if (source.readyState !== EventSource.CLOSED) return;
      close();
      setTimeout(open, AGAIN_MS * (1 + Math.random()));
    };
  }

  function close() {
    source?.close();
    source = null;
  }

  // One for all times: each call of toLocaleString makes its own.
  const zone = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

  // With the root: what htmx has put in may be the element itself.
  function found(root, what) {
    return [...(root.matches?.(what) ? [root] : []), ...root.querySelectorAll(what)];
  }

  function ownZone(root) {
    for (const each of found(root, "time[datetime]")) each.textContent = zone.format(new Date(each.dateTime));
  }

  // A slider and the number beside it are one: the number is what is sent.
  function slide(root) {
    for (const slider of found(root, "input[data-slides]")) {
      const typed = document.getElementById(slider.dataset.slides);
      slider.hidden = false;
      slider.oninput = () => { typed.value = slider.value; };
      typed.oninput = () => { if (typed.value !== "") slider.value = typed.value; };
    }
    for (const copies of found(root, "button[data-copies]")) {
      const text = document.getElementById(copies.dataset.copies), label = copies.textContent;
      copies.hidden = false;
      copies.onclick = async () => {
        text.select();  // over plain HTTP there is no clipboard but that of a selection
        try { await navigator.clipboard.writeText(text.value); } catch { document.execCommand("copy"); }
        copies.textContent = "Copied";
        setTimeout(() => { copies.textContent = label; }, 2000);
      };
    }
  }

  // On a narrow screen the navigation scrolls: to where one is.
  for (const here of document.querySelectorAll("nav a[aria-current]")) {
    const nav = here.closest("nav");
    nav.scrollLeft = here.offsetLeft - nav.offsetLeft - (nav.clientWidth - here.offsetWidth) / 2;
  }
  ownZone(document);
  slide(document);
  // What has come alone: with each row that is fetched anew the times of the whole list would be written again.
  document.body.addEventListener("htmx:load", (event) => {
    ownZone(event.detail.elt);
    slide(event.detail.elt);
  });
  if (address) {
    open();
    document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  }
})();
