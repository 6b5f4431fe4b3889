// Correct the matte of a completed job: mark a frame, choose subjects, find the worst moments, undo.
import { AWAY_TEXT, local, pause, poll, post, remove, upload } from "./api.js";
import { recall } from "./recent.js";
import { Badge, Failure, html, timestamp, useEffect, useLeaveWarning, useLoad, useRef, useReturn, useState } from "./ui.js";
import { fileOf, revive } from "./viewer.js";

const TOOLS = { keep: "Keep", remove: "Remove", box: "Box", brush_keep: "Brush: keep", brush_remove: "Brush: remove" };
const COLORS = { keep: "#12b886", remove: "#e03131" };
const REMOVED = "rgba(224, 49, 49, 0.45)"; // over what the matte leaves out
const BEFORE_AFTER_SECONDS = 1;
const ENDED = new Set(["completed", "failed"]);
const POLL_SECONDS = 0.8;

const own = new Set(); // IDs of the corrections that this tab made
const unsent = new Map(); // marks that were not sent, by job: another page may be looked at meanwhile

/** Repeat a request until its status is completed or failed. */
async function settled(path, signal) {
  for (;;) {
    const answer = await poll(path, signal);
    if (ENDED.has(answer.status)) return answer;
    await pause(POLL_SECONDS, signal);
  }
}

/**
 * A job and its corrections, as of the same revision. Others correct it too: `refresh` brings the newest state, and `news`
 * whether they corrected it since the page shows it.
 */
function useCorrections(id) {
  const [state, setState] = useState({});
  const shown = useRef({}); // the same, for functions of former renderings
  const loading = useRef(null), stop = useRef(null);
  const show = (changes) => setState(shown.current = { ...shown.current, ...changes });
  const load = async (signal) => {
    const ask = (path) => poll(path, signal, () => show({ away: true }));
    const list = await ask(`/v1/jobs/${id}/corrections`);
    let { job, revision, news } = shown.current;
    if (job && list.items.some((item) => item.revision > revision && !own.has(item.id))) news = true;
    if (!job || job.revision !== list.revision || !job.output_url || Date.parse(job.expires_at) < Date.now()) job = await ask(`/v1/jobs/${id}`);
    show({ job, revision: list.revision, items: list.items, news, away: false, error: null });
    return shown.current;
  };
  const refresh = () => {
    const { signal } = stop.current;
    const fail = (error) => { if (!signal.aborted) show({ error, away: false }); throw error; };
    return loading.current ??= load(signal).catch(fail).finally(() => { loading.current = null; });
  };
  const update = () => refresh().catch(() => {});
  useEffect(() => {
    stop.current = new AbortController();
    update();
    return () => stop.current.abort();
  }, [id]);
  useReturn(update);
  const running = (state.items ?? []).find((item) => !ENDED.has(item.status));
  useEffect(() => {
    if (!running || state.error?.status === 404) return undefined;
    const timer = setTimeout(update, POLL_SECONDS * 1000);
    return () => clearTimeout(timer);
  }, [state]);
  return { ...state, running, refresh, update, dismiss: () => show({ news: false }) };
}

