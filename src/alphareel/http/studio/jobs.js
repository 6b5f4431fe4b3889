// The jobs of the key: a list, and one job with its progress, result, history and webhooks.
import { address, AWAY_TEXT, follow, get, isAway, local, poll, post, remove } from "./api.js";
import { FORMATS, OPAQUE } from "./formats.js";
import { recall } from "./recent.js";
import { jobSamples } from "./samples.js";
import { Badge, bytes, CopyButton, duration, Failure, html, number, Samples, useEffect, useLoad, useReturn, useState, when } from "./ui.js";
import { fileOf, Viewer } from "./viewer.js";

const PAGE = 20;
const STATES = ["", "created", "processing", "completed", "failed"];
const ENDED = new Set(["completed", "failed"]);

export function JobsPage() {
  const [status, setStatus] = useState("");
  const [offset, setOffset] = useState(0);
  const [page, error, reload] = useLoad((signal) => get(`/v1/jobs?limit=${PAGE}&offset=${offset}&status=${status}`, signal), [status, offset]);
  const waiting = page?.items.some((job) => !ENDED.has(job.status));
  useEffect(() => {
    if (!waiting && !(error && isAway(error))) return undefined;
    const timer = setTimeout(reload, 4000);
    return () => clearTimeout(timer);
  }, [page, error]);
  useReturn(reload);
  return html`
    <div class="row"><h1 class="grow">Jobs</h1>
      <label class="row" style=${{ margin: 0 }}>Status <select style=${{ width: "auto" }} value=${status} onChange=${(event) => { setStatus(event.target.value); setOffset(0); }}>
        ${STATES.map((state) => html`<option value=${state}>${state || "all"}</option>`)}</select></label>
    </div>
    <p class="lead">The jobs of your API key, newest first.</p>
    <${Failure} error=${error && isAway(error) ? { message: `${AWAY_TEXT} This page tries again until it can.` } : error} />
    ${!page && !error && html`<p class="hint">Loading…</p>`}
    ${page?.total === 0 && status && html`<div class="card"><p>No jobs with this status.</p></div>`}
    ${page?.total === 0 && !status && html`<div class="card"><p>No jobs yet.</p><a class="button primary" href="#/">Remove the background of a video</a></div>`}
    ${page?.total > 0 && html`<div class="card scroll"><table>
      <thead><tr><th>Job</th><th>Status</th><th>Model</th><th>Format</th><th class="num">Length</th><th class="num">Size</th><th>Created</th></tr></thead>
      <tbody>${page.items.map((job) => html`<tr key=${job.id}>
        <td><a href=${`#/jobs/${job.id}`} class="mono">${job.id.slice(0, 16)}…</a></td>
        <td><${Badge} state=${job.status}>${job.status === "processing" ? `${Math.round(job.progress)} %` : job.error_code ?? job.status}<//></td>
        <td>${job.model}</td><td>${job.output_format}</td><td class="num">${duration(job.duration_seconds)}</td><td class="num">${bytes(job.output?.size)}</td><td>${when(job.created_at)}</td>
      </tr>`)}</tbody></table></div>
      <div class="row"><button type="button" disabled=${offset === 0} onClick=${() => setOffset(offset - PAGE)}>Newer</button>
        <button type="button" disabled=${!page.has_more} onClick=${() => setOffset(offset + PAGE)}>Older</button>
        <span class="hint">${offset + 1}–${offset + page.items.length} of ${page.total}</span></div>`}`;
}

export function JobPage({ id, navigate }) {
  const [job, setJob] = useState(null);
  const [preview, setPreview] = useState(null);
  const [lost, setLost] = useState(false);
  const [error, setError] = useState(null);
  const [round, setRound] = useState(0);
  const facts = recall(id);

  useEffect(() => {
    const stop = new AbortController();
    setJob(null);
    setError(null);
    setPreview(null);
    const update = (changes) => setJob((old) => old && { ...old, ...changes });
    const onEvent = (name, data) => {
      if (name === "lost" || name === "open") setLost(name === "lost");
      if (name === "state") get(`/v1/jobs/${id}`, stop.signal).then(setJob, () => {});
      if (name === "progress") update({ status: "processing", progress: data.progress, queue_position: null });
      if (name === "queue") update({ queue_position: data.queue_position });
      if (name === "preview") setPreview(local(data.preview_url));
    };
    const watch = async () => {
      const first = await poll(`/v1/jobs/${id}`, stop.signal, () => setLost(true));
      setLost(false);
      setJob(first);
      if (first.status === "processing" || first.status === "pending") setJob(await follow(id, onEvent, stop.signal));
    };
    watch().catch((failure) => stop.signal.aborted || fail(failure));
    return () => stop.abort();
  }, [id, round]);
  // Another tab or program may have corrected, started again or deleted it.
  useReturn(() => {
    if (job && ENDED.has(job.status)) poll(`/v1/jobs/${id}`).then((now) => isOther(job, now) && setRound((count) => count + 1), fail);
  });

  const fail = (failure) => {
    if (failure.status === 404) setJob(null);
    setError(failure);
  };
  const act = async (action) => {
    try {
      await action();
      setRound((count) => count + 1);
    } catch (failure) { fail(failure); }
  };
  const discard = async () => {
    if (!confirm("Delete this job and its files?")) return;
    try { await remove(`/v1/jobs/${id}`); } catch (failure) { if (failure.status !== 404) { setError(failure); return; } }
    navigate("#/jobs");
  };
  if (!job) return html`<h1>Job</h1><${Failure} error=${error} />${!error && html`<p class="hint">${lost ? `${AWAY_TEXT} Waiting for it…` : "Loading…"}</p>`}`;
  const file = fileOf(job);
  return html`
    <div class="row"><h1 class="grow">${facts?.filename ?? "Job"} <${Badge} state=${job.status} /></h1>
      ${!ENDED.has(job.status) && html`<button type="button" onClick=${() => act(() => post(`/v1/jobs/${id}/cancel`))}>Cancel</button>`}
      ${(job.status === "failed" || job.status === "created") && html`<button type="button" onClick=${() => act(() => post(`/v1/jobs/${id}/start`))}>${job.status === "failed" ? "Start again" : "Start"}</button>`}
      <button type="button" class="danger" onClick=${discard}>Delete</button>
    </div>
    <p class="lead mono">${job.id}</p>
    <${Failure} error=${error} />
    ${job.warnings.map((warning) => html`<div class="note warn">${warning}</div>`)}
    <div class="grid two">
      <div>
        ${!ENDED.has(job.status) && html`<${Progress} job=${job} preview=${preview} lost=${lost} />`}
        ${job.status === "failed" && html`<div class="note bad" role="alert">${job.error}</div>`}
        ${job.status === "completed" && html`<div class="card">
          ${file ? html`<${Viewer} key=${file.url} file=${file} original=${facts?.preview ?? local(job.video_url)} />`
            : html`<p>${job.output_url ? `Browsers cannot show ${job.output_format} files. Download it.` : "The files of this job have expired."}</p>`}
          ${job.output_url && html`<div class="row" style=${{ marginTop: "14px" }}><a class="button primary" href=${local(job.output_url)} download>Download ${job.output_format} (${bytes(job.output?.size)})</a>${file && html`<a class="button" href=${`#/jobs/${id}/fix`}>Fix the matte</a>`}</div>`}
        </div>
        ${job.output_url && html`<${Outputs} job=${job} onMade=${() => get(`/v1/jobs/${id}`).then(setJob, setError)} />`}`}
        ${file?.format === "webm" && job.output?.has_alpha && html`<${Embed} id=${id} />`}
        ${facts && html`<div class="card"><h2>The same by code</h2><${Samples} samples=${jobSamples(address("").replace(/\/$/, ""), facts.filename, facts.fields)} /></div>`}
      </div>
      <div>
        <div class="card"><h2>Details</h2><${Details} job=${job} /></div>
        <div class="card"><h2>History</h2><${History} job=${job} /></div>
        ${job.webhook_url && html`<div class="card"><h2>Webhooks</h2><${Webhooks} id=${id} /></div>`}
      </div>
    </div>`;
}

/** Whether a job is to be shown anew: it changed, or its links expired. */
const isOther = (shown, now) => shown.status !== now.status || shown.revision !== now.revision || shown.outputs?.length !== now.outputs?.length
  || !now.output_url !== !shown.output_url || Date.parse(shown.expires_at) < Date.now();

/** Every file of the job, and further formats made of the kept matte. */
function Outputs({ job, onMade }) {
  const [format, setFormat] = useState("");
  const [background, setBackground] = useState("#09a246");
  const [making, setMaking] = useState(null);
  const [error, setError] = useState(null);
  const others = (job.outputs ?? []).slice(1);
  const isCurrent = (output) => output.revision === job.revision;
  const offered = FORMATS.filter(([name]) => !(job.outputs ?? []).some((output) => output.format === name && isCurrent(output) && !OPAQUE.has(name)));
  const make = async (event) => {
    event.preventDefault();
    setError(null);
    const body = OPAQUE.has(format) ? { format, background: { type: "color", color: background } } : { format, background: { type: "transparent" } };
    try {
      let made = await post(`/v1/jobs/${job.id}/exports`, body);
      setMaking(made);
      while (!ENDED.has(made.status)) {
        await new Promise((done) => setTimeout(done, 700));
        made = await poll(`/v1/jobs/${job.id}/exports/${made.id}`);
        setMaking(made);
      }
      if (made.status === "failed") setError({ message: made.error });
      onMade();
    } catch (failure) { setError(failure); }
    setMaking(null);
  };
  return html`<div class="card"><h2>More formats</h2><p class="hint">Made of the matte that was kept with this job: no network runs, so it takes as long as the encoder.</p>
    <${Failure} error=${error} />
    ${others.map((output) => html`<div class="row" key=${output.name} style=${{ marginBottom: "8px" }}><span class="grow">${output.name} <span class="hint">${bytes(output.bytes)}, ${output.frames} frames${output.has_alpha ? ", transparent" : ""}${isCurrent(output) ? "" : ", before the last correction"}</span></span><a class="button small" href=${local(output.url)} download>Download</a></div>`)}
    ${making ? html`<div aria-live="polite"><p>Making ${making.format}…</p><progress aria-label=${`Making ${making.format}`}></progress></div>`
      : html`<form class="row bottom" onSubmit=${make}><div class="grow"><label for="more">Format</label><select id="more" required value=${format} onChange=${(event) => setFormat(event.target.value)}><option value="">Choose…</option>${offered.map(([name, title]) => html`<option value=${name}>${title}</option>`)}</select></div>
        ${OPAQUE.has(format) && html`<div><label for="over">Over</label><input id="over" type="color" value=${background} onInput=${(event) => setBackground(event.target.value)} /></div>`}
        <button>Make it</button></form>`}
  </div>`;
}

/** The HTML that shows the job on a web page in every browser. */
function Embed({ id }) {
  const [embed, setEmbed] = useState(null);
  const [error, setError] = useState(null);
  const make = async () => {
    try {
      for (;;) {
        const answer = await poll(`/v1/jobs/${id}/embed`);
        setEmbed(answer);
        if (answer.ready || answer.missing.every((file) => file.export_id === null)) return;
        await new Promise((done) => setTimeout(done, 1000));
      }
    } catch (failure) { setError(failure); }
  };
  return html`<div class="card"><h2>On a web page</h2><${Failure} error=${error} />
    ${!embed && html`<p class="hint">HTML that shows the result with its transparency in every browser.</p><button type="button" onClick=${make}>Get the HTML</button>`}
    ${embed && html`<div class="row end"><${CopyButton} text=${embed.html} /></div><pre tabindex="0" aria-label="HTML">${embed.html}</pre>
      ${embed.missing.map((file) => html`<p class="hint">${file.format}: ${file.export_id ? "being made…" : file.reason}</p>`)}<p class="hint">The links work until ${when(embed.expires_at)}.</p>`}
  </div>`;
}

function Progress({ job, preview, lost }) {
  const waits = (job.queue_position ?? null) !== null;
  const text = job.status === "created" ? "A draft: start it when you are ready."
    : waits ? (job.queue_position ? `Waiting: ${job.queue_position} ${job.queue_position === 1 ? "job starts" : "jobs start"} before this one.` : "Waiting: this job starts next.")
      : `${Math.round(job.progress)} %`;
  return html`<div class="card" aria-live="polite">
    <div class="preview checkerboard">${preview ? html`<img src=${preview} alt="Newest frame without its background" />` : html`<span class="badge">The first frame appears here</span>`}</div>
    ${lost && html`<div class="note warn">The server cannot be reached. This page tries again until it can.</div>`}
    <p>${text}</p>
    <progress value=${waits ? undefined : job.progress} max="100" aria-label="Progress of the job"></progress>
  </div>`;
}

function Details({ job }) {
  const { output, engine } = job;
  return html`<dl>
    <dt>Model</dt><dd>${job.model}${job.text_prompt ? `: ${job.text_prompt}` : ""}</dd>
    ${engine && html`<dt>Engine</dt><dd>${engine.name} ${engine.version}</dd><dt>License</dt><dd>${engine.license}</dd>
      ${engine.weights_sha256 && html`<dt>Weights</dt><dd class="mono" title=${engine.weights_sha256}>${engine.weights_sha256.slice(0, 12)}</dd>`}`}
    <dt>Format</dt><dd>${job.output_format}, ${job.quality}</dd>
    <dt>Background</dt><dd>${job.bg_type}</dd>
    ${output && html`<dt>Result</dt><dd>${output.width}×${output.height}, ${output.frames} frames, ${duration(job.duration_seconds)}, ${bytes(output.size)}</dd>
      <dt>SHA-256</dt><dd class="mono" title=${output.sha256}>${output.sha256?.slice(0, 12)}</dd>`}
    <dt>Credits</dt><dd>${job.billing_status === "not_billed" ? "not billed" : `${number(job.credits_used || job.credits_reserved)} ${job.billing_status}`}</dd>
    <dt>Attempts</dt><dd>${job.attempts}</dd>
    ${job.files_expire_at && html`<dt>Files until</dt><dd>${when(job.files_expire_at)}</dd>`}
  </dl>`;
}

function History({ job }) {
  const [history, error] = useLoad((signal) => get(`/v1/jobs/${job.id}/history`, signal), [job.id, job.status, job.attempts]);
  return html`<${Failure} error=${error} /><ol class="timeline">
    ${(history?.items ?? []).map((entry) => html`<li><strong>${entry.to_status}</strong>${entry.reason ? ` · ${entry.reason}` : ""}<div class="hint">${when(entry.at)} · ${entry.actor}</div></li>`)}
  </ol>`;
}

function Webhooks({ id }) {
  const [log, error, reload] = useLoad((signal) => get(`/v1/jobs/${id}/webhooks`, signal), [id]);
  const [failure, setFailure] = useState(null);
  const redeliver = (delivery) => post(`/v1/jobs/${id}/webhooks/${delivery}/redeliver`).then(reload, setFailure);
  return html`<${Failure} error=${error ?? failure} />
    ${(log?.items ?? []).map((delivery) => html`<div class="row"><span class="grow">${delivery.event} <${Badge} state=${delivery.status} /></span>
      <button type="button" class="small" onClick=${() => redeliver(delivery.id)}>Send again</button></div>
      ${(delivery.attempts ?? []).map((attempt) => html`<div class="hint">${when(attempt.at)}: ${attempt.status_code ?? attempt.error}</div>`)}`)}`;
}
