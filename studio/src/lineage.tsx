// Who descends from whom: a tree of the tracks over time, or a list of them; a click goes to the cell and its frame.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Cell, Lineage, Track } from "./tracks";

const ROW = 15; // px between two leaves of the tree
const MOST = 400; // tracks that are shown at once
const WIDTH = 224; // px of the tree, of which the first ones are for labels
const EDGE = 12;

type Filter = "all" | "divisions" | "here";

interface Branch {
  track: Track;
  y: number;
}

export function LineagePanel(props: {
  lineage: Lineage;
  first: number;
  last: number;
  frame: number;
  chosen: number | null;
  go: (cell: Cell) => void;
}) {
  const { lineage, frame } = props;
  const [filter, setFilter] = useState<Filter>("all");
  const [list, setList] = useState(lineage.tracks.size > 200);
  const here = filter === "here" ? frame : null;
  const families = useMemo(() => {
    const alive = (family: Track[]) =>
      here === null || family.some(({ begin, end }) => begin <= here && here <= end);
    return lineage.families().filter((family) => alive(family) && (filter !== "divisions" || family.some((track) => divides(lineage, track))));
  }, [lineage, filter, here]);
  const kin = useRef<HTMLDivElement>(null);
  useEffect(() => kin.current?.querySelector(".chosen")?.scrollIntoView({ block: "nearest" }), [props.chosen, list]);
  const count = families.reduce((sum, family) => sum + family.length, 0);
  const shown: Track[][] = [];
  let room = MOST;
  for (const family of families) {
    if (!room) break;
    const part = family.slice(0, room); // mothers come before daughters
    room -= part.length;
    shown.push(part);
  }
  return (
    <section class="lineage" aria-label="Lineage">
      <header>
        <h2>Lineage</h2>
        <p>
          {lineage.tracks.size} {lineage.tracks.size === 1 ? "track" : "tracks"}, {divisions(lineage)}{" "}
          {divisions(lineage) === 1 ? "division" : "divisions"}
        </p>
        <div class="row">
          <select value={filter} aria-label="Which tracks" onChange={(event) => setFilter(event.currentTarget.value as Filter)}>
            <option value="all">All</option>
            <option value="divisions">With divisions</option>
            <option value="here">In this frame</option>
          </select>
          <button class="small" aria-pressed={!list} onClick={() => setList(false)}>
            Tree
          </button>
          <button class="small" aria-pressed={list} onClick={() => setList(true)}>
            List
          </button>
        </div>
      </header>
      <div class="kin" ref={kin}>
        {count === 0 && <p class="quiet">There is none.</p>}
        {list ? <List {...props} families={shown} /> : <Tree {...props} families={shown} />}
        {MOST - room < count && (
          <p class="quiet">The first {MOST - room} of {count}; show fewer to see the others.</p>
        )}
      </div>
    </section>
  );
}

function divisions(lineage: Lineage): number {
  return [...lineage.tracks.values()].filter((track) => divides(lineage, track)).length;
}

function divides(lineage: Lineage, { label }: Track): boolean {
  return (lineage.daughters.get(label)?.length ?? 0) > 1;
}

type Shown = Parameters<typeof LineagePanel>[0] & { families: Track[][] };

function Tree({ lineage, families, first, last, frame, chosen, go }: Shown) {
  const span = Math.max(last - first, 1);
  const x = (at: number) => EDGE + ((at - first) / span) * (WIDTH - 2 * EDGE);
  const { branches, height } = useMemo(() => arranged(lineage, families), [lineage, families]);
  const at = new Map(branches.map((branch) => [branch.track.label, branch.y]));
  const pick = (track: Track, event: MouseEvent) => {
    const box = (event.currentTarget as SVGElement).ownerSVGElement!.getBoundingClientRect();
    const place = first + Math.round((((event.clientX - box.left) / box.width) * WIDTH - EDGE) / ((WIDTH - 2 * EDGE) / span));
    go({ label: track.label, frame: Math.min(Math.max(place, track.begin), track.end) });
  };
  const drawn = useMemo(
    () =>
      branches.map(({ track, y }) => {
        const mother = at.get(track.parent);
        const parent = lineage.tracks.get(track.parent);
        const words = `Track ${track.label}, frames ${track.begin} to ${track.end}`;
        return (
          <g
            key={track.label}
            class={track.label === chosen ? "branch chosen" : "branch"}
            onClick={(event) => pick(track, event)}
          >
            <title>{words}</title>
            {mother !== undefined && parent && (
              <path
                d={`M${x(parent.end)} ${mother}L${x(track.begin)} ${y}`}
                stroke={track.colour}
                stroke-dasharray={track.begin > parent.end + 1 ? "3 3" : undefined}
              />
            )}
            <line class="halo" x1={x(track.begin)} x2={x(track.end)} y1={y} y2={y} />
            <line x1={x(track.begin)} x2={x(track.end)} y1={y} y2={y} stroke={track.colour} />
            <circle cx={x(track.begin)} cy={y} r={2.6} fill={track.colour} />
            <rect x={x(track.begin) - 5} y={y - ROW / 2} width={x(track.end) - x(track.begin) + 10} height={ROW} />
            {track.label === chosen && (
              <text x={Math.min(x(track.begin) + 4, WIDTH - 34)} y={y - 6}>
                {track.label}
              </text>
            )}
          </g>
        );
      }),
    [branches, chosen, first, last],
  );
  return (
    <svg class="tree" viewBox={`0 0 ${WIDTH} ${height}`} width={WIDTH} height={height} role="img" aria-label="Tracks over time">
      <line class="now" x1={x(frame)} x2={x(frame)} y1={0} y2={height} />
      {drawn}
    </svg>
  );
}

/** Give each track a height: leaves one after the other, mothers in the middle of their daughters. */
function arranged(lineage: Lineage, families: Track[][]): { branches: Branch[]; height: number } {
  const branches: Branch[] = [];
  const shown = new Set(families.flat());
  let next = ROW;
  const place = (track: Track): number => {
    const kin = (lineage.daughters.get(track.label) ?? []).filter((one) => shown.has(one)).map(place);
    const y = kin.length ? (kin[0]! + kin[kin.length - 1]!) / 2 : next;
    if (!kin.length) next += ROW;
    branches.push({ track, y });
    return y;
  };
  for (const [root] of families) if (root) place(root);
  return { branches, height: next };
}

function List({ lineage, families, chosen, go }: Shown) {
  return (
    <table>
      <thead>
        <tr>
          <th scope="col">Track</th>
          <th scope="col">Frames</th>
          <th scope="col">Mother</th>
          <th scope="col">Daughters</th>
        </tr>
      </thead>
      <tbody>
        {families.flat().map((track) => (
          <tr key={track.label} class={track.label === chosen ? "chosen" : ""}>
            <td>
              <button class="link" onClick={() => go({ label: track.label, frame: track.begin })}>
                <svg width="10" height="10" aria-hidden="true">
                  <circle cx="5" cy="5" r="5" fill={track.colour} />
                </svg>{" "}
                {track.label}
              </button>
            </td>
            <td>
              {track.begin}–{track.end}
            </td>
            <td>{track.parent || ""}</td>
            <td>{(lineage.daughters.get(track.label) ?? []).map(({ label }) => label).join(", ")}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
