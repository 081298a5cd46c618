// The tracks of a movie: what the server says of them, and which cell of a frame belongs to which.

import { ask, send, type Tiled } from "./api";

export type Place = [number, number];

export interface Cell {
  label: number;
  frame: number;
}

export interface Track {
  label: number;
  begin: number;
  end: number;
  parent: number;
  colour: string;
}

export interface Tracks {
  /** number of the tracks that are shown; null when there are none yet */
  tracked: number | null;
  revision: number;
  tracks: [number, number, number, number, string][];
  /** by frame and label in the masks, the label now, where it is another one */
  renamed: Record<string, Record<string, number>>;
  corrections: number;
  undo: boolean;
  redo: boolean;
}

export interface Movie extends Tracks, Tiled {
  name: string;
  frames: { number: number; image: string }[];
  drawn: boolean;
  folder: string;
}

export interface Correction {
  tool: "join" | "before" | "after" | "divide" | "swap" | "undo" | "redo";
  cells?: [number, number][];
  gap?: boolean;
}

export type Places = Record<string, Record<string, Place>>;
export type Outlines = [number, number[]][];

const path = (name: string): string => `/api/movies/${encodeURIComponent(name)}`;

export const movies = {
  open: () => send("/api/movies", {}),
  movie: (name: string) => ask<Movie>(path(name)),
  places: (name: string) => ask<Places>(`${path(name)}/places`),
  outlines: (name: string, frame: number) => ask<Outlines>(`${path(name)}/outlines/${frame}`),
  correct: (name: string, correction: Correction, revision: number) =>
    send<Tracks>(`${path(name)}/corrections`, { ...correction, revision }),
  zip: (name: string) => `${path(name)}/tracks.zip`,
};

/** Tracks by label, with who descends from whom, and where each cell is. */
export class Lineage {
  readonly tracks = new Map<number, Track>();
  readonly daughters = new Map<number, Track[]>();
  private readonly positions = new Map<number, Map<number, Place>>();

  constructor(
    private readonly told: Tracks,
    private readonly places: Places,
  ) {
    for (const [label, begin, end, parent, colour] of told.tracks) {
      this.tracks.set(label, { label, begin, end, parent, colour });
    }
    for (const track of this.tracks.values()) {
      if (track.parent) this.daughters.set(track.parent, [...(this.daughters.get(track.parent) ?? []), track]);
    }
  }

  /** The label now of a cell that has a label in the masks. */
  label(frame: number, masked: number): number {
    return this.told.renamed[frame]?.[masked] ?? masked;
  }

  /** The label in the masks of a cell. */
  masked({ label, frame }: Cell): number {
    const found = Object.entries(this.told.renamed[frame] ?? {}).find(([, now]) => now === label);
    return found ? Number(found[0]) : label;
  }

  has(cell: Cell): boolean {
    const track = this.tracks.get(cell.label);
    return track !== undefined && track.begin <= cell.frame && cell.frame <= track.end;
  }

  /** The middles of the cells of a frame, by label. */
  middles(frame: number): Map<number, Place> {
    let found = this.positions.get(frame);
    if (!found) {
      const there = Object.entries(this.places[frame] ?? {});
      found = new Map(there.map(([masked, place]) => [this.label(frame, Number(masked)), place]));
      this.positions.set(frame, found);
    }
    return found;
  }

  /** Where a cell and its mothers were in the frames before, the latest place first. */
  trail(cell: Cell, length: number): Place[] {
    const found: Place[] = [];
    let track = this.tracks.get(cell.label);
    for (let frame = cell.frame; track && frame >= cell.frame - length; frame--) {
      if (frame < track.begin) track = this.tracks.get(track.parent);
      const place = track && this.middles(frame).get(track.label);
      if (place) found.push(place);
    }
    return found;
  }

  /** Tracks in the order of a tree: each family together, mothers before daughters. */
  families(): Track[][] {
    const family = (track: Track): Track[] => [track, ...(this.daughters.get(track.label) ?? []).flatMap(family)];
    return [...this.tracks.values()].filter(({ parent }) => !this.tracks.has(parent)).map(family);
  }
}
