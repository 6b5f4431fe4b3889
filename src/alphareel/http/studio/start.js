// Start a job so that it can be canceled at any moment, also while the response of the server is missing.
import { call, once, patiently, post } from "./api.js";
import { html } from "./ui.js";

const CANCELED = {
  checking: "Canceled. Making sure that no job runs…",
  waiting: "Canceled. The server cannot be reached: what it started is canceled as soon as it answers, while this page is open.",
  none: "Canceled. No job was started.",
  canceled: "Canceled. The job was stopped, and nothing is charged for it.",
  completed: "The job was completed before it could be canceled.",
  unknown: "Canceled, but the server did not confirm it. Look at Jobs whether the job runs.",
};

/**
 * POST a new job, or a proof. Waits for a server that is away (`onAway`). When `signal` is aborted, the request is too, and
 * what the server started nevertheless is canceled: `onCanceled` gets the `outcome` of that, `{state, id}`, while it changes.
 */
export async function start(path, fields, { signal, onAway = () => {}, onCanceled = () => {} }) {
  signal.throwIfAborted();
  const more = once(path, fields);
  try {
    return await post(path, fields, { signal, onAway });
  } catch (error) {
    if (signal.aborted) withdraw(path, fields, more, onCanceled);
    throw error;
  }
}

/**
 * Cancel what an aborted request started. Only its response names the job, so it is repeated with its idempotency key: the
 * server does it once, whether the first one arrived or not.
 */
async function withdraw(path, fields, more, onCanceled) {
  const settle = (request) => patiently(request, undefined, () => onCanceled({ state: "waiting" }), Infinity);
  onCanceled({ state: "checking" });
  let id;
  try {
    ({ id } = await settle(() => call("POST", path, fields, undefined, more)));
    await settle(() => call("POST", `/v1/jobs/${id}/cancel`, {}, undefined, more));
    onCanceled({ state: "canceled", id });
  } catch (error) {
    const isRefused = error.status >= 400 && error.status < 500 && error.status !== 401; // a key may end after the first request
    onCanceled({ state: !isRefused ? "unknown" : !id ? "none" : error.code === "invalid_state" ? "completed" : "unknown", id });
  }
}

/** What became of a job that was canceled while it was started. */
export function Canceled({ outcome }) {
  if (!outcome) return null;
  return html`<div class=${`note ${["waiting", "unknown"].includes(outcome.state) ? "warn" : ""}`} role="status">${CANCELED[outcome.state]}
    ${outcome.id && html` <a href=${`#/jobs/${outcome.id}`}>Show the job</a>`}</div>`;
}
