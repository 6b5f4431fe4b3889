// Place the subject on a canvas by dragging or by JSON; the result is rendered by the server.
import { AWAY_TEXT, call, local, poll, upload } from "./api.js";
import { remember } from "./recent.js";
import { Canceled, start } from "./start.js";
import { Busy, Failure, html, useEffect, useLoad, useRef, useState } from "./ui.js";

const ANCHORS = ["top-left", "top-center", "top-right", "center-left", "center", "center-right", "bottom-left", "bottom-center", "bottom-right"];
const SIZES = { "1920×1080": [1920, 1080], "1080×1920": [1080, 1920], "1080×1080": [1080, 1080], "1280×720": [1280, 720] };

const drafts = new Map(); // compositions by job: another page may be looked at meanwhile
let chosen = null; // the job that was placed last

const even = (value) => 2 * Math.floor(value / 2);

/** Where the server puts the frame: [left, top, width, height] in pixels of the canvas. The rule of the composition. */
export function place(composition, frame) {
  const canvas = [even(composition.canvas?.width ?? frame.width), even(composition.canvas?.height ?? frame.height)];
  const { anchor = "center", scale = 1, offset = {} } = composition.foreground ?? {};
  const fit = Math.min(canvas[0] / frame.width, canvas[1] / frame.height) * scale;
  const size = [Math.max(2, even(frame.width * fit)), Math.max(2, even(frame.height * fit))];
  const [vertical, horizontal = "center"] = anchor.split("-");
  const across = { left: 0, center: 0.5, right: 1 }[horizontal], down = { top: 0, center: 0.5, bottom: 1 }[vertical];
  return [even((canvas[0] - size[0]) * across + (offset.x ?? 0)), even((canvas[1] - size[1]) * down + (offset.y ?? 0)), ...size];
}

const isNumber = (value) => (value ?? null) === null || Number.isFinite(value);

/** Why the preview cannot show a composition, or null. The server checks the rest. */
function wrongIn(composition) {
  const { canvas = {}, foreground = {} } = composition ?? {};
  const { anchor = "center", scale, offset = {} } = foreground ?? {};
  if (![composition, canvas, foreground, offset].every((part) => part && typeof part === "object")) return "The composition and its canvas, foreground and offset are JSON objects.";
  if (!ANCHORS.includes(anchor)) return `The anchor is one of ${ANCHORS.join(", ")}.`;
  if (![canvas.width, canvas.height, scale, offset.x, offset.y].every(isNumber)) return "Sizes, scale and offsets are numbers.";
  return null;
}

export function ComposePage({ navigate }) {
  const [page, error] = useLoad((signal) => poll("/v1/jobs?limit=50&status=completed", signal));
  const usable = (page?.items ?? []).filter((job) => job.output_url && job.output_format === "webm" && job.output?.has_alpha && !job.composition);
  const [id, setId] = useState(chosen);
  useEffect(() => { chosen = id; }, [id]);
  const job = usable.find((candidate) => candidate.id === id) ?? usable[0];
  return html`<h1>Compose</h1><p class="lead">Put a subject on a canvas of any size, over any background. Start from a transparent WebM.</p>
    <${Failure} error=${error} />
    ${!page && !error && html`<p class="hint">Loading…</p>`}
    ${page && usable.length === 0 && html`<div class="card"><p>No transparent WebM yet.</p><a class="button primary" href="#/">Make one</a></div>`}
    ${job && html`<div class="field"><label for="source">Result to place</label><select id="source" value=${job.id} onChange=${(event) => setId(event.target.value)}>
        ${usable.map((item) => html`<option value=${item.id} selected=${item.id === job.id}>${new Date(item.created_at).toLocaleString()}, ${item.model}, ${item.output.width}×${item.output.height}</option>`)}</select></div>
      <${Composer} key=${job.id} job=${job} navigate=${navigate} />`}`;
}

const shown = (file) => ({ file, url: URL.createObjectURL(file) });

