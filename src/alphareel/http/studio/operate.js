// For operators: keys, runners, usage, credits, webhooks, engines, health, settings, audit log. Needs the admin token.
import { adminToken, apiKey, get, post } from "./api.js";
import { Runners } from "./runners.js";
import { Badge, bytes, CopyButton, Failure, html, number, Tabs, useLoad, useState, when } from "./ui.js";

const TABS = { jobs: "Jobs", keys: "Keys", runners: "Runners", usage: "Usage", credits: "Credits", webhooks: "Webhooks", engines: "Engines", health: "Health", settings: "Settings", audit: "Audit log" };
const LIMITS = { write_per_minute: "Writes a minute", read_per_minute: "Reads a minute", max_running_jobs: "Running jobs", max_queued_jobs: "Queued jobs", max_storage_bytes: "Stored bytes", max_credits_per_month: "Credits a month" };

export function OperatePage() {
  const [signedIn, setSignedIn] = useState(Boolean(adminToken.get()));
  const [tab, setTab] = useState("jobs");
  if (!signedIn) return html`<${TokenForm} onDone=${() => setSignedIn(true)} />`;
  const Panel = { jobs: Jobs, keys: Keys, runners: Runners, usage: Usage, credits: Credits, webhooks: WebhookTester, engines: Engines, health: Health, settings: Settings, audit: Audit }[tab];
  return html`
    <div class="row"><h1 class="grow">Operate</h1><button type="button" onClick=${() => { adminToken.set(""); setSignedIn(false); }}>Forget the admin token</button></div>
    <p class="lead">What this server does, and who may use it.</p>
    <${Tabs} names=${Object.keys(TABS)} titles=${TABS} selected=${tab} onSelect=${setTab} label="Sections"><${Panel} /><//>`;
}

function TokenForm({ onDone }) {
  const [token, setToken] = useState("");
  const [error, setError] = useState(null);
  const submit = async (event) => {
    event.preventDefault();
    adminToken.set(token.trim());
    try { await get("/v1/admin/config"); onDone(); } catch (failure) { adminToken.set(""); setError(failure); }
  };
  return html`<h1>Operate</h1><p class="lead">Keys, usage and health of this server.</p>
    <form class="card" style=${{ maxWidth: "460px" }} onSubmit=${submit}><${Failure} error=${error} />
      <div class="field"><label for="token">Admin token</label><input id="token" type="password" autocomplete="off" required value=${token} onInput=${(event) => setToken(event.target.value)} />
      <span class="hint">The value of ALPHAREEL_ADMIN_TOKEN. It stays in this tab.</span></div>
      <button class="primary">Continue</button></form>`;
}

const JOB_PAGE = 20;

function Jobs() {
  const [query, setQuery] = useState({ status: "", client: "", offset: 0 });
  const [open, setOpen] = useState(null);
  const parameters = new URLSearchParams({ limit: JOB_PAGE, offset: query.offset, status: query.status, ...(query.client ? { client_id: query.client } : {}) });
  const [page, error, reload] = useLoad((signal) => get(`/v1/admin/jobs?${parameters}`, signal), [query]);
  const set = (changes) => setQuery({ ...query, offset: 0, ...changes });
  return html`<${Failure} error=${error} />
    <form class="card row bottom" onSubmit=${(event) => { event.preventDefault(); set({ client: event.target.elements.client.value.trim() }); }}>
      <div><label for="job-status">Status</label><select id="job-status" value=${query.status} onChange=${(event) => set({ status: event.target.value })}>${["", "created", "processing", "completed", "failed"].map((state) => html`<option value=${state}>${state || "all"}</option>`)}</select></div>
      <div class="grow"><label for="job-client">Client</label><input id="job-client" name="client" placeholder="all" /></div>
      <button>Filter</button><button type="button" onClick=${reload}>Refresh</button></form>
    <div class="card scroll"><table><thead><tr><th>Job</th><th>Client</th><th>Status</th><th>Model</th><th>Engine</th><th>Format</th><th class="num">Attempts</th><th class="num">Credits</th><th>Created</th></tr></thead>
      <tbody>${(page?.items ?? []).map((job) => html`<tr key=${job.id}><td><button type="button" class="small mono" aria-expanded=${open === job.id ? "true" : "false"} onClick=${() => setOpen(open === job.id ? null : job.id)}>${job.id.slice(0, 12)}…</button></td>
        <td>${job.client_id ?? "no key"}</td><td><${Badge} state=${job.status}>${job.status === "processing" ? `${Math.round(job.progress)} %` : job.error_code ?? job.status}<//></td><td>${job.model}</td><td>${job.engine ?? "–"}</td><td>${job.output_format}</td>
        <td class="num">${job.attempts}</td><td class="num">${number(job.credits)}</td><td>${when(job.created_at)}</td></tr>
        ${open === job.id && html`<tr key=${`${job.id}+`}><td colspan="9"><${JobDetail} id=${job.id} onChange=${reload} /></td></tr>`}`)}</tbody></table>
      ${page?.total === 0 && html`<p class="hint">No jobs.</p>`}</div>
    ${page?.total > 0 && html`<div class="row"><button type="button" disabled=${query.offset === 0} onClick=${() => set({ offset: query.offset - JOB_PAGE })}>Newer</button><button type="button" disabled=${!page.has_more} onClick=${() => set({ offset: query.offset + JOB_PAGE })}>Older</button>
      <span class="hint">${query.offset + 1}–${query.offset + page.items.length} of ${page.total}</span></div>`}`;
}

