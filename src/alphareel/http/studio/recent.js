// What this tab knows about the jobs that it started: the source file and the request. Gone with the tab.
const MAX_JOBS = 20; // each keeps its source file alive
const known = new Map();

export function remember(jobId, facts) {
  known.set(jobId, facts);
  if (known.size > MAX_JOBS) {
    const [oldest, { preview }] = known.entries().next().value;
    if (preview) URL.revokeObjectURL(preview);
    known.delete(oldest);
  }
}

/** {preview, filename, fields}, or undefined for a job of another tab or client. */
export const recall = (jobId) => known.get(jobId);