function Composer({ job, navigate }) {
  const frame = { width: job.output.width, height: job.output.height };
  const [draft] = useState(() => drafts.get(job.id) ?? {});
  const [composition, setComposition] = useState(draft.composition ?? { canvas: { width: 1080, height: 1080 }, foreground: { anchor: "center", scale: 1, offset: { x: 0, y: 0 } } });
  const [text, setText] = useState(null);
  const [wrong, setWrong] = useState(null);
  const [background, setBackground] = useState(draft.background ?? "color");
  const [color, setColor] = useState(draft.color ?? "#09a246");
  const [media, setMedia] = useState(() => draft.file ? shown(draft.file) : null);
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(null);
  const [canceled, setCanceled] = useState(null);
  const stop = useRef(null);
  const uploaded = useRef(draft.uploaded ?? null); // {file, url}: a file is sent once, also when the rest fails
  const stage = useRef(null), drag = useRef(null);
  const [ratio, setRatio] = useState(1);
  const canvas = composition.canvas ?? {};
  const width = canvas.width ?? frame.width, height = canvas.height ?? frame.height;
  const { anchor = "center", scale = 1, offset = { x: 0, y: 0 } } = composition.foreground ?? {};
  const box = place(composition, frame);
  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => setRatio(entry.contentRect.width / width));
    observer.observe(stage.current);
    return () => observer.disconnect();
  }, [width]);
  useEffect(() => { drafts.set(job.id, { composition, background, color, file: media?.file, uploaded: uploaded.current }); });
  useEffect(() => () => media && URL.revokeObjectURL(media.url), [media]);
  useEffect(() => () => stop.current?.abort(), []);

  const setForeground = (changes) => { setText(null); setWrong(null); setComposition({ ...composition, foreground: { anchor, scale, offset, ...changes } }); };
  const setCanvas = (changes) => { setText(null); setWrong(null); setComposition({ ...composition, canvas: { width, height, ...changes } }); };
  const move = (event) => {
    if (!drag.current) return;
    const { x, y, from } = drag.current;
    setForeground({ offset: { x: Math.round(from.x + (event.clientX - x) / ratio), y: Math.round(from.y + (event.clientY - y) / ratio) } });
  };
  const keys = (event) => {
    const by = event.shiftKey ? 20 : 2;
    const change = { ArrowLeft: [-by, 0], ArrowRight: [by, 0], ArrowUp: [0, -by], ArrowDown: [0, by] }[event.key];
    if (!change) return;
    event.preventDefault();
    setForeground({ offset: { x: offset.x + change[0], y: offset.y + change[1] } });
  };
  const readText = (event) => {
    setText(event.target.value);
    let problem = "This is not complete JSON.";
    try {
      const parsed = JSON.parse(event.target.value);
      problem = wrongIn(parsed);
      if (!problem) { setComposition(parsed); setError(null); }
    } catch { /* until it is complete */ }
    setWrong(problem);
  };
  const sent = async () => {
    if (uploaded.current?.file !== media.file) {
      const onProgress = (share, wait) => setBusy({ what: `Uploading ${media.file.name}`, share, wait });
      onProgress(0);
      uploaded.current = { file: media.file, url: (await upload(media.file, onProgress, stop.current.signal)).video_url };
    }
    return uploaded.current.url;
  };
  const request = async () => {
    if (wrong) throw new Error(`The JSON is not what the preview shows: ${wrong}`);
    // The same engine, so that the rendered subject is the one that was placed.
    const fields = { video_url: job.video_url, model: job.model, engine: job.engine.name, output_format: "mp4", composition };
    if (job.text_prompt) fields.text_prompt = job.text_prompt;
    if (background === "color") fields.background = { type: "color", color };
    if (background === "blur") fields.background = { type: "blur" };
    if (background === "image" || background === "video") fields.background = { type: background, [`${background}_url`]: await sent() };
    if (background === "transparent") { fields.output_format = "webm"; fields.background = { type: "transparent" }; }
    return fields;
  };
  const act = async (action) => {
    if (busy) return;
    let leaves = false;
    stop.current = new AbortController();
    setBusy({ what: "Asking the server", share: null });
    setError(null);
    setCanceled(null);
    try { leaves = await action(); } catch (failure) { if (failure.name !== "AbortError") setError(failure); }
    if (!leaves) setBusy(null);
  };
  const render = (event) => {
    event.preventDefault();
    act(async () => {
      const fields = await request();
      const { signal } = stop.current, what = "Starting the job";
      setBusy({ what, share: null });
      const onAway = () => setBusy({ what, share: null, wait: AWAY_TEXT });
      const made = await start("/v1/jobs", fields, { signal, onAway, onCanceled: (outcome) => stop.current.signal === signal && setCanceled(outcome) });
      remember(made.id, { preview: null, filename: null, fields });
      navigate(`#/jobs/${made.id}`);
      return true;
    });
  };
  const check = () => act(async () => { await call("POST", "/v1/estimate", { ...(await request()) }, stop.current.signal); });
  const needsMedia = background === "image" || background === "video";
  return html`<form class="grid two" onSubmit=${render}>
    <div class="card">
      <div class=${`canvas-stage ${background === "transparent" ? "checkerboard" : "black"}`} ref=${stage} tabindex="0" role="application" aria-label="Canvas: drag the subject, or move it with the arrow keys"
        style=${{ aspectRatio: `${width} / ${height}`, maxHeight: "70vh", ...(background === "color" ? { backgroundColor: color } : {}) }} onKeyDown=${keys}
        onPointerDown=${(event) => { drag.current = { x: event.clientX, y: event.clientY, from: offset }; event.currentTarget.setPointerCapture(event.pointerId); }}
        onPointerMove=${move} onPointerUp=${() => { drag.current = null; }} onPointerCancel=${() => { drag.current = null; }}>
        ${background === "image" && media && html`<img src=${media.url} alt="" style=${{ position: "absolute", width: "100%", height: "100%", objectFit: "cover" }} />`}
        ${background === "video" && media && html`<video src=${media.url} muted loop autoplay playsinline style=${{ position: "absolute", width: "100%", height: "100%", objectFit: "cover" }}></video>`}
        ${background === "blur" && html`<video src=${local(job.video_url)} muted loop autoplay playsinline style=${{ position: "absolute", width: "100%", height: "100%", objectFit: "cover", filter: `blur(${Math.min(width, height) / 30 * ratio}px)` }}></video>`}
        <video src=${local(job.output_url)} muted loop autoplay playsinline aria-label="Subject"
          style=${{ position: "absolute", left: `${box[0] * ratio}px`, top: `${box[1] * ratio}px`, width: `${box[2] * ratio}px`, height: `${box[3] * ratio}px`, objectFit: "fill" }}></video>
      </div>
      <p class="hint" style=${{ marginTop: "8px" }}>Drag the subject, or use the arrow keys (20 pixels with Shift).</p>
    </div>
    <div class="card"><${Failure} error=${error} /><${Canceled} outcome=${canceled} />
      <fieldset><legend>Canvas</legend><div class="choices">${Object.entries(SIZES).map(([title, [w, h]]) => html`<label><input type="radio" name="size" checked=${width === w && height === h} onChange=${() => setCanvas({ width: w, height: h })} />${title}</label>`)}</div>
        <div class="row" style=${{ marginTop: "8px" }}><input class="grow" style=${{ width: "auto" }} type="number" aria-label="Canvas width" min="16" max="4096" value=${width} onInput=${(event) => event.target.value && setCanvas({ width: Number(event.target.value) })} />×<input class="grow" style=${{ width: "auto" }} type="number" aria-label="Canvas height" min="16" max="4096" value=${height} onInput=${(event) => event.target.value && setCanvas({ height: Number(event.target.value) })} /></div></fieldset>
      <div class="field"><label for="anchor">Anchor</label><select id="anchor" value=${anchor} onChange=${(event) => setForeground({ anchor: event.target.value })}>${ANCHORS.map((name) => html`<option value=${name} selected=${name === anchor}>${name}</option>`)}</select></div>
      <div class="field"><label for="scale">Scale ${scale}</label><input id="scale" type="range" min="0.1" max="4" step="0.05" value=${scale} onInput=${(event) => setForeground({ scale: Number(event.target.value) })} /></div>
      <div class="field"><label for="backdrop">Background</label><select id="backdrop" value=${background} onChange=${(event) => { setBackground(event.target.value); setMedia(null); }}>${["color", "image", "video", "blur", "transparent"].map((name) => html`<option value=${name} selected=${name === background}>${name}</option>`)}</select></div>
      ${background === "color" && html`<div class="field"><label for="fill">Color</label><input id="fill" type="color" value=${color} onInput=${(event) => setColor(event.target.value)} /></div>`}
      ${needsMedia && html`<div class="field"><label for="media">File</label><input id="media" key=${background} type="file" required=${!media} accept=${background === "image" ? "image/png,image/jpeg,image/webp" : "video/*"} onChange=${(event) => event.target.files[0] && setMedia(shown(event.target.files[0]))} />${media && media.file === draft.file && html`<p class="hint">${media.file.name} is used until you choose another.</p>`}</div>`}
      <details class="field"><summary>As JSON</summary><label class="visually-hidden" for="composition">Composition</label><textarea id="composition" class="mono" spellcheck="false" value=${text ?? JSON.stringify(composition, null, 2)} aria-invalid=${wrong ? "true" : "false"} onInput=${readText}></textarea>
        <p class="hint" role="status">${wrong}</p>
        <button type="button" class="small" disabled=${busy} onClick=${check}>Check with the server</button></details>
      ${busy ? html`<${Busy} ...${busy} onCancel=${() => stop.current.abort()} />` : html`<button class="primary" style=${{ width: "100%" }}>Render</button>`}
    </div>
  </form>`;
}