export function FixPage({ id }) {
  const corrections = useCorrections(id);
  const { job, error } = corrections;
  if (!job || error?.status === 404) return html`<h1>Fix</h1><${Failure} error=${error} />${!error && html`<p class="hint">${corrections.away ? `${AWAY_TEXT} Waiting for it…` : "Loading…"}</p>`}`;
  const file = fileOf(job);
  if (!file || !["webm", "mp4"].includes(file.format)) return html`<h1>Fix</h1><${Failure} error=${error} />
    <div class="note">${job.status === "completed" && !job.output_url ? "The files of this job have expired." : "Only results that a browser can play can be fixed here: make a WebM of this job first."}</div><a class="button" href=${`#/jobs/${id}`}>Back to the job</a>`;
  return html`<div class="row"><h1 class="grow">Fix <span class="badge">revision ${job.revision}</span></h1><a class="button" href=${`#/jobs/${id}`}>Back to the job</a></div>
    <p class="lead">Mark what is wrong in one frame. The correction follows the motion forward and backward, until it no longer fits.</p>
    <${Editor} key=${job.id} job=${job} file=${file} corrections=${corrections} />`;
}

function Editor({ job, file, corrections }) {
  const { items, running, away, news } = corrections;
  const [before] = useState(() => unsent.get(job.id));
  const original = recall(job.id)?.preview ?? local(job.video_url);
  const source = useRef(null), result = useRef(null), overlay = useRef(null), marks = useRef(null), drag = useRef(null);
  const brush = useRef(before?.brush ?? null);
  const moment = useRef(before?.moment ?? 0); // seconds; stays while another file is loaded
  const loaded = useRef(null), wanted = useRef(null); // addresses of the file that the video has, and is to have
  wanted.current = file.url;
  const rate = file.frames && file.seconds ? file.frames / file.seconds : 25;
  const [time, setTime] = useState(moment.current);
  const [playing, setPlaying] = useState(false);
  const [cross, setCross] = useState(null); // [x, y] in pixels, moved by the arrow keys
  const corner = useRef(null);
  const [tool, setTool] = useState("remove");
  const [radius, setRadius] = useState(12);
  const [points, setPoints] = useState(before?.points ?? []);
  const [box, setBox] = useState(before?.box ?? null);
  const [painted, setPainted] = useState(before?.painted ?? false);
  const [busy, setBusy] = useState(null);
  const [error, setError] = useState(null);
  const [held, setHeld] = useState(null); // why marks were not sent
  const [quality, qualityError] = useLoad((signal) => settled(`/v1/jobs/${job.id}/quality`, signal), [job.id, job.revision]);
  const [subjects] = useLoad((signal) => settled(`/v1/jobs/${job.id}/subjects`, signal), [job.id, job.revision]);
  const size = [file.width, file.height];
  const nothing = !points.length && !box && !painted;
  const isUnsent = !nothing && !busy?.isAccepted;
  useLeaveWarning(isUnsent);
  useEffect(() => {
    if (isUnsent) unsent.set(job.id, { points, box, painted, brush: brush.current, moment: moment.current });
    else unsent.delete(job.id);
  }, [points, box, painted, time, busy]);

  const redraw = () => overlay.current && result.current?.readyState >= 2 && tint(result.current, overlay.current);
  useEffect(() => drawMarks(marks.current, brush.current, points, box, cross), [points, box, painted, cross]);
  useEffect(() => {
    brush.current ??= new OffscreenCanvas(...size);
    let current = true;
    const tick = () => {
      if (!current) return;
      const video = result.current;
      if (video) {
        moment.current = now();
        setTime(moment.current);
        setPlaying(!video.paused);
        if (source.current && Math.abs(source.current.currentTime - moment.current) > 0.04) source.current.currentTime = moment.current;
        redraw();
      }
      setTimeout(tick, video?.paused ? 120 : 40);
    };
    tick();
    return () => { current = false; };
  }, []);

  const now = () => (loaded.current === wanted.current ? result.current.currentTime : moment.current);
  const restore = () => {
    loaded.current = file.url;
    result.current.currentTime = moment.current;
  };
  const seek = (seconds) => {
    result.current.pause();
    source.current?.pause();
    moment.current = Math.max(0, Math.min(seconds, (file.seconds ?? seconds) - 0.5 / rate));
    result.current.currentTime = moment.current;
  };
  const step = (count) => seek((Math.floor(now() * rate + 0.01) + count + 0.5) / rate);
  const play = () => { for (const video of [result.current, source.current]) if (video) (playing ? video.pause() : video.play().catch(() => {})); };
  const at = (event) => {
    const area = marks.current.getBoundingClientRect();
    return [(event.clientX - area.left) / area.width * size[0], (event.clientY - area.top) / area.height * size[1]].map((value) => Math.round(value * 10) / 10);
  };
  const down = (event) => {
    if (busy) return; // what is being sent stays as it is
    if (!result.current.paused) play();
    marks.current.setPointerCapture(event.pointerId);
    drag.current = at(event);
    setCross(null);
    mark(drag.current);
  };
  const mark = (here) => {
    if (tool === "keep" || tool === "remove") setPoints([...points, { x: here[0], y: here[1], label: tool }]);
    if (tool.startsWith("brush")) paint(here, here);
  };
  const span = (from, to) => setBox([Math.min(from[0], to[0]), Math.min(from[1], to[1]), Math.abs(to[0] - from[0]), Math.abs(to[1] - from[1])]);
  const keys = (event) => {
    const by = event.shiftKey ? 1 : Math.max(2, Math.round(size[0] / 40));
    const change = { ArrowLeft: [-by, 0], ArrowRight: [by, 0], ArrowUp: [0, -by], ArrowDown: [0, by] }[event.key];
    if (busy) return;
    if (!change && event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    const from = cross ?? size.map((length) => Math.round(length / 2));
    const here = change ? from.map((value, axis) => Math.max(0, Math.min(size[axis] - 1, value + change[axis]))) : from;
    setCross(here);
    if (tool === "box" && corner.current) span(corner.current, here);
    if (change) return;
    if (tool === "box") corner.current = corner.current ? null : here;
    mark(here);
  };
  const moved = (event) => {
    if (!drag.current) return;
    const here = at(event);
    if (tool === "box") span(drag.current, here);
    if (tool.startsWith("brush")) { paint(drag.current, here); drag.current = here; }
  };
  const paint = (from, to) => {
    const context = brush.current.getContext("2d");
    Object.assign(context, { lineCap: "round", lineJoin: "round", lineWidth: radius * 2, strokeStyle: tool === "brush_keep" ? "#fff" : "#000" });
    context.beginPath();
    context.moveTo(...from);
    context.lineTo(to[0] + 0.01, to[1]);
    context.stroke();
    setPainted((count) => (count || 0) + 1);
  };
  const clear = () => { corner.current = null; setPoints([]); setBox(null); setPainted(false); brush.current.getContext("2d").clearRect(0, 0, ...size); };

  /** Send to a job that is as it was shown, and wait for the end. */
  const run = async (what, request) => {
    setBusy({ what, progress: 0 });
    setError(null);
    setHeld(null);
    corrections.dismiss();
    try {
      let state = await corrections.refresh();
      const isChanged = state.job.revision !== job.revision;
      if (isChanged || state.items.some((item) => !ENDED.has(item.status))) {
        setHeld(isChanged ? "this job was corrected meanwhile" : "another correction of this job was in progress");
        setBusy(null);
        return;
      }
      const made = await request();
      own.add(made.id);
      unsent.delete(job.id);
      let mine = made;
      for (;;) {
        setBusy({ what, progress: mine.progress, isAccepted: true });
        state = await corrections.refresh();
        mine = state.items.find((item) => item.id === made.id) ?? mine;
        if (ENDED.has(mine.status)) break;
        await pause(POLL_SECONDS);
      }
      if (mine.status === "failed") throw new Error(mine.error);
      clear();
    } catch (failure) {
      setError(failure);
      corrections.update();
    }
    setBusy(null);
  };
  const send = (body) => post(`/v1/jobs/${job.id}/corrections`, body, { onAway: corrections.update });
  const apply = () => run("Correcting", async () => {
    const body = { time: Math.round(now() * 1000) / 1000 };
    if (points.length) body.points = points;
    if (box) body.box = box;
    if (painted) {
      const png = await brush.current.convertToBlob({ type: "image/png" });
      body.mask_url = (await upload(new File([png], "mask.png", { type: "image/png" }), () => {})).video_url;
    }
    return send(body);
  });
  const kept = nothing ? "" : " Your marks were kept. Check that they still fit, then send them.";
  const said = held ? `Nothing was sent, because ${held}.${news ? ` Revision ${job.revision} is shown now.` : ""}${kept}`
    : news ? `This job was corrected meanwhile. Revision ${job.revision} is shown now.${busy ? "" : kept}` : null;
  const work = busy ?? (running && { what: own.has(running.id) ? "Correcting" : "Another correction is in progress", progress: running.progress });

  return html`<div class="grid two">
    <div>
      <div class="card">
        <${Failure} error=${corrections.error} />
        ${said && !held && html`<div class="note warn" role="status">${said}</div>`}
        ${away && html`<div class="note warn" role="status">${AWAY_TEXT} This page tries again until it can.</div>`}
        <div class="stage"><div class="frame checkerboard" style=${{ aspectRatio: `${size[0]} / ${size[1]}` }}>
          <video ref=${source} src=${original} muted playsinline preload="auto" aria-label="Original video"></video>
          <video class="alpha unseen" ref=${result} src=${file.url} muted loop playsinline preload="auto" aria-hidden="true" onSeeked=${redraw} onLoadedData=${redraw} onLoadedMetadata=${restore} onError=${(event) => { corrections.update(); revive(event); }}></video>
          <canvas class="alpha" ref=${overlay} width=${size[0]} height=${size[1]} aria-hidden="true"></canvas>
          <canvas class="alpha marks" ref=${marks} width=${size[0]} height=${size[1]} tabindex="0" role="application" aria-label="Frame: click to mark what to keep or remove, or move the cross with the arrow keys and press Enter" onKeyDown=${keys} onBlur=${() => setCross(null)} onPointerDown=${down} onPointerMove=${moved} onPointerUp=${() => { drag.current = null; }} onPointerCancel=${() => { drag.current = null; }}></canvas>
        </div></div>
        <${Strip} quality=${quality} error=${qualityError} seconds=${file.seconds ?? 1} time=${time} corrections=${items} onSeek=${seek} />
        <div class="controls">
          <button type="button" class="small" onClick=${play}>${playing ? "Pause" : "Play"}</button>
          <button type="button" class="small" onClick=${() => step(-1)} aria-label="One frame back">‹</button>
          <button type="button" class="small" onClick=${() => step(1)} aria-label="One frame forward">›</button>
          <span class="time">${timestamp(time)} · frame ${Math.floor(time * rate + 0.01)}</span><span class="grow"></span><span class="hint">Red is removed. By keyboard: arrow keys (Shift: one pixel), then Enter.</span>
        </div>
      </div>
      <div class="card"><div class="controls" role="group" aria-label="Tools" style=${{ paddingTop: 0 }}>
          ${Object.entries(TOOLS).map(([name, title]) => html`<button type="button" class="small" aria-pressed=${tool === name ? "true" : "false"} onClick=${() => setTool(name)}>${title}</button>`)}
          ${tool.startsWith("brush") && html`<label class="row" style=${{ margin: 0 }}>Radius ${radius} <input style=${{ width: "110px" }} type="range" min="1" max="120" value=${radius} onInput=${(event) => setRadius(Number(event.target.value))} /></label>`}
        </div>
        <div style=${{ marginTop: "12px" }}><${Failure} error=${error === corrections.error ? null : error} />${held && html`<div class="note warn" role="status">${said}</div>`}</div>
        <div class="row">
          ${work ? html`<div class="grow" aria-live="polite"><p>${work.what}… ${Math.round(work.progress)} %</p><progress value=${work.progress} max="100" aria-label=${work.what}></progress></div>`
            : html`<button type="button" class="primary" disabled=${nothing} onClick=${apply}>Correct from this frame</button>
              <button type="button" disabled=${!points.length} onClick=${() => setPoints(points.slice(0, -1))}>Undo the last mark</button>
              <button type="button" disabled=${nothing} onClick=${clear}>Clear marks</button>`}
        </div></div>
    </div>
    <div>
      <${SubjectChooser} key=${job.revision} subjects=${subjects} busy=${work} onChoose=${(body) => run("Choosing subjects", () => send(body))} />
      <div class="card"><h2>Worst moments</h2>
        ${!quality && !qualityError && html`<p class="hint">Looking…</p>`}<${Failure} error=${qualityError} />
        <div class="moments">${(quality?.worst ?? []).map((moment) => html`<button type="button" class="quiet moment" onClick=${() => seek(moment.time + 0.5 / rate)}>${moment.thumbnail_url && html`<img src=${local(moment.thumbnail_url)} alt="" />`}<span>${timestamp(moment.time)}</span></button>`)}</div>
        ${(quality?.suggestions ?? []).map((suggestion) => html`<p class="hint">${suggestion.message}</p>`)}</div>
      <div class="card"><h2>Corrections</h2>
        ${items.length === 0 && html`<p class="hint">None yet.</p>`}
        ${items.filter((item) => item.number !== null).map((item) => html`<div class="row" style=${{ marginBottom: "8px" }}>
          <span class="grow">${item.number}. ${describe(item)} <${Badge} state=${item.undone ? "pending" : item.status}>${item.undone ? "undone" : item.status}<//></span>
          ${item.time !== null && html`<button type="button" class="small" onClick=${() => seek(Math.max(0, item.time - BEFORE_AFTER_SECONDS / 2))}>Show</button>`}
          ${!item.undone && item.status === "completed" && html`<button type="button" class="small" disabled=${work} onClick=${() => run("Undoing", () => remove(`/v1/jobs/${job.id}/corrections/${item.number}`))}>Undo</button>`}</div>`)}</div>
    </div>
  </div>`;
}

function describe(item) {
  if (item.keep.length) return `keep ${item.keep.length} ${item.keep.length === 1 ? "subject" : "subjects"}`;
  if (item.drop.length) return `drop ${item.drop.length} ${item.drop.length === 1 ? "subject" : "subjects"}`;
  const clicks = item.points.length && `${item.points.length} ${item.points.length === 1 ? "click" : "clicks"}`;
  const how = [clicks, item.box && "box", item.mask_url && "brush"].filter(Boolean).join(", ");
  return item.time === null ? `${how} at frame ${item.frame}` : `${how} at ${timestamp(item.time)}`;
}

/** The quality over time; a click goes there. */
function Strip({ quality, error, seconds, time, corrections, onSeek }) {
  const strip = quality?.strip;
  const click = (event) => { const area = event.currentTarget.getBoundingClientRect(); onSeek((event.clientX - area.left) / area.width * seconds); };
  const count = strip?.time.length ?? 0;
  return html`<div style=${{ marginTop: "10px" }}>
    <svg class="strip" viewBox="0 0 600 34" preserveAspectRatio="none" role="img" aria-label="Quality over time: red is doubtful" onClick=${click}>
      ${count ? strip.time.map((start, index) => html`<rect x=${start / seconds * 600} width=${600 / count + 0.6} y="0" height="26" fill=${heat(strip.error[index])} />`) : html`<rect x="0" y="0" width="600" height="26" class="empty" />`}
      ${corrections.filter((item) => item.time !== null && !item.undone && item.number !== null).map((item) => html`<rect x=${item.time / seconds * 600 - 2} y="27" width="4" height="7" class="corrected"><title>Correction ${item.number}</title></rect>`)}
      <rect x=${time / seconds * 600 - 1} y="0" width="2" height="34" class="cursor" />
    </svg>
    <label class="visually-hidden" for="moment">Moment in seconds</label>
    <input id="moment" type="range" min="0" max=${seconds} step="any" value=${time} onInput=${(event) => onSeek(Number(event.target.value))} />
    ${!quality && !error && html`<span class="hint">The quality over time appears here.</span>`}
  </div>`;
}

/** 0 green, 0.5 amber, 1 red. */
const heat = (value) => `hsl(${150 - 150 * Math.min(1, Math.max(0, value * 2))} 65% 45%)`;

function SubjectChooser({ subjects, busy, onChoose }) {
  const [kept, setKept] = useState(null);
  const list = subjects?.subjects ?? [];
  if (list.length < 2) return null;
  const chosen = kept ?? list.map((subject) => subject.id);
  const toggle = (id) => setKept(chosen.includes(id) ? chosen.filter((other) => other !== id) : [...chosen, id]);
  const changed = chosen.length > 0 && chosen.length < list.length;
  return html`<fieldset class="card"><legend class="visually-hidden">Who stays</legend><h2>Who stays</h2>
    <div class="choices">${list.map((subject) => html`<label><input type="checkbox" checked=${chosen.includes(subject.id)} onChange=${() => toggle(subject.id)} />${subject.thumbnail_url && html`<img class="face" src=${local(subject.thumbnail_url)} alt=${`Subject ${subject.id}`} />`}${subject.sure ? "" : html`<span class="hint">unsure</span>`}</label>`)}</div>
    <button type="button" class="small" style=${{ marginTop: "10px" }} disabled=${!changed || busy} onClick=${() => onChoose({ keep: chosen })}>Keep only these</button></fieldset>`;
}

/** Color what the result leaves out. */
function tint(video, canvas) {
  const context = canvas.getContext("2d");
  context.globalCompositeOperation = "copy";
  context.drawImage(video, 0, 0, canvas.width, canvas.height);
  context.globalCompositeOperation = "source-out";
  context.fillStyle = REMOVED;
  context.fillRect(0, 0, canvas.width, canvas.height);
}

function drawMarks(canvas, brush, points, box, cross) {
  const context = canvas.getContext("2d");
  const { width, height } = canvas;
  context.clearRect(0, 0, width, height);
  if (brush) { context.globalAlpha = 0.7; context.drawImage(brush, 0, 0); context.globalAlpha = 1; }
  const unit = width / 320;
  context.lineWidth = 1.5 * unit;
  if (box) { context.strokeStyle = COLORS.keep; context.strokeRect(...box); }
  for (const point of points) {
    context.beginPath();
    context.arc(point.x, point.y, 4 * unit, 0, 7);
    context.fillStyle = COLORS[point.label];
    context.fill();
    context.strokeStyle = "#fff";
    context.stroke();
  }
  if (!cross) return;
  const [x, y] = cross, arm = 9 * unit;
  for (const [color, line] of [["#fff", 3], ["#000", 1]]) {
    context.beginPath();
    context.moveTo(x - arm, y); context.lineTo(x + arm, y); context.moveTo(x, y - arm); context.lineTo(x, y + arm);
    Object.assign(context, { strokeStyle: color, lineWidth: line * unit });
    context.stroke();
  }
}
