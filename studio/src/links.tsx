// What is done with a movie: follow its cells, correct the links between them, take the tracks.

import { ArrowLeftRight, Download, Footprints, Link2, PencilLine, Redo2, Scissors, Split, Undo2, X } from "lucide-preact";
import { useEffect, useState } from "preact/hooks";
import { api, type State } from "./api";
import { CellSize } from "./models";
import { movies, type Cell, type Movie, type Lineage } from "./tracks";
import { isBusy, Progress } from "./work";

export type Tool = "join" | "divide" | "swap";

const DRAWN = "drawn";

export function FollowCells(props: { state: State; movie: Movie; act: (what: () => Promise<unknown>) => void }) {
  const { state, movie } = props;
  const runs = state.runs.filter(({ finished }) => finished).map(({ name }) => name);
  const choices = [...(movie.drawn ? [DRAWN] : []), ...runs, ...(state.base ? ["base"] : [])];
  const [cells, setCells] = useState(choices[0] ?? "");
  const [diameter, setDiameter] = useState("");
  const [tracker, setTracker] = useState("base");
  useEffect(() => {
    if (!choices.includes(cells)) setCells(choices[0] ?? "");
  }, [choices.join()]);
  const job = state.jobs.find(({ kind, asked }) => kind === "track" && asked.movie === movie.name);
  const busy = isBusy(job);
  const begun = movie.tracked !== null;
  const follow = () =>
    props.act(() => api.work({ kind: "track", movie: movie.name, tracker, ...(cells === DRAWN ? { cells } : { model: cells, ...(diameter ? { diameter: Number(diameter) } : {}) }) }));
  return (
    <section class={begun ? "card" : "card next"} data-step="follow">
      <h2>
        <span class="number">1</span> Follow the cells {!begun && <em>next</em>}
      </h2>
      <label class="field">
        Cells
        <select value={cells} onChange={(event) => setCells(event.currentTarget.value)}>
          {choices.map((choice) => (
            <option key={choice} value={choice}>
              {choice === DRAWN ? "as in the frames" : choice === "base" ? "found by the general model" : `found by ${choice}`}
            </option>
          ))}
        </select>
      </label>
      {cells === "base" && <CellSize value={diameter} set={setDiameter} />}
      <label class="field">
        By
        <select value={tracker} onChange={(event) => setTracker(event.currentTarget.value)}>
          <option value="base">base</option>
          <option value="overlap">overlap</option>
          <option value="laptrack">nearness</option>
        </select>
      </label>
      <button class="main" disabled={busy || !cells} onClick={follow}>
        <Footprints size={16} aria-hidden="true" /> {begun ? "Follow them again" : "Follow the cells"}
      </button>
      {begun && movie.corrections > 0 && !busy && (
        <p class="quiet">
          Your {movie.corrections} {movie.corrections === 1 ? "correction goes" : "corrections go"} with the tracks of now, which
          new ones replace.
        </p>
      )}
      <Progress job={job} act={props.act} />
    </section>
  );
}

const ASKS: Record<Tool, string[]> = {
  join: ["", "Click the cell that it becomes, in this frame or a later one."],
  divide: ["", "Click its first daughter.", "Click its second daughter."],
  swap: ["", "Click the cell of this frame with which it is mixed up."],
};