function JobDetail({ id, onChange }) {
  const [loaded, error] = useLoad((signal) => get(`/v1/admin/jobs/${id}`, signal), [id]);
  const [changed, setChanged] = useState(null);
  const [failure, setFailure] = useState(null);
  const job = changed ?? loaded;
  const act = (path) => post(`/v1/admin/jobs/${id}/${path}`).then((answer) => { setChanged(answer); onChange(); }, setFailure);
  if (!job) return html`<${Failure} error=${error} />`;
  const ended = job.status === "completed" || job.status === "failed";
  return html`<${Failure} error=${failure} /><p class="mono">${job.id} · key ${job.key_fingerprint ?? "none"}</p>
    ${job.error && html`<div class="note bad">${job.error}</div>`}${job.warnings.map((warning) => html`<div class="note warn">${warning}</div>`)}
    <ol class="timeline">${job.history.map((entry) => html`<li><strong>${entry.to_status}</strong> · ${entry.reason}<div class="hint">${when(entry.at)} · ${entry.actor} · ${entry.request_id ?? ""}</div></li>`)}</ol>
    ${job.webhooks.map((webhook) => html`<div class="row"><span class="grow">${webhook.event} <${Badge} state=${webhook.status} /> <span class="hint">${webhook.attempts.map((attempt) => attempt.status_code ?? attempt.error).join(", ")}</span></span>
      <button type="button" class="small" onClick=${() => act(`webhooks/${webhook.id}/redeliver`)}>Send again</button></div>`)}
    ${!ended && html`<button type="button" class="small danger" onClick=${() => act("cancel")}>Cancel the job</button>`}`;
}

function Keys() {
  const [keys, error, reload] = useLoad((signal) => get("/v1/admin/keys", signal));
  const [created, setCreated] = useState(null);
  const [failure, setFailure] = useState(null);
  const [form, setForm] = useState({ client_id: "", note: "", test: false });
  const act = (promise) => promise.then((answer) => { setCreated(answer.api_key ? answer : null); setFailure(null); reload(); }, setFailure);
  const create = (event) => { event.preventDefault(); act(post("/v1/admin/keys", form)); };
  return html`<${Failure} error=${error ?? failure} />
    ${created && html`<div class="note"><strong>The key, shown this once:</strong><div class="row"><code class="grow">${created.api_key}</code><${CopyButton} text=${created.api_key} /></div></div>`}
    <form class="card row bottom" onSubmit=${create}>
      <div class="grow"><label for="client">Client</label><input id="client" required maxlength="200" value=${form.client_id} onInput=${(event) => setForm({ ...form, client_id: event.target.value })} /></div>
      <div class="grow"><label for="keynote">Note</label><input id="keynote" maxlength="200" value=${form.note} onInput=${(event) => setForm({ ...form, note: event.target.value })} /></div>
      <label class="row"><input type="checkbox" checked=${form.test} onChange=${(event) => setForm({ ...form, test: event.target.checked })} />Test jobs only</label>
      <button class="primary">Create a key</button></form>
    <div class="card scroll"><table><thead><tr><th>Client</th><th>Note</th><th>Fingerprint</th><th>State</th><th class="num">Calls</th><th>Last used</th><th>Change</th></tr></thead>
      <tbody>${(keys?.items ?? []).map((key) => html`<${KeyRow} key=${key.key_fingerprint} item=${key} act=${act} />`)}</tbody></table></div>`;
}

