// Choose a video and options, upload, and start the job.
import { AWAY_TEXT, call, KEY_REFUSED, local, pause, poll, SIGNED_OUT, upload } from "./api.js";
import { OPAQUE_FORMATS, TRANSPARENT_FORMATS } from "./formats.js";
import { remember } from "./recent.js";
import { Canceled, start as startJob } from "./start.js";
import { Busy, bytes, duration, Failure, html, number, useEffect, useLoad, useRef, useState } from "./ui.js";

const SUBJECTS = [
  ["human", "People"],
  ["original", "Anything"],
  ["pro", "By words"],
];
const BACKGROUNDS = [
  ["transparent", "Transparent"],
  ["color", "Color"],
  ["image", "Image"],
  ["blur", "Blur"],
];
const PROOF_POLL_SECONDS = 0.8;

const attempt = new Map(); // what was chosen and what goes on, by name: it stays while other pages are looked at

/** Like useState, for a part of the attempt. `isShown()`: whether this page is. */
function useKept(name, initial) {
  const [, render] = useState(null);
  const [part] = useState(() => {
    if (!attempt.has(name)) attempt.set(name, { value: initial, render: null });
    return attempt.get(name);
  });
  useEffect(() => {
    part.render = render;
    return () => { part.render = null; };
  }, []);
  const set = (value) => { part.value = typeof value === "function" ? value(part.value) : value; part.render?.({}); };
  return [part.value, set, () => part.render !== null];
}

addEventListener(SIGNED_OUT, () => { attempt.get("work")?.value.stop?.abort(); attempt.clear(); });
addEventListener(KEY_REFUSED, () => { // another key may not see what was sent
  const work = attempt.get("work")?.value;
  if (work) work.uploaded = work.backdrop = null;
});
addEventListener("beforeunload", (event) => { if (attempt.get("busy")?.value) event.preventDefault(); });

export function TryPage({ navigate }) {
  const [source, setSource, isShown] = useKept("source", null);
  const [started, setStarted] = useKept("started", null);
  const change = (picked, made = null) => {
    for (const name of attempt.keys()) if (!["source", "started"].includes(name)) attempt.delete(name);
    setSource(picked);
    setStarted(made);
  };
  const leave = (made) => {
    change(null, isShown() ? null : made);
    if (isShown()) navigate(`#/jobs/${made.id}`);
  };
  return html`
    <h1>Remove the background of a video</h1>
    <p class="lead">It runs on this server. Nothing is sent anywhere else.</p>
    ${started && html`<div class="note" role="status">The job of ${started.name} was started. <a href=${`#/jobs/${started.id}`}>Show the job</a></div>`}
    ${source ? html`<${Options} source=${source} onClear=${() => change(null)} onStarted=${leave} />` : html`<${Picker} onPick=${change} />`}`;
}

function Picker({ onPick }) {
  const [over, setOver] = useState(false);
  const [url, setUrl] = useState("");
  const [recording, setRecording] = useState(false);
  const take = (files) => files?.[0] && onPick({ file: files[0], name: files[0].name });
  const drop = (event) => { event.preventDefault(); setOver(false); take(event.dataTransfer.files); };
  if (recording) return html`<${Recorder} onDone=${(file) => { setRecording(false); if (file) onPick({ file, name: file.name }); }} />`;
  return html`
    <div class=${`drop ${over ? "over" : ""}`} onDragOver=${(event) => { event.preventDefault(); setOver(true); }} onDragLeave=${() => setOver(false)} onDrop=${drop}>
      <h2>Drop a video here</h2>
      <p class="hint">MP4, MOV, WebM, MKV, AVI, GIF and more</p>
      <div class="row" style=${{ justifyContent: "center" }}>
        <label class="button primary">Choose a file<input class="visually-hidden" id="file" type="file" accept="video/*,image/gif,image/webp" onChange=${(event) => take(event.target.files)} /></label>
        ${navigator.mediaDevices?.getUserMedia && html`<button type="button" onClick=${() => setRecording(true)}>Record with the camera</button>`}
      </div>
    </div>
    <form class="card" style=${{ marginTop: "16px" }} onSubmit=${(event) => { event.preventDefault(); onPick({ url, name: null }); }}>
      <label for="url">Or take a video from an address</label>
      <div class="row"><input class="grow" style=${{ width: "auto" }} id="url" type="url" required pattern="https?://.+" placeholder="https://example.com/clip.mp4" value=${url} onInput=${(event) => setUrl(event.target.value)} />
        <button>Continue</button></div>
    </form>`;
}

