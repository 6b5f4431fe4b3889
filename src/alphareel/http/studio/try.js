// Choose a video and options, upload, and start the job.
import { AWAY_TEXT, call, get, local, pause, poll, upload } from "./api.js";
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

export function TryPage({ navigate }) {
  const [source, setSource] = useState(null);
  return html`
    <h1>Remove the background of a video</h1>
    <p class="lead">It runs on this server. Nothing is sent anywhere else.</p>
    ${source ? html`<${Options} source=${source} onClear=${() => setSource(null)} navigate=${navigate} />` : html`<${Picker} onPick=${setSource} />`}`;
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

function Options({ source, onClear, navigate }) {
  const [models, modelsError] = useLoad((signal) => get("/v1/models", signal));
  const [form, setForm] = useState({ model: "original", prompt: "", background: "transparent", color: "#09a246", format: "webm", quality: "balanced", seconds: "" });
  const [image, setImage] = useState(null);
  const [busy, setBusy] = useState(null);
  const [error, setError] = useState(null);
  const [preview] = useState(() => (source.file ? URL.createObjectURL(source.file) : null));
  const [facts, setFacts] = useState(null);
  const stop = useRef(null);
  const kept = useRef(false);
  const uploaded = useRef(null); // address of the file, so that it is sent once
  const backdrop = useRef(null); // {image, url} of the background, likewise
  const [proof, setProof] = useState(null);
  const [canceled, setCanceled] = useState(null);
  useEffect(() => () => { stop.current?.abort(); if (preview && !kept.current) URL.revokeObjectURL(preview); }, []);
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
    uploaded.current ??= await send(source.file, `Uploading ${source.name}`, signal);
    return uploaded.current;
  };
  const begin = (path, fields, what, signal) => {
    setBusy({ what, share: null });
    const onAway = () => setBusy({ what, share: null, wait: AWAY_TEXT });
    // Of the last attempt: another one may have begun.
    return startJob(path, fields, { signal, onAway, onCanceled: (outcome) => stop.current.signal === signal && setCanceled(outcome) });
  };
  /** `action` is true when the page is left, so that nothing can be started twice meanwhile. */
  const act = async (action) => {
    if (busy) return; // the Enter key in a field
    const { signal } = stop.current = new AbortController();
    let leaves = false;
    setError(null);
    setCanceled(null);
    try { leaves = await action(signal); } catch (failure) { if (failure.name !== "AbortError") setError(failure); }
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
        if (backdrop.current?.image !== image) backdrop.current = { image, url: await send(image, "Uploading the background", signal) };
        imageUrl = backdrop.current.url;
      }
      const fields = jobFields(form, videoUrl, imageUrl);
      const job = await begin("/v1/jobs", fields, "Starting the job", signal);
      kept.current = true;
      remember(job.id, { preview, filename: source.file ? source.name : null, fields });
      navigate(`#/jobs/${job.id}`);
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
      <button type="button" class="small" onClick=${onClear} disabled=${busy}>Choose another video</button>
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
      ${form.background === "image" && html`<div class="field"><label for="image">Image</label><input id="image" type="file" required accept="image/png,image/jpeg,image/webp" onChange=${(event) => setImage(event.target.files[0])} /></div>`}
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
        ? html`<${Busy} ...${busy} onCancel=${() => stop.current.abort()} />`
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