function KeyRow({ item, act }) {
  const [editing, setEditing] = useState(false);
  const selector = { key_fingerprint: item.key_fingerprint };
  return html`<tr><td>${item.client_id}${item.test ? html` <${Badge} state="pending">test<//>` : ""}</td><td>${item.note}</td><td class="mono">${item.key_fingerprint}</td>
      <td><${Badge} state=${item.enabled ? "ok" : "bad"}>${item.enabled ? "enabled" : "disabled"}<//></td><td class="num">${number(item.total_calls)}</td><td>${when(item.last_used_at)}</td>
      <td><div class="row"><button type="button" class="small" aria-expanded=${editing ? "true" : "false"} onClick=${() => setEditing(!editing)}>Limits</button>
        <button type="button" class="small" onClick=${() => act(post("/v1/admin/keys/rotate", selector))}>Rotate</button>
        <button type="button" class="small" onClick=${() => act(post(`/v1/admin/keys/${item.enabled ? "disable" : "enable"}`, selector))}>${item.enabled ? "Disable" : "Enable"}</button>
        <button type="button" class="small" onClick=${() => confirm(`Delete the key ${item.key_fingerprint} of ${item.client_id} for good?`) && act(post("/v1/admin/keys/delete", selector))}>Delete</button></div></td></tr>
    ${editing && html`<tr><td colspan="7"><${LimitsForm} item=${item} act=${act} /></td></tr>`}`;
}

function LimitsForm({ item, act }) {
  const [values, setValues] = useState(() => Object.fromEntries(Object.keys(LIMITS).map((name) => [name, item[name] ?? ""])));
  const save = (event) => {
    event.preventDefault();
    const limits = Object.fromEntries(Object.entries(values).map(([name, value]) => [name, value === "" ? null : Number(value)]));
    act(post("/v1/admin/keys/limits", { key_fingerprint: item.key_fingerprint, ...limits }));
  };
  return html`<form onSubmit=${save}><div class="grid cards">${Object.entries(LIMITS).map(([name, title]) => html`<div><label for=${`${name}-${item.key_fingerprint}`}>${title}</label>
    <input id=${`${name}-${item.key_fingerprint}`} type="number" min="0" value=${values[name]} placeholder="the server's" onInput=${(event) => setValues({ ...values, [name]: event.target.value })} /></div>`)}</div>
    <p class="hint">Empty: the server's limit. 0: no limit.</p><button class="primary small">Save limits</button></form>`;
}

function Usage() {
  const [days, setDays] = useState(30);
  const [usage, error] = useLoad((signal) => get(`/v1/admin/usage?days=${days}`, signal), [days]);
  const rows = usage?.items ?? [];
  const byDay = new Map();
  for (const row of rows) byDay.set(row.date, (byDay.get(row.date) ?? 0) + row.jobs);
  return html`<${Failure} error=${error} />
    <div class="row" style=${{ marginBottom: "12px" }}><label class="row" style=${{ margin: 0 }}>Days <select style=${{ width: "auto" }} value=${days} onChange=${(event) => setDays(Number(event.target.value))}>${[7, 30, 90].map((count) => html`<option value=${count} selected=${count === days}>${count}</option>`)}</select></label></div>
    <div class="card"><h2>Jobs a day</h2><${Bars} values=${lastDays(days).map((day) => [day, byDay.get(day) ?? 0])} /></div>
    <div class="card scroll"><table><thead><tr><th>Day</th><th>Client</th><th>Key</th><th>Model</th><th class="num">Jobs</th><th class="num">Failed</th><th class="num">Credits</th></tr></thead>
      <tbody>${rows.map((row) => html`<tr><td>${row.date}</td><td>${row.client_id}</td><td class="mono">${row.key_fingerprint}</td><td>${row.model}</td><td class="num">${row.jobs}</td><td class="num">${row.failed}</td><td class="num">${number(row.credits_used)}</td></tr>`)}</tbody></table>
      ${usage && rows.length === 0 && html`<p class="hint">No jobs in these days.</p>`}</div>`;
}

