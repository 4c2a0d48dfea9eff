// Keeps the page up to date. Everything else works without it.
"use strict";
(() => {
  const quiet = 20_000; // ms until a page that was left behind is looked at again

  // Times: as long ago as they are, with the whole time in the tooltip.
  const ago = (date, now) => {
    const s = Math.round((now - date) / 1000);
    if (s < -60) return date.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
    if (s < 3) return "just now";
    if (s < 60) return s + " s ago";
    if (s < 3600) return Math.floor(s / 60) + " min ago";
    const clock = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    const midnight = new Date(now);
    midnight.setHours(0, 0, 0, 0);
    if (date >= midnight) return clock;
    if (midnight - date < 86_400_000) return "yesterday " + clock;
    return date.toLocaleDateString([], { dateStyle: "medium" }) + " " + clock;
  };
  const wordTimes = () => {
    const now = new Date();
    for (const t of document.querySelectorAll("time")) {
      const date = new Date(t.dateTime);
      const text = ago(date, now);
      if (t.textContent !== text) t.textContent = text;
      if (!t.title) t.title = date.toLocaleString();
    }
  };

  // Regions: what the server drew of each, to replace only what has changed.
  const drawn = new Map();
  const remember = () => {
    for (const r of document.querySelectorAll("[data-region]")) drawn.set(r.id, r.outerHTML);
  };
  const inUse = (region) => {
    const active = document.activeElement;
    if (active && region.contains(active) && active.matches("input, select, textarea")) return true;
    return region.querySelector("details.confirm[open]") !== null;
  };
  const replace = (region, fresh) => {
    const active = document.activeElement;
    const focused = active && region.contains(active) ? active : null;
    const href = focused && focused.getAttribute("href");
    const key = focused && (focused.id || (focused.closest("[id]") || {}).id);
    const open = [...region.querySelectorAll("details[open]")].map((d) => d.querySelector("summary").textContent);
    const scrolls = [...region.querySelectorAll("[data-scroll]")].map((e) => [e.scrollTop, e.scrollHeight - e.clientHeight]);
    region.replaceWith(fresh);
    for (const d of fresh.querySelectorAll("details")) {
      if (open.includes(d.querySelector("summary").textContent)) d.open = true;
    }
    [...fresh.querySelectorAll("[data-scroll]")].forEach((e, i) => {
      const before = scrolls[i];
      e.scrollTop = !before || before[0] >= before[1] - 4 ? e.scrollHeight : before[0];
    });
    if (focused) {
      const again = href ? [...fresh.querySelectorAll("a")].find((a) => a.getAttribute("href") === href) : document.getElementById(key);
      const target = again && again.matches("a, button, summary, [tabindex]") ? again : again && again.querySelector("summary, button, a");
      if (target) target.focus({ preventScroll: true });
    }
  };

  // A job that is followed: its text and progress as they come.
  const told = { text: "", begun: false };
  const paint = () => {
    const place = document.querySelector("[data-told]");
    if (!place || !told.begun || place.textContent === told.text) return;
    const atEnd = place.scrollTop >= place.scrollHeight - place.clientHeight - 4;
    place.textContent = told.text;
    if (atEnd) place.scrollTop = place.scrollHeight;
  };
  const step = (progress) => {
    const place = document.querySelector("#state .progress");
    const bar = place && place.querySelector("progress");
    if (!bar || !progress || !progress.total) return;
    bar.max = progress.total;
    bar.value = progress.step;
    bar.nextElementSibling.textContent = "step " + progress.step + " of " + progress.total;
  };
  let followed = null;
  const follow = () => {
    const place = document.querySelector("[data-follow]");
    if (followed || !place || document.hidden) return;
    followed = new EventSource(place.dataset.follow);
    let first = true;
    followed.addEventListener("open", () => { first = true; });
    followed.addEventListener("state", (e) => {
      const job = JSON.parse(e.data);
      if (job.state !== "running") { told.text = ""; told.begun = false; }
      if (["done", "failed", "cancelled"].includes(job.state)) { place.remove(); unfollow(); }
    });
    followed.addEventListener("progress", (e) => step(JSON.parse(e.data).progress));
    followed.addEventListener("delta", (e) => {
      const text = JSON.parse(e.data).text;
      told.text = first ? text : told.text + text; // the first holds all there was before
      told.begun = true;
      first = false;
      paint();
    });
    followed.addEventListener("error", () => {
      if (followed && followed.readyState === EventSource.CLOSED) { followed = null; setTimeout(follow, quiet / 4); }
    });
  };
  const unfollow = () => { if (followed) followed.close(); followed = null; };

  const parts = document.body.dataset.live;
  const sign = document.getElementById("live");
  let source = null, fetching = false, again = false;
  const say = (text) => {
    if (!sign) return;
    if (sign.textContent !== text) sign.textContent = text;
    sign.classList.toggle("lost", text !== "");
  };
  const refresh = async () => {
    if (fetching) { again = true; return; }
    fetching = true;
    try {
      const answer = await fetch(location.href, { headers: { "X-Live": "1" } });
      if (answer.status === 401) { location.reload(); return; }
      if (answer.ok) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        document.body.dataset.since = page.body.dataset.since;
        for (const fresh of page.querySelectorAll("[data-region]")) {
          const region = document.getElementById(fresh.id);
          if (!region || drawn.get(fresh.id) === fresh.outerHTML || inUse(region)) continue;
          drawn.set(fresh.id, fresh.outerHTML);
          replace(region, document.importNode(fresh, true));
        }
        for (const gone of document.querySelectorAll("[data-region]")) {
          if (!page.getElementById(gone.id)) gone.remove();
        }
        wordTimes();
        paint();
      }
    } catch { // the studio is away; the stream says so
    } finally {
      fetching = false;
      if (again) { again = false; refresh(); }
    }
  };
  const connect = () => {
    if (source || document.hidden) return;
    source = new EventSource("/live?parts=" + encodeURIComponent(parts) + "&since=" + document.body.dataset.since);
    source.addEventListener("hello", () => say(""));
    source.addEventListener("change", refresh);
    source.addEventListener("over", () => location.reload());
    source.addEventListener("error", () => {
      say("The studio does not answer; trying again.");
      if (source && source.readyState === EventSource.CLOSED) { source = null; setTimeout(connect, quiet / 4); }
    });
  };

  for (const button of document.querySelectorAll("[data-copy]")) {
    const field = document.getElementById(button.dataset.copy);
    button.hidden = false;
    button.addEventListener("click", async () => {
      field.select();
      try { await navigator.clipboard.writeText(field.value); button.textContent = "Copied"; } catch { button.textContent = "Press Ctrl+C"; }
    });
  }
  for (const log of document.querySelectorAll("[data-scroll]")) log.scrollTop = log.scrollHeight;

  remember();
  wordTimes();
  setInterval(() => { if (!document.hidden) wordTimes(); }, 1000);
  if (parts && "EventSource" in window) {
    const leave = () => { if (source) source.close(); source = null; unfollow(); };
    connect();
    follow();
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) { leave(); return; }
      connect(); // it is told at once when something has changed
      follow();
    });
    window.addEventListener("pagehide", leave);
    document.addEventListener("submit", leave); // what comes next is another page
  }
})();