function Recorder({ onDone }) {
  const view = useRef(null), recorder = useRef(null), stream = useRef(null);
  const [state, setState] = useState("starting");
  const [error, setError] = useState(null);
  useEffect(() => {
    let gone = false;
    navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 } }, audio: true }).then((opened) => {
      if (gone) { opened.getTracks().forEach((track) => track.stop()); return; }
      stream.current = opened;
      view.current.srcObject = opened;
      setState("ready");
    }, () => setError({ message: "The camera cannot be used. Allow it for this page, or choose a file." }));
    return () => { gone = true; stream.current?.getTracks().forEach((track) => track.stop()); };
  }, []);
  const start = () => {
    const chunks = [];
    const made = recorder.current = new MediaRecorder(stream.current);
    made.ondataavailable = (event) => chunks.push(event.data);
    made.onstop = () => onDone(new File(chunks, "recording.webm", { type: "video/webm" }));
    made.start();
    setState("recording");
  };
  return html`<div class="card">
    <h2>Record with the camera</h2>
    <${Failure} error=${error} />
    <div class="stage"><video ref=${view} autoplay muted playsinline aria-label="Camera"></video></div>
    <div class="controls">
      ${state === "recording"
        ? html`<button type="button" class="primary" onClick=${() => recorder.current.stop()}>Stop and use it</button>`
        : html`<button type="button" class="primary" disabled=${state !== "ready"} onClick=${start}>Start recording</button>`}
      <button type="button" onClick=${() => onDone(null)}>Cancel</button>
    </div>
  </div>`;
}