const lastDays = (count) => Array.from({ length: count }, (_, index) => new Date(Date.now() - (count - 1 - index) * 86400000).toISOString().slice(0, 10));

/** A bar chart. `values`: [label, number] pairs. */
function Bars({ values }) {
  const most = Math.max(1, ...values.map(([, value]) => value));
  const width = 800 / values.length;
  const total = values.reduce((sum, [, value]) => sum + value, 0);
  return html`<svg class="chart" viewBox="0 0 800 170" preserveAspectRatio="none" role="img" aria-label=${`${total} in ${values.length} days, at most ${most} a day`}>
    <line x1="0" y1="150" x2="800" y2="150" />
    ${values.map(([label, value], index) => html`<rect x=${index * width + 1} y=${150 - value / most * 135} width=${Math.max(1, width - 2)} height=${value / most * 135} rx="2"><title>${label}: ${value}</title></rect>`)}
  </svg><div class="row hint"><span class="grow">${values[0][0]}</span><span>at most ${most} a day</span><span class="grow" style=${{ textAlign: "right" }}>${values.at(-1)[0]}</span></div>`;
}

function Credits() {
  const [client, setClient] = useState("");
  const [ledger, setLedger] = useState(null);
  const [error, setError] = useState(null);
  const [amount, setAmount] = useState("");
  const show = (promise, who) => promise.then(() => get(`/v1/admin/credits?client_id=${encodeURIComponent(who)}`)).then((value) => { setLedger(value); setError(null); }, setError);
  return html`<${Failure} error=${error} />
    <form class="card row bottom" onSubmit=${(event) => { event.preventDefault(); show(Promise.resolve(), client.trim()); }}>
      <div class="grow"><label for="credits-client">Client</label><input id="credits-client" required value=${client} onInput=${(event) => setClient(event.target.value)} /></div><button class="primary">Show</button></form>
    ${ledger && html`<div class="card"><h2>${ledger.client_id}</h2><dl><dt>Balance</dt><dd>${ledger.balance === null ? "unlimited" : number(ledger.balance)}</dd><dt>Reserved</dt><dd>${number(ledger.reserved)}</dd><dt>Charged</dt><dd>${number(ledger.charged)}</dd></dl>
      <form class="row" style=${{ marginTop: "14px" }} onSubmit=${(event) => { event.preventDefault(); show(post("/v1/admin/credits/grant", { client_id: ledger.client_id, credits: Number(amount), start_charging: ledger.balance === null }), ledger.client_id); }}>
        <div><label for="amount">Credits</label><input id="amount" type="number" step="0.01" required value=${amount} onInput=${(event) => setAmount(event.target.value)} /></div>
        <button style=${{ alignSelf: "end" }}>${ledger.balance === null ? "Grant, and charge from now on" : "Grant"}</button>
        ${ledger.balance !== null && html`<button type="button" style=${{ alignSelf: "end" }} onClick=${() => show(post("/v1/admin/credits/set", { client_id: ledger.client_id, balance: null }), ledger.client_id)}>Make unlimited</button>`}</form></div>
      <div class="card scroll"><table><thead><tr><th>Time</th><th>Entry</th><th>Job or grant</th><th class="num">Credits</th></tr></thead><tbody>${ledger.items.map((entry) => html`<tr><td>${when(entry.at)}</td><td>${entry.kind}</td><td class="mono">${entry.subject}</td><td class="num">${number(entry.credits)}</td></tr>`)}</tbody></table></div>`}`;
}

function WebhookTester() {
  const [url, setUrl] = useState("");
  const [answer, setAnswer] = useState(null);
  const [error, setError] = useState(null);
  const test = (event) => { event.preventDefault(); setAnswer(null); post("/v1/webhooks/test", { webhook_url: url }).then((value) => { setAnswer(value); setError(null); }, setError); };
  if (!apiKey.get()) return html`<div class="note">Sign in with an API key to send test events.</div>`;
  return html`<${Failure} error=${error} /><form class="card row bottom" onSubmit=${test}><div class="grow"><label for="hook">Send the event webhook.test to</label><input id="hook" type="url" required placeholder="https://hook.example.com/alphareel" value=${url} onInput=${(event) => setUrl(event.target.value)} /></div><button class="primary" style=${{ alignSelf: "end" }}>Send</button></form>
    ${answer && html`<div class="card"><${Badge} state=${answer.delivered ? "ok" : "bad"}>${answer.delivered ? "delivered" : "not delivered"}<//><pre style=${{ marginTop: "10px" }}>${JSON.stringify(answer, null, 2)}</pre></div>`}`;
}

