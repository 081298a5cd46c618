// Pieces of work as the page shows them: how far one is, and how it ended.

import { Pause, Play } from "lucide-preact";
import type { ComponentChildren } from "preact";
import { api, type Job, type State } from "./api";

type Act = (what: () => Promise<unknown>) => void;

const DOING: Record<Job["kind"], string> = {
  segment: "Finding cells",
  train: "Training",
  suggest: "Comparing images",
  import: "Bringing in",
  check: "Looking through",
  measure: "Measuring",
  export: "Writing",
  score: "Comparing",
  "train-painter": "Training a painter",
  simulate: "Simulating",
  paint: "Painting",
  track: "Following the cells",
};

/** Return the last piece of work of some kinds. */
export const last = (state: State, ...kinds: Job["kind"][]): Job | undefined =>
  state.jobs.find(({ kind }) => kinds.includes(kind));

export const isBusy = (job: Job | undefined): boolean => job?.state === "waiting" || job?.state === "running";

export function Work({ job, act }: { job: Job; act: Act }) {
  const left = job.share > 0.03 && job.seconds > 2 ? (job.seconds / job.share) * (1 - job.share) : null;
  const how = left === null ? " …" : job.share > 0.98 ? ", nearly done" : `, ${clock(left)} left`;
  return (
    <div class="work" aria-live="polite">
      <p>{`${DOING[job.kind]}${job.state === "waiting" ? " (waits its turn)" : how}`}</p>
      <div class="row">
        <progress max={1} value={job.state === "running" && job.share === 0 ? undefined : job.share} />
        <button class="small" onClick={() => act(() => api.stop(job.number))}>
          <Pause size={14} aria-hidden="true" /> Stop
        </button>
      </div>
    </div>
  );
}

export function Ended({ job, act, children }: { job: Job; act: Act; children?: ComponentChildren }) {
  return (
    <div class="ended">
      <p class={job.state === "failed" ? "verdict failed" : "quiet"}>{job.message}</p>
      {job.state === "done" && children}
      {(job.state === "stopped" || job.state === "failed") && (
        <button class="small" onClick={() => act(() => api.goOn(job.number))}>
          <Play size={14} aria-hidden="true" /> Try again
        </button>
      )}
    </div>
  );
}

/** Show a piece of work while it is done, and then how it ended. */
export function Progress({ job, act, children }: { job: Job | undefined; act: Act; children?: ComponentChildren }) {
  if (!job) return null;
  return isBusy(job) ? <Work job={job} act={act} /> : <Ended job={job} act={act}>{children}</Ended>;
}

function clock(seconds: number): string {
  if (seconds < 60) return `${Math.max(Math.round(seconds), 1)} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}
