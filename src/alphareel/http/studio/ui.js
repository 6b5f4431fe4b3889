// Small shared parts: formatting, errors, copying, code samples.
import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";

export { html, useEffect, useRef, useState };
export { useMemo, useLayoutEffect, useCallback } from "./vendor/htm-preact.js";

const UNITS = ["B", "kB", "MB", "GB", "TB"];
export function bytes(count) {
  if (count === null || count === undefined) return "–";
  const step = count < 1000 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log10(count) / 3));
  return `${(count / 1000 ** step).toFixed(step ? 1 : 0)} ${UNITS[step]}`;
}
export const number = (value) => (value ?? null) === null ? "–" : value.toLocaleString("en-US", { maximumFractionDigits: 2 });
export const when = (time) => (time ? new Date(time).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" }) : "–");
export function duration(seconds) {
  if ((seconds ?? null) === null) return "–";
  const minutes = Math.floor(seconds / 60);
  return minutes ? `${minutes}:${(seconds % 60).toFixed(0).padStart(2, "0")} min` : `${seconds.toFixed(1)} s`;
}
/** 63.48 seconds -> "1:03.480". */
export function timestamp(seconds) {
  const rest = seconds % 60;
  return `${Math.floor(seconds / 60)}:${rest < 10 ? "0" : ""}${rest.toFixed(3)}`;
}

export function Failure({ error }) {
  if (!error) return null;
  return html`<div class="note bad" role="alert">
    <div>${error.message}</div>
    ${error.details?.length > 0 && html`<ul>${error.details.map((d) => html`<li><code>${d.field}</code>: ${d.message}</li>`)}</ul>`}
    ${error.requestId && html`<div class="hint">${error.code} · ${error.requestId}</div>`}
  </div>`;
}

/** A step that takes a while, with a button to cancel it. `share`: 0 to 1, or null while it is not known. `wait`: why it waits. */
export function Busy({ what, share, wait, onCancel }) {
  return html`<div aria-live="polite"><p>${what}${share === null ? "…" : ` ${Math.round(share * 100)} %`}</p>
    <progress value=${share ?? undefined} max="1" aria-label=${what}></progress>
    ${wait && html`<div class="note warn" style=${{ margin: "10px 0 0" }}>${wait} This step waits, and goes on by itself.</div>`}
    <button type="button" class="small" style=${{ marginTop: "10px" }} onClick=${onCancel}>Cancel</button></div>`;
}

export const Badge = ({ state, children }) => html`<span class=${`badge ${state}`}>${children ?? state}</span>`;

/** Load on mount and whenever `keys` change. `[value, error, reload]`; a value stays when loading it again fails. */
export function useLoad(load, keys = []) {
  const [state, setState] = useState({});
  const [round, setRound] = useState(0);
  const wanted = keys.join();
  useEffect(() => {
    const stop = new AbortController();
    load(stop.signal).then(
      (value) => stop.signal.aborted || setState({ value, keys: wanted }),
      (error) => stop.signal.aborted || error.name === "AbortError" || setState((old) => ({ value: old.keys === wanted ? old.value : undefined, keys: wanted, error })),
    );
    return () => stop.abort();
  }, [...keys, round]);
  return [state.value, state.error, () => setRound((count) => count + 1)];
}

/** Call `back` when the user returns to this page from another tab or window. */
export function useReturn(back) {
  const latest = useRef(back);
  latest.current = back;
  useEffect(() => {
    const check = () => document.visibilityState === "visible" && latest.current();
    const kinds = ["visibilitychange", "focus", "pageshow"];
    for (const kind of kinds) addEventListener(kind, check);
    return () => { for (const kind of kinds) removeEventListener(kind, check); };
  }, []);
}

/** While `active`, the browser asks before the page is closed or reloaded. */
export function useLeaveWarning(active) {
  useEffect(() => {
    if (!active) return undefined;
    const warn = (event) => event.preventDefault();
    addEventListener("beforeunload", warn);
    return () => removeEventListener("beforeunload", warn);
  }, [active]);
}

/** Copy where there is no navigator.clipboard: at plain http:// addresses. Whether it worked. */
function copySelected(text) {
  const focused = document.activeElement;
  const area = Object.assign(document.createElement("textarea"), { value: text, className: "visually-hidden" });
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  focused?.focus();
  return done;
}

export function CopyButton({ text, label = "Copy" }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    try { await navigator.clipboard.writeText(text); } catch { if (!copySelected(text)) return; }
    setCopied(true);
    setTimeout(() => setCopied(false), 1500);
  };
  return html`<button type="button" class="small" onClick=${copy}>${copied ? "Copied" : label}</button>`;
}

/** Tabs of code: `samples` is `{curl: "...", Python: "..."}`. */
export function Samples({ samples }) {
  const names = Object.keys(samples);
  const [name, setName] = useState(names[0]);
  return html`<${Tabs} names=${names} selected=${name} onSelect=${setName} label="Language">
    <div class="row end"><${CopyButton} text=${samples[name]} /></div>
    <pre tabindex="0" aria-label=${`${name} code`}>${samples[name]}</pre>
  <//>`;
}

export function Tabs({ names, titles = {}, selected, onSelect, label, children }) {
  const step = (event) => {
    const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!move) return;
    const next = names[(names.indexOf(selected) + move + names.length) % names.length];
    onSelect(next);
    event.currentTarget.querySelector(`[data-name="${next}"]`)?.focus();
  };
  return html`<div>
    <div class="tabs" role="tablist" aria-label=${label} onKeyDown=${step}>
      ${names.map((name) => html`<button type="button" role="tab" data-name=${name} aria-selected=${name === selected ? "true" : "false"}
        tabindex=${name === selected ? 0 : -1} onClick=${() => onSelect(name)}>${titles[name] ?? name}</button>`)}
    </div>
    <div role="tabpanel" aria-label=${titles[selected] ?? selected}>${children}</div>
  </div>`;
}
