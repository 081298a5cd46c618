// The course of a training as it goes: the score on validation, and the loss.

import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";

type Rows = Record<string, number | null>[];

export function Curve({ rows, dark }: { rows: Rows; dark: boolean }) {
  const place = useRef<HTMLDivElement>(null);
  const scored = rows.filter((row) => typeof row.validation === "number");
  const key = `${scored.length} ${dark}`;
  useEffect(() => {
    const element = place.current;
    if (!element || scored.length < 2) return;
    const ink = dark ? "#9fb3b5" : "#5a6b6d";
    const grid = { stroke: dark ? "#2c3a3c" : "#e2e8e8", width: 1 };
    const axis = { stroke: ink, grid, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    const plot = new uPlot(
      {
        width: element.clientWidth,
        height: 150,
        legend: { show: false },
        cursor: { show: false },
        scales: { x: { time: false }, y: { range: [0, 1] } },
        axes: [
          { ...axis, size: 26, space: 60 },
          { ...axis, size: 34, splits: () => [0, 0.5, 1] },
        ],
        series: [{}, { stroke: dark ? "#5fd6c1" : "#0d7c6b", width: 2.2, points: { size: 5 } }],
      },
      [scored.map((row) => row.step ?? 0), scored.map((row) => row.validation ?? 0)],
      element,
    );
    return () => plot.destroy();
  }, [key]);
  if (scored.length < 2) return <p class="quiet">The curve begins after the first looks at how well it does.</p>;
  return (
    <figure class="curve">
      <div ref={place} role="img" aria-label="Score against steps of training" />
      <figcaption>How well it does on images held back, from 0 to 1</figcaption>
    </figure>
  );
}