function Options({ source, onClear, onStarted }) {
  const [models, modelsError] = useLoad((signal) => poll("/v1/models", signal));
  const [form, setForm] = useKept("form", { model: "original", prompt: "", background: "transparent", color: "#09a246", format: "webm", quality: "balanced", seconds: "" });
  const [image, setImage] = useKept("image", null);
  const [busy, setBusy] = useKept("busy", null);
  const [error, setError] = useKept("error", null);
  const [proof, setProof] = useKept("proof", null);
  const [canceled, setCanceled] = useKept("canceled", null);
  // stop: aborts what goes on. uploaded, backdrop: addresses of what was sent, so that it is sent once. preview: of the file.
  const [work] = useKept("work", { stop: null, uploaded: null, backdrop: null, preview: null });
  if (source.file) work.preview ??= URL.createObjectURL(source.file);
  const { preview } = work;
  const [facts, setFacts] = useState(null);
  const clear = () => {
    if (preview) URL.revokeObjectURL(preview);
    onClear();
  };
  const set = (changes) => setForm((old) => ({ ...old, ...changes }));
  const byName = Object.fromEntries((models?.items ?? []).map((item) => [item.model, item]));
  const formats = form.background === "transparent" ? TRANSPARENT_FORMATS : OPAQUE_FORMATS;
  const chosen = byName[form.model];

  const send = async (file, what, signal) => {
    const onProgress = (share, wait) => setBusy({ what, share, wait });
    onProgress(0);
    return (await upload(file, onProgress, signal)).video_url;
  };
  const sent = async (signal) => {
    if (!source.file) return source.url;
    work.uploaded ??= await send(source.file, `Uploading ${source.name}`, signal);
    return work.uploaded;
  };
  const begin = (path, fields, what, signal) => {
    setBusy({ what, share: null });
    const onAway = () => setBusy({ what, share: null, wait: AWAY_TEXT });
    // Of the last attempt: another one may have begun.
    return startJob(path, fields, { signal, onAway, onCanceled: (outcome) => work.stop.signal === signal && setCanceled(outcome) });
  };
  /** `action` is true when the page is left. */
  const act = async (action) => {
    if (busy) return; // the Enter key in a field
    const { signal } = work.stop = new AbortController();
    let leaves = false;
    setError(null);
    setCanceled(null);
    // A refused key leads to the sign-in, which says so.
    try { leaves = await action(signal); } catch (failure) { if (failure.name !== "AbortError" && failure.status !== 401) setError(failure); }
    if (!leaves) setBusy(null);
  };

  const compare = () => act(async (signal) => {
    const what = "Cutting out six frames with every engine";
    let made = await begin("/v1/proofs", { video_url: await sent(signal), ...(form.prompt ? { text_prompt: form.prompt } : {}) }, what, signal);
    try {
      while (made.status !== "completed" && made.status !== "failed") {
        const share = made.progress / 100;
        setBusy({ what, share });
        await pause(PROOF_POLL_SECONDS, signal);
        made = await poll(`/v1/proofs/${made.id}`, signal, () => setBusy({ what, share, wait: AWAY_TEXT }));
      }
    } catch (failure) {
      if (signal.aborted) call("POST", `/v1/jobs/${made.id}/cancel`, {}).catch(() => {}); // nobody would see it
      throw failure;
    }
    if (made.status === "failed") throw new Error(made.error);
    setProof(made);
  });

  const start = (event) => {
    event.preventDefault();
    act(async (signal) => {
      const videoUrl = await sent(signal);
      let imageUrl = null;
      if (form.background === "image") {
        if (work.backdrop?.image !== image) work.backdrop = { image, url: await send(image, "Uploading the background", signal) };
        imageUrl = work.backdrop.url;
      }
      const fields = jobFields(form, videoUrl, imageUrl);
      const job = await begin("/v1/jobs", fields, "Starting the job", signal);
      remember(job.id, { preview, filename: source.file ? source.name : null, fields });
      onStarted({ id: job.id, name: source.name ?? source.url });
      return true;
    });
  };

  return html`<form class="grid two" onSubmit=${start}>
    <div class="card">
      ${preview
        ? html`<div class="stage"><video src=${preview} controls muted playsinline preload="metadata" aria-label=${source.name}
            onLoadedMetadata=${(event) => setFacts({ width: event.target.videoWidth, height: event.target.videoHeight, seconds: event.target.duration })}></video></div>
          <p class="hint" style=${{ marginTop: "8px" }}>${source.name} · ${bytes(source.file.size)}${facts?.width ? ` · ${facts.width}×${facts.height} · ${duration(facts.seconds)}` : ""}</p>`
        : html`<p><span class="label">Video</span><span class="mono">${source.url}</span></p>`}
      <button type="button" class="small" onClick=${clear} disabled=${busy}>Choose another video</button>
    </div>
    <div class="card">
      <${Failure} error=${error ?? modelsError} />
      <${Canceled} outcome=${canceled} />
      <fieldset><legend>What stays</legend><div class="choices">
        ${SUBJECTS.map(([model, title]) => html`<label><input type="radio" name="model" value=${model} checked=${form.model === model} onChange=${() => set({ model })} />${title}</label>`)}
      </div>
      ${chosen && html`<p class="hint" style=${{ marginTop: "6px" }}>${describe(chosen)}</p>`}
      </fieldset>
      ${form.model === "pro" && html`<div class="field"><label for="prompt">Keep</label>
        <input id="prompt" required maxlength="500" placeholder="the dancer, the red umbrella" value=${form.prompt} onInput=${(event) => set({ prompt: event.target.value })} />
        <span class="hint">Short noun phrases, separated by commas.</span></div>`}
      <fieldset><legend>Background</legend><div class="choices">
        ${BACKGROUNDS.map(([background, title]) => html`<label><input type="radio" name="background" value=${background} checked=${form.background === background}
          onChange=${() => set({ background, format: background === "transparent" ? "webm" : "mp4" })} />${title}</label>`)}
      </div></fieldset>
      ${form.background === "color" && html`<div class="field"><label for="color">Color</label><input id="color" type="color" value=${form.color} onInput=${(event) => set({ color: event.target.value })} /></div>`}
      ${form.background === "image" && html`<div class="field"><label for="image">Image</label><input id="image" type="file" required=${!image} accept="image/png,image/jpeg,image/webp" onChange=${(event) => setImage(event.target.files[0])} />${image && html`<span class="hint">${image.name}</span>`}</div>`}
      <div class="field"><label for="format">Format</label>
        <select id="format" value=${form.format} onChange=${(event) => set({ format: event.target.value })}>
          ${formats.map(([format, title]) => html`<option value=${format} selected=${format === form.format}>${title}</option>`)}
        </select></div>
      <details class="field" onInvalidCapture=${(event) => { event.currentTarget.open = true; }}><summary>More options</summary>
        <div class="field"><label for="quality">Quality</label>
          <select id="quality" value=${form.quality} onChange=${(event) => set({ quality: event.target.value })}>
            <option value="web">web: small files</option><option value="balanced" selected=${form.quality === "balanced"}>balanced</option><option value="master">master: for further editing</option>
          </select></div>
        <div class="field"><label for="seconds">Only the first seconds</label><input id="seconds" type="number" min="0.1" step="any" value=${form.seconds} onInput=${(event) => set({ seconds: event.target.value })} /></div>
      </details>
      ${busy
        ? html`<${Busy} ...${busy} onCancel=${() => work.stop.abort()} />`
        : html`<button class="primary" style=${{ width: "100%" }}>Remove the background</button>
          <button type="button" style=${{ width: "100%", marginTop: "8px" }} onClick=${compare}>Compare engines on six frames</button>`}
    </div>
    ${proof && html`<div class="card scroll" style=${{ gridColumn: "1 / -1" }}><h2>The same six frames with every engine</h2>
      <img class="sheet" src=${local(proof.sheet_url)} width=${proof.width} height=${proof.height} alt=${`Source frames, then ${proof.engines.map((engine) => engine.name).join(", ")}`} />
      <table><thead><tr><th>Engine</th><th class="num">Seconds for the clip</th><th class="num">Credits</th><th>License</th></tr></thead><tbody>
        ${proof.engines.map((engine) => html`<tr><td>${engine.name}</td>${engine.error ? html`<td>${engine.error}</td>` : html`<td class="num">${number(engine.seconds)}</td>`}<td class="num">${number(engine.credits)}</td><td>${engine.engine?.license ?? ""}</td></tr>`)}</tbody></table></div>`}
  </form>`;
}

function describe(model) {
  if (!model.available) return "The engine of this model is not installed here. Words that mean people still work.";
  const speed = model.full_hd_fps ? `, about ${number(model.full_hd_fps)} frames of 1080p a second` : "";
  return `Engine ${model.engine}: cuts out ${model.subject}${speed}.`;
}

/** The body of POST /v1/jobs. Defaults are left out, so that the samples stay short. */
export function jobFields(form, videoUrl, imageUrl) {
  const fields = { video_url: videoUrl, model: form.model, output_format: form.format };
  if (form.model === "pro") fields.text_prompt = form.prompt;
  if (form.background === "color") fields.background = { type: "color", color: form.color };
  if (form.background === "image") fields.background = { type: "image", image_url: imageUrl };
  if (form.background === "blur") fields.background = { type: "blur" };
  if (form.quality !== "balanced") fields.quality = form.quality;
  if (form.seconds) fields.preview_duration = Number(form.seconds);
  return fields;
}
