// What the server is asked for about results: the table of cells, files, scores, and simulated masks.

import { ask, imagePath, send, type Job, type RunEntry } from "./api";
import type { Box } from "./viewer";

export type Panel = "table" | "scores" | "simulate";

export interface Changed {
  changed: boolean;
  later: number;
}

export interface Column {
  name: string;
  title: string;
  unit: string;
}

export type Row = (string | number | null)[];

export interface Rows {
  columns: Column[];
  rows: Row[];
  total: number;
}

export interface ImageScore {
  name: string;
  f_score: number | null;
  true: number;
  found: number;
  missed: number;
  wrong: number;
  learned: boolean;
  as_found: boolean;
}

export interface Mean {
  images: number;
  value: number | null;
  low: number | null;
  high: number | null;
}

export interface Scores {
  model: string;
  threshold: number;
  images: ImageScore[];
  new: Mean | null;
  learned: Mean | null;
}

export interface Sliders {
  density: number;
  magnification: number;
  touching: number;
  variation: number;
  layout: "scattered" | "colony" | "mixed";
  gap: number;
  seed: number;
}

export interface Facts {
  begin: Pick<Sliders, "density" | "magnification" | "touching" | "variation">;
  ranges: Record<"density" | "magnification" | "touching" | "variation", [number, number]>;
  gap: number;
  yours: { masks: number; cells: [number, number]; coverage: number };
  painters: (Pick<RunEntry, "name" | "judged"> & { told: string })[];
}

export interface Drawn {
  picture: string;
  width: number;
  height: number;
  cells: number;
  coverage: number;
}

export const fileOf = (job: Job, file: string): string => `/api/jobs/${job.number}/files/${file}`;

export const outcomes = {
  cell: (image: string, cell: number) => ask<Box>(`${imagePath(image)}/cells/${cell}`),
  changed: (job: number) => ask<Changed>(`/api/jobs/${job}/changed`),
  table: (job: number, first: number, sort: string, down: boolean) =>
    ask<Rows>(`/api/jobs/${job}/table?first=${first}&sort=${encodeURIComponent(sort)}&down=${down ? 1 : 0}`),
  scores: (job: number) => ask<Scores>(`/api/jobs/${job}/scores`),
  measure: (drafts: boolean, pixel: number | null) => send("/api/measure", { drafts, pixel_size: pixel }),
  export: (format: string) => send("/api/export", { format }),
  score: (model: string) => send("/api/score", { model }),
  facts: () => ask<Facts>("/api/simulator"),
  mask: (sliders: object) => send<Drawn>("/api/simulator/mask", sliders),
  painting: (sliders: object) => send<Omit<Drawn, "cells" | "coverage">>("/api/simulator/painting", sliders),
  simulate: (sliders: object) => send("/api/simulate", sliders),
  trainPainter: (minutes: number) => send("/api/painter", { minutes }),
};