export function CorrectLinks(props: {
  movie: Movie;
  lineage: Lineage;
  cell: Cell | null;
  tool: Tool | null;
  picked: Cell[];
  gap: boolean;
  setGap: (gap: boolean) => void;
  begin: (tool: Tool) => void;
  cut: (which: "before" | "after") => void;
  stop: () => void;
  undo: () => void;
  redo: () => void;
  openImage: (() => void) | undefined;
}) {
  const { movie, lineage, cell, tool } = props;
  const track = cell && lineage.tracks.get(cell.label);
  const here = !!cell && lineage.has(cell);
  const last = movie.frames[movie.frames.length - 1]?.number;
  const leads = here && (cell.frame > track!.begin || track!.parent > 0);
  const follows = here && (cell.frame < track!.end || lineage.daughters.has(cell.label));
  return (
    <section class="card next" data-step="links">
      <h2>
        <span class="number">2</span> Correct the links
      </h2>
      {tool ? (
        <>
          <p class="ask" aria-live="polite">
            {ASKS[tool][props.picked.length]}
          </p>
          {tool === "join" && (
            <label class="switch">
              <input type="checkbox" checked={props.gap} onChange={(event) => props.setGap(event.currentTarget.checked)} />
              It may be out of sight in between
            </label>
          )}
          <button onClick={props.stop}>
            <X size={16} aria-hidden="true" /> Leave it
          </button>
        </>
      ) : !track ? (
        <p>Play the movie. Where a colour jumps to another cell, or changes, click on the cell.</p>
      ) : (
        <>
          <p>
            <svg width="12" height="12" aria-hidden="true">
              <circle cx="6" cy="6" r="6" fill={track.colour} />
            </svg>{" "}
            <strong>Cell {track.label}</strong>, frames {track.begin} to {track.end}
            {track.parent > 0 && `, from ${track.parent}`}
            {lineage.daughters.has(track.label) &&
              `, then ${lineage.daughters
                .get(track.label)!
                .map(({ label }) => label)
                .join(" and ")}`}
            {!here && " (not in this frame)"}
          </p>
          <div class="links">
            <button disabled={!here || cell.frame === last} title="It becomes another cell of the next frame (J)" onClick={() => props.begin("join")}>
              <Link2 size={16} aria-hidden="true" /> Join …
            </button>
            <button disabled={!here || cell.frame === last} title="It divides into two cells of the next frame (D)" onClick={() => props.begin("divide")}>
              <Split size={16} aria-hidden="true" /> Divide …
            </button>
            <button disabled={!here} title="It is mixed up with another cell of this frame, from here on (S)" onClick={() => props.begin("swap")}>
              <ArrowLeftRight size={16} aria-hidden="true" /> Swap …
            </button>
            <button disabled={!leads} title="It is not the cell of the frame before (X)" onClick={() => props.cut("before")}>
              <Scissors size={16} aria-hidden="true" /> Cut before
            </button>
            <button disabled={!follows} title="It is not the cell of the next frame (C)" onClick={() => props.cut("after")}>
              <Scissors size={16} aria-hidden="true" /> Cut after
            </button>
          </div>
        </>
      )}
      <div class="row">
        <button class="small" disabled={!movie.undo} title="Ctrl+Z" onClick={props.undo}>
          <Undo2 size={15} aria-hidden="true" /> Undo
        </button>
        <button class="small" disabled={!movie.redo} title="Ctrl+Shift+Z" onClick={props.redo}>
          <Redo2 size={15} aria-hidden="true" /> Redo
        </button>
        <span class="quiet">
          {movie.corrections} {movie.corrections === 1 ? "correction" : "corrections"}
        </span>
      </div>
      {props.openImage && (
        <button class="small" title="Shapes are corrected frame by frame; follow the cells again after that" onClick={props.openImage}>
          <PencilLine size={15} aria-hidden="true" /> Correct shapes here
        </button>
      )}
    </section>
  );
}

export function TakeTracks({ movie }: { movie: Movie }) {
  return (
    <section class="card" data-step="take">
      <h2>
        <span class="number">3</span> Take the tracks
      </h2>
      <a class="button" href={movies.zip(movie.name)} download>
        <Download size={16} aria-hidden="true" /> Download tracks
      </a>
      <p class="quiet">
        They are also in <code>{movie.folder}</code>, a movie folder with your corrections. In a terminal,{" "}
        <code>cytoforge export</code> makes a table of it, or a file for TrackMate, and <code>cytoforge score tracking</code> compares it.
      </p>
    </section>
  );
}
