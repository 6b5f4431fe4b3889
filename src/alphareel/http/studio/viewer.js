// The result over any background, beside the original, frame by frame.
import { local, poll } from "./api.js";
import { html, timestamp, useEffect, useRef, useState } from "./ui.js";

const IN_VIDEO = new Set(["webm", "mp4"]);
const IN_IMAGE = new Set(["gif", "webp", "apng", "poster", "thumbnail"]);
const BACKGROUNDS = ["checkerboard", "black", "white"];
const MAX_DRIFT = 0.04; // seconds between the two videos before one is moved

export const canShow = (format) => IN_VIDEO.has(format) || IN_IMAGE.has(format);

/** `file`: {format, url, width, height, frames, seconds}. `original`: address of the source video, or null. */
export function Viewer({ file, original, onFrame }) {
  const result = useRef(null), source = useRef(null), canvas = useRef(null), stage = useRef(null);
  const [background, setBackground] = useState("checkerboard");
  const [color, setColor] = useState("#3a6ea5");
  const [image, setImage] = useState(null);
  const [share, setShare] = useState(50);
  const [zoom, setZoom] = useState(0);
  const [alphaOnly, setAlphaOnly] = useState(false);
  const [playing, setPlaying] = useState(false);
  const [time, setTime] = useState(0);
  const [hasOriginal, setHasOriginal] = useState(Boolean(original));
  const isVideo = IN_VIDEO.has(file.format);
  const rate = file.frames && file.seconds ? file.frames / file.seconds : 25;

  useEffect(() => { setHasOriginal(Boolean(original)); }, [original]);
  useEffect(() => () => image && URL.revokeObjectURL(image), [image]);
  useEffect(() => {
    const video = result.current;
    if (!isVideo || !video) return undefined;
    let handle;
    const tick = (_now, frame) => {
      setTime(frame.mediaTime);
      onFrame?.(frame.mediaTime);
      align(video, source.current);
      if (canvas.current) drawAlpha(video, canvas.current);
      handle = video.requestVideoFrameCallback(tick);
    };
    handle = video.requestVideoFrameCallback(tick);
    if (canvas.current && video.readyState >= 2) drawAlpha(video, canvas.current);
    return () => video.cancelVideoFrameCallback(handle);
  }, [file.url, alphaOnly, isVideo]);

  useEffect(() => {
    const box = stage.current;
    if (zoom) box.scrollTo((box.scrollWidth - box.clientWidth) / 2, (box.scrollHeight - box.clientHeight) / 2);
  }, [zoom]);

  const play = () => {
    const video = result.current;
    if (video.paused) { video.play(); source.current?.play().catch(() => {}); } else { video.pause(); source.current?.pause(); }
  };
  const seek = (seconds) => {
    const video = result.current;
    video.currentTime = Math.max(0, Math.min(seconds, (video.duration || seconds)));
    if (source.current) source.current.currentTime = video.currentTime;
  };
  const step = (frames) => {
    result.current.pause();
    source.current?.pause();
    // The middle of a frame, so that rounding never shows its neighbor.
    seek((Math.floor(result.current.currentTime * rate + 0.01) + frames + 0.5) / rate);
  };
  const keys = (event) => {
    if (["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName) || !isVideo) return;
    const action = { " ": play, k: play, ",": () => step(-1), ".": () => step(1) }[event.key];
    if (action && event.target.tagName !== "BUTTON") { event.preventDefault(); action(); }
  };
  const style = { ...(zoom ? { width: `${file.width * zoom / devicePixelRatio}px` } : {}), aspectRatio: `${file.width} / ${file.height}`,
    ...(background === "color" ? { backgroundColor: color } : {}),
    ...(background === "image" && image ? { backgroundImage: `url("${image}")`, backgroundSize: "cover", backgroundPosition: "center" } : {}) };

  return html`<div class="viewer" onKeyDown=${keys}>
    <div class=${`stage ${zoom ? "big" : ""} ${zoom > 1 ? "pixelated" : ""}`} ref=${stage} tabindex=${zoom ? 0 : -1} aria-label="Result">
      <div class=${`frame ${background}`} style=${style}>
        ${isVideo
          ? html`<video ref=${result} src=${file.url} muted loop playsinline autoplay preload="auto" aria-label="Result video"
              onError=${revive} onPlay=${() => setPlaying(true)} onPause=${() => setPlaying(false)}></video>`
          : html`<img src=${file.url} alt="Result" />`}
        ${alphaOnly && isVideo && html`<canvas class="alpha" ref=${canvas} width=${file.width} height=${file.height} aria-label="Alpha of the result: white is opaque"></canvas>`}
        ${hasOriginal && isVideo && html`
          <video class="original" ref=${source} src=${original} muted loop playsinline preload="auto" tabindex="-1" aria-hidden="true"
            style=${{ clipPath: `inset(0 ${100 - share}% 0 0)` }} onError=${() => setHasOriginal(false)}></video>
          <span class="divider" style=${{ left: `${share}%` }}></span>
          <span class="tag left">original</span><span class="tag right">result</span>
          <input class="slider" type="range" min="0" max="100" step="0.5" value=${share} aria-label="Share of the original that is shown"
            onInput=${(event) => setShare(Number(event.target.value))} />`}
      </div>
    </div>
    ${isVideo && html`<div class="controls">
      <button type="button" class="small" onClick=${play}>${playing ? "Pause" : "Play"}</button>
      <button type="button" class="small" onClick=${() => step(-1)} aria-label="One frame back" title="One frame back (,)">‹</button>
      <button type="button" class="small" onClick=${() => step(1)} aria-label="One frame forward" title="One frame forward (.)">›</button>
      <input class="track" type="range" min="0" max=${file.seconds ?? 1} step="any" value=${time} aria-label="Position in seconds" onInput=${(event) => seek(Number(event.target.value))} />
      <span class="time">${timestamp(time)} · frame ${Math.floor(time * rate + 0.01)}</span>
    </div>`}
    <div class="controls" role="group" aria-label="View">
      <span class="swatches">
        ${BACKGROUNDS.map((name) => html`<button type="button" aria-pressed=${background === name ? "true" : "false"} class=${`swatch ${name}`} title=${`Over ${name}`} aria-label=${`Over ${name}`}
          onClick=${() => setBackground(name)}></button>`)}
      </span>
      <label class="row"><span class="visually-hidden">Over a color</span>
        <input type="color" value=${color} title="Over a color" onInput=${(event) => { setColor(event.target.value); setBackground("color"); }} /></label>
      <label class="button small">Image…<input class="visually-hidden" type="file" accept="image/*" onChange=${(event) => {
        const [picked] = event.target.files;
        if (picked) { setImage(URL.createObjectURL(picked)); setBackground("image"); }
      }} /></label>
      <span class="grow"></span>
      ${isVideo && html`<button type="button" class="small" aria-pressed=${alphaOnly ? "true" : "false"} onClick=${() => setAlphaOnly(!alphaOnly)}>Alpha only</button>`}
      ${[0, 1, 2, 4].map((level) => html`<button type="button" class="small" aria-pressed=${zoom === level ? "true" : "false"} onClick=${() => setZoom(level)}>${level ? `${level}:1` : "Fit"}</button>`)}
    </div>
  </div>`;
}

function align(video, other) {
  if (!other || other.readyState < 2 || other.seeking) return;
  if (Math.abs(other.currentTime - video.currentTime) > MAX_DRIFT) other.currentTime = video.currentTime;
  if (video.paused !== other.paused) (video.paused ? other.pause() : other.play().catch(() => {}));
}

const revived = new WeakMap(); // addresses by video

/** For `onError` of a video: loads it again, at the same moment, when the server that was away is back. */
export async function revive({ currentTarget: video }) {
  const { src, currentTime, error } = video;
  // A lost connection before its first frame is the same error as a file that cannot be shown: that is tried once more.
  if (error?.code !== MediaError.MEDIA_ERR_NETWORK && revived.get(video) === src) return;
  revived.set(video, src);
  await poll("/v1/models").catch(() => {});
  if (video.src !== src || !video.error) return;
  video.load();
  video.currentTime = currentTime;
}

/** White where the video is opaque, black where it is transparent. */
function drawAlpha(video, canvas) {
  const context = canvas.getContext("2d");
  const { width, height } = canvas;
  context.globalCompositeOperation = "copy";
  context.drawImage(video, 0, 0, width, height);
  context.globalCompositeOperation = "source-in";
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.globalCompositeOperation = "destination-over";
  context.fillStyle = "#000";
  context.fillRect(0, 0, width, height);
}

/** The viewer's `file` of a job, or null while there is none that a browser can show. */
export function fileOf(job) {
  if (!job.output_url || !canShow(job.output_format)) return null;
  const { width, height, frames } = job.output ?? {};
  return { format: job.output_format, url: local(job.output_url), width: width ?? 16, height: height ?? 9, frames, seconds: job.duration_seconds };
}
