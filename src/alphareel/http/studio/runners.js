// Runners: machines that help this server with a token. Needs the admin token.
import { address, get, post } from "./api.js";
import { Badge, CopyButton, Failure, html, number, useEffect, useLoad, useRef, useState, when } from "./ui.js";

const LOOK = 5000; // milliseconds between two looks at the list, while the page is seen
const LOOKS = { idle: "ok", working: "processing" }; // badges; the other states are gray
const JOINED = ["idle", "working"];
const GUIDE = "#/guides/deploy/help-from-another-machine";

export function Runners() {
  const [list, error, reload] = useLoad((signal) => get("/v1/admin/runners", signal));
  const [health] = useLoad((signal) => get("/health", signal));
  const [created, setCreated] = useState(null);
  const [failure, setFailure] = useState(null);
  const heading = useRef(null);
  useEffect(() => {
    const timer = setInterval(() => document.visibilityState === "visible" && reload(), LOOK);
    return () => clearInterval(timer);
  }, []);
  const runners = list?.items ?? [];
  const valid = runners.filter((runner) => runner.state !== "revoked");
  const revoked = runners.filter((runner) => runner.state === "revoked");
  const act = (promise) => promise.then((answer) => { setFailure(null); reload(); return answer; }, setFailure);
  const add = (event) => {
    event.preventDefault();
    const form = event.currentTarget;
    act(post("/v1/admin/runners", { name: form.elements.name.value.trim() })).then((runner) => { if (runner) { setCreated(runner); form.reset(); } });
  };
  const revoke = (runner) => {
    if (!confirm(`Revoke ${runner.name}? Its token ends at once, and what it works on starts again elsewhere.`)) return;
    act(post(`/v1/admin/runners/${runner.id}/revoke`)).then((answer) => { if (answer) heading.current?.focus(); });
    if (created?.id === runner.id) setCreated(null);
  };
  return html`<${Failure} error=${error ?? failure} />
    ${created && html`<${Command} runner=${created} version=${health?.version} joined=${runners.some(({ id, state }) => id === created.id && JOINED.includes(state))} onDone=${() => { setCreated(null); heading.current?.focus(); }} />`}
    <form class="card row bottom" onSubmit=${add}>
      <div class="grow"><label for="runner-name">Name of the machine</label><input id="runner-name" name="name" required maxlength="200" autocomplete="off" placeholder="gpu box at home" /></div>
      <button class="primary">Add a runner</button></form>
    <div class="card"><h2 tabindex="-1" ref=${heading}>Runners</h2>
      <p class="hint" role="status">${list && summary(valid)}</p>
      ${valid.length > 0 && html`<${Table} runners=${valid} revoke=${revoke} />`}
      ${list && !valid.length && html`<p>A runner is another machine, such as one with a GPU, that takes jobs of this server over HTTPS with a token alone. <a href=${GUIDE}>How it works</a></p>`}
      ${revoked.length > 0 && html`<details><summary>Revoked: ${revoked.length}</summary>
        <ul>${revoked.map((runner) => html`<li key=${runner.id}>${runner.name} <span class="hint">${when(runner.revoked_at)}, ${number(runner.tasks_done)} done</span></li>`)}</ul></details>`}</div>`;
}

const COLUMNS = {
  Machine: (runner) => html`<strong>${runner.name}</strong><div class="hint mono">${runner.id}</div>`,
  State: (runner) => html`<${Badge} state=${LOOKS[runner.state]}>${runner.state}<//>`,
  "Works on": (runner) => (runner.tasks.length ? runner.tasks.map((task) => html`<${Task} task=${task} />`) : "–"),
  Slots: (runner) => (runner.slots ? `${runner.tasks.length} of ${runner.slots}` : "–"),
  Done: (runner) => number(runner.tasks_done),
  Failed: (runner) => number(runner.tasks_failed),
  "Last seen": (runner) => when(runner.last_seen_at),
};
const look = (title) => (["Slots", "Done", "Failed"].includes(title) ? "num" : undefined);

/** On a phone each row is a block of lines; the roles keep it a table for screen readers then. */
function Table({ runners, revoke }) {
  const titles = Object.keys(COLUMNS);
  return html`<table class="stack" role="table"><thead role="rowgroup"><tr role="row">${titles.map((title) => html`<th role="columnheader" class=${look(title)}>${title}</th>`)}<th role="columnheader">Change</th></tr></thead>
    <tbody role="rowgroup">${runners.map((runner) => html`<tr role="row" key=${runner.id}>${titles.map((title) => html`<td role="cell" class=${look(title)} data-title=${title}><div>${COLUMNS[title](runner)}</div></td>`)}
      <td role="cell"><button type="button" class="small danger" aria-label=${`Revoke ${runner.name}`} onClick=${() => revoke(runner)}>Revoke</button></td></tr>`)}</tbody></table>`;
}

function summary(runners) {
  if (!runners.length) return "No runners.";
  const tasks = runners.reduce((sum, runner) => sum + runner.tasks.length, 0);
  return `${runners.filter(({ state }) => JOINED.includes(state)).length} of ${runners.length} connected, ${tasks} ${tasks === 1 ? "task" : "tasks"} in progress.`;
}

const Task = ({ task }) => html`<div class="task"><span class="mono">${task.job_id.slice(0, 12)}…</span> <span class="hint">${task.engine}, ${Math.round(task.progress)} %</span>
  <progress max="100" value=${task.progress} aria-label=${`Progress of ${task.job_id}`}></progress></div>`;

/** The command that joins a new runner, with its token: no other response contains it. */
function Command({ runner, version, joined, onDone }) {
  const title = useRef(null);
  useEffect(() => title.current.focus(), [runner.id]);
  const command = `ALPHAREEL_RUNNER_TOKEN=${runner.token} alphareel worker --join ${address("").replace(/\/$/, "")}`;
  return html`<section class="card" aria-labelledby="join"><h2 id="join" tabindex="-1" ref=${title}>Run this on ${runner.name}</h2>
    <p>The token in it is shown this once. The machine needs alphareel${version ? ` ${version}` : ""}, the version of this server.</p>
    <pre class="wrapped" tabindex="0" aria-label="Command">${command}</pre>
    ${location.protocol === "http:" && html`<p class="hint">Plain HTTP works on this machine and in private networks. From elsewhere, open this page at its https:// address first.</p>`}
    <div class="row"><${CopyButton} text=${command} label="Copy the command" /><button type="button" class="small" onClick=${onDone}>Done</button>
      <span class="hint" role="status">${joined ? "It has joined." : "Waiting until it joins…"}</span></div></section>`;
}