function Engines() {
  const [models, error] = useLoad((signal) => get("/v1/models", signal));
  if (!apiKey.get()) return html`<div class="note">Sign in with an API key to list engines.</div>`;
  return html`<${Failure} error=${error} /><div class="card scroll"><table><thead><tr><th>Engine</th><th>What it does</th><th>Code</th><th>Weights</th><th>Serves</th><th>State</th></tr></thead>
    <tbody>${(models?.engines ?? []).map((engine) => html`<tr><td><strong>${engine.name}</strong></td><td>${engine.summary}</td><td>${engine.code_license}</td><td>${engine.weights_license}</td><td>${engine.serves.join(", ")}</td>
      <td>${engine.missing ? html`<span class="hint">${engine.missing}</span>` : html`<${Badge} state="ok">ready<//>`}</td></tr>`)}</tbody></table></div>`;
}

function Health() {
  const [health, error, reload] = useLoad((signal) => get("/health", signal));
  const [usage] = useLoad((signal) => (apiKey.get() ? get("/v1/usage/summary", signal) : Promise.resolve(null)));
  return html`<${Failure} error=${error} />${health && html`<div class="card"><div class="row"><h2 class="grow">Version ${health.version} <${Badge} state=${health.status === "healthy" ? "ok" : "bad"}>${health.status}<//></h2><button type="button" class="small" onClick=${reload}>Check again</button></div>
    <dl>${Object.entries(health.checks).map(([name, fine]) => html`<dt>${name.replaceAll("_", " ")}</dt><dd><${Badge} state=${fine ? "ok" : "bad"}>${fine ? "ok" : "problem"}<//></dd>`)}</dl></div>`}
    ${usage && html`<div class="card"><h2>Storage of your key</h2><dl><dt>Used</dt><dd>${bytes(usage.storage.used_bytes)}${usage.storage.max_bytes ? ` of ${bytes(usage.storage.max_bytes)}` : ""}</dd><dt>Uploads</dt><dd>${bytes(usage.storage.uploads_bytes)}</dd><dt>Results</dt><dd>${bytes(usage.storage.outputs_bytes)}</dd></dl></div>`}`;
}

function Settings() {
  const [config, error] = useLoad((signal) => get("/v1/admin/config", signal));
  const [filter, setFilter] = useState("");
  const rows = Object.entries(config?.settings ?? {}).filter(([name]) => name.includes(filter.toLowerCase().replaceAll(" ", "_")));
  return html`<${Failure} error=${error} /><div class="field"><label for="filter">Filter</label><input id="filter" type="search" value=${filter} onInput=${(event) => setFilter(event.target.value)} /></div>
    <div class="card scroll"><table><thead><tr><th>Setting</th><th>Value in force</th></tr></thead><tbody>${rows.map(([name, value]) => html`<tr><td class="mono">ALPHAREEL_${name.toUpperCase()}</td><td class="mono">${typeof value === "string" ? value : JSON.stringify(value)}</td></tr>`)}</tbody></table></div>`;
}

function Audit() {
  const [log, error] = useLoad((signal) => get("/v1/admin/events?limit=100", signal));
  return html`<${Failure} error=${error} /><div class="card scroll"><table><thead><tr><th>Time</th><th>Who</th><th>Action</th><th>Subject</th><th>Detail</th></tr></thead>
    <tbody>${(log?.items ?? []).map((event) => html`<tr><td>${when(event.at)}</td><td>${event.actor}</td><td>${event.action}</td><td class="mono">${event.subject}</td><td class="mono">${JSON.stringify(event.detail)}</td></tr>`)}</tbody></table>
    ${log?.items.length === 0 && html`<p class="hint">No operator has changed anything yet.</p>`}</div>`;
}
