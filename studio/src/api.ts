// What the studio's server is asked for, and the shapes of its answers.

export type Status = "empty" | "draft" | "done";

export interface ImageEntry {
  name: string;
  channels: number;
  width: number;
  height: number;
  status: Status;
  cells: number | null;
  revision: number | null;
}

export interface Job {
  number: number;
  kind:
    | "segment"
    | "train"
    | "suggest"
    | "import"
    | "check"
    | "measure"
    | "export"
    | "score"
    | "train-painter"
    | "simulate"
    | "paint"
    | "track";
  state: "waiting" | "running" | "done" | "failed" | "stopped";
  asked: {
    images?: string[];
    model?: string;
    run?: string;
    minutes?: number;
    format?: "roi" | "geojson" | "coco";
    out?: string;
    painter?: string | null;
    movie?: string;
  };
  seconds: number;
  share: number;
  message: string;
}

export interface RunEntry {
  name: string;
  finished: boolean;
  verdict: string | null;
  judged: { verdict?: "poor" | "usable" | "good" };
}

export interface MovieEntry {
  name: string;
  frames: number;
  /** of its tracks; null before somebody has looked at them */
  revision: number | null;
}

export interface State {
  folder: string;
  source: string;
  images: ImageEntry[];
  runs: RunEntry[];
  painted: string[];
  base: boolean;
  foreign: string | null;
  notes: string[];
  jobs: Job[];
  movies: MovieEntry[];
  /** how many images can be opened as a movie, or as a longer one than before; 0 where they are none */
  frames: number;
}

export interface Channel {
  number: number;
  low: number;
  high: number;
  colour: string;
}

export interface Mask {
  revision: number;
  cells: number;
  undo: boolean;
  redo: boolean;
  status: Status;
}

/** An image as it is shown in tiles. */
export interface Tiled {
  width: number;
  height: number;
  tile: number;
  levels: number;
  channels: Channel[];
  extremes: [number, number][];
  colours: string[];
}

export interface ImageInfo extends Mask, Tiled {
  name: string;
}

export interface Edit {
  tool: string;
  points?: [number, number][];
  radius?: number;
}

export interface RunDetails extends RunEntry {
  metrics: Record<string, number | null>[];
  samples: string[];
  report: boolean;
}

export interface Suggestion {
  image: string;
  x: number;
  y: number;
  width: number;
  height: number;
}

export class Refusal extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

export async function ask<T>(path: string, options: RequestInit = {}): Promise<T> {
  const answer = await fetch(path, { ...options, headers: { "X-Cytoforge": "studio" } });
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    throw new Refusal(answer.status, told.error ?? "This did not work; the studio's terminal window may say why.");
  }
  return answer.json();
}

export const send = <T>(path: string, body: object): Promise<T> => ask(path, { method: "POST", body: JSON.stringify(body) });

export const imagePath = (name: string): string => `/api/images/${encodeURIComponent(name)}`;

export const api = {
  state: () => ask<State>("/api/state"),
  image: (name: string) => ask<ImageInfo>(imagePath(name)),
  edit: (name: string, edit: Edit, revision: number) => send<Mask>(`${imagePath(name)}/edits`, { ...edit, revision }),
  mark: (name: string, done: boolean) => send<Mask>(`${imagePath(name)}/mark`, { done }),
  work: (wanted: object) => send<{ number: number }>("/api/jobs", wanted),
  stop: (number: number) => send(`/api/jobs/${number}/stop`, {}),
  goOn: (number: number) => send(`/api/jobs/${number}/go-on`, {}),
  found: (number: number) =>
    ask<{ suggestions?: Suggestion[]; findings?: { severity: string; file: string; what: string; remedy: string }[] }>(
      `/api/jobs/${number}`,
    ),
  run: (name: string) => ask<RunDetails>(`/api/runs/${name}`),
  upload: (file: File, part: "images" | "masks") =>
    ask<{ name: string }>(`/api/images?part=${part}&name=${encodeURIComponent(file.name)}`, {
      method: "POST",
      body: file,
    }),
};
