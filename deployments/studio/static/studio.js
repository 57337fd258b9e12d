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

  function tell() {
    timer = null;
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
    source = new EventSource(last === null ? address : `${address}?after=${last}`);
    for (const topic of TOPICS) source.addEventListener(topic, hear);
    source.onopen = () => { document.body.dataset.live = "yes"; };
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

  const zone = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

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
        text.select();
        try { await navigator.clipboard.writeText(text.value); } catch { document.execCommand("copy"); }
        copies.textContent = "Copied";
        setTimeout(() => { copies.textContent = label; }, 2000);
      };
    }
  }

  ownZone(document);
  slide(document);
  document.body.addEventListener("htmx:load", (event) => {
    ownZone(event.detail.elt);
    slide(event.detail.elt);
  });
  if (address) {
    open();
    document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  }
})();
