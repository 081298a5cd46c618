// The page of a movie: its frames with tracked cells, their lineage, and the correction of links.

import { ChevronLeft, ChevronRight, Pause, Play } from "lucide-preact";
import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { State } from "./api";
import { CorrectLinks, FollowCells, TakeTracks, type Tool } from "./links";
import { LineagePanel } from "./lineage";
import { EditSync, type Saving } from "./mask";
import { Brightness, Fill, Zoom } from "./tools";
import { movies, Lineage, type Cell, type Correction, type Movie, type Places, type Tracks } from "./tracks";
import { MovieViewer, type MovieLook } from "./movieviewer";

const SPEEDS = [2, 5, 10, 20]; // frames a second
const TRAIL = 10; // frames

export const MOVIE_KEYS = [
  ["Space", "Play", "the movie, and stop it"],
  ["← →", "Step", "to the frame before or after; with Shift ten frames"],
  ["J", "Join", "the chosen cell with one of the next frame"],
  ["D", "Divide", "the chosen cell into two of the next frame"],
  ["S", "Swap", "the chosen cell with another one of this frame"],
  ["X  C", "Cut", "what leads to the chosen cell, or on from it"],
  ["T", "Trails", "on and off; H hides the cells"],
  ["Ctrl+Z", "Undo", "Ctrl+Shift+Z repeats"],
];

export function MoviePage(props: {
  state: State;
  act: (what: () => Promise<unknown>) => void;
  tell: (sentence: string) => void;
  saving: (saving: Saving) => void;
  openImage: (name: string) => void;
}) {
  const { state } = props;
  const [name, setName] = useState(state.movies[0]!.name);
  const [movie, setMovie] = useState<Movie | null>(null);
  const [places, setPlaces] = useState<Places>({});
  const [place, setPlace] = useState(0); // of the frame shown
  const [playing, setPlaying] = useState(false);
  const [speed, setSpeed] = useState(5);
  const [look, setLook] = useState<MovieLook>({ channels: [], outlines: true, fill: 0.25, trail: TRAIL });
  const [chosen, setChosen] = useState<{ frame: number; masked: number } | null>(null);
  const [tool, setTool] = useState<Tool | null>(null);
  const [picked, setPicked] = useState<Cell[]>([]);
  const [gap, setGap] = useState(false);
  const [percent, setPercent] = useState(100);
  const element = useRef<HTMLDivElement>(null);
  const viewer = useRef<MovieViewer | null>(null);
  const sync = useRef<EditSync<Correction, Tracks> | null>(null);
  const tell = useRef(props);
  tell.current = props;
  const wanted = useRef(name); // what comes of another movie comes too late
  wanted.current = name;

  const load = useCallback(async (asked: string) => {
    try {
      const found = await movies.movie(asked);
      const there = found.tracked === null ? {} : await movies.places(asked);
      if (asked !== wanted.current) return;
      sync.current = new EditSync<Correction, Tracks>(found, {
        look: () => movies.movie(asked),
        edit: (correction, revision) => movies.correct(asked, correction, revision),
        told: (tracks, how) => {
          setMovie((former) => (former?.name === asked ? { ...former, ...tracks } : former));
          tell.current.saving(how);
        },
        refused: (sentence, outdated, count) =>
          tell.current.tell(
            outdated
              ? "These tracks were changed elsewhere, in another tab or by work that has ended. They are shown as they are now; please correct the " +
                (count > 1 ? `last ${count} links again.` : "link again.")
              : `${sentence[0]!.toUpperCase()}${sentence.slice(1)}.`,
          ),
      });
      setPlaces(there);
      setMovie(found);
      setLook((former) => (former.channels.length ? former : { ...former, channels: found.channels }));
    } catch (error) {
      if (asked === wanted.current) tell.current.tell((error as Error).message);
    }
  }, []);

  useEffect(() => {
    setMovie(null);
    setPlace(0);
    setLook((former) => ({ ...former, channels: [] }));
    void load(name);
  }, [name, load]);

  // another tab, or work that has ended, has changed the tracks
  const revision = state.movies.find((other) => other.name === name)?.revision;
  useEffect(() => {
    if (movie && revision && revision !== movie.revision && sync.current?.idle) void load(name);
  }, [revision]);

  // other cells, or the same ones followed anew
  useEffect(() => {
    setChosen(null);
    stop();
  }, [movie?.name, movie?.tracked]);

  const lineage = useMemo(
    () => (movie && movie.tracked !== null ? new Lineage(movie, places) : null),
    [movie?.revision, movie?.tracked, places],
  );
  const number = movie?.frames[place]?.number ?? 0;
  const cell = useMemo((): Cell | null => {
    if (!lineage || !chosen) return null;
    const label = lineage.label(chosen.frame, chosen.masked);
    return lineage.tracks.has(label) ? { label, frame: number } : null;
  }, [lineage, chosen, number]);

  useEffect(() => {
    if (!element.current) return;
    const shown = new MovieViewer(element.current);
    shown.onZoom = setPercent;
    viewer.current = shown;
    return () => shown.destroy();
  }, []);
  useEffect(() => {
    if (movie) viewer.current?.open(movie);
  }, [movie?.name, movie?.tracked]);
  useEffect(() => {
    if (movie && look.channels.length) viewer.current?.show(place, look, lineage, { chosen: cell, picked });
  }, [movie?.name, movie?.tracked, place, look, lineage, cell, picked]);

  const count = movie?.frames.length ?? 0;
  const step = (by: number) => {
    setPlaying(false);
    setPlace((former) => Math.min(Math.max(former + by, 0), Math.max(count - 1, 0)));
  };
  useEffect(() => {
    if (!playing || count < 2) return;
    const timer = setInterval(
      () => setPlace((former) => (viewer.current?.ready((former + 1) % count) ? (former + 1) % count : former)),
      1000 / speed,
    );
    return () => clearInterval(timer);
  }, [playing, speed, count]);

  const choose = (wanted: Cell | null) => setChosen(wanted && lineage ? { frame: wanted.frame, masked: lineage.masked(wanted) } : null);
  const go = (wanted: Cell) => {
    const there = movie?.frames.findIndex((frame) => frame.number === wanted.frame) ?? -1;
    if (there < 0) return;
    setPlaying(false);
    stop();
    setPlace(there);
    choose(wanted);
    viewer.current?.seek(wanted);
  };

  const stop = () => {
    setTool(null);
    setPicked([]);
  };
  const correct = (correction: Correction) => {
    stop();
    sync.current?.send(correction);
  };
  const begin = (wanted: Tool) => {
    if (!cell || !lineage?.has(cell)) return;
    setPlaying(false);
    choose(cell);
    setTool(wanted);
    setPicked([cell]);
    if (wanted !== "swap") step(1);
  };
  const cut = (which: "before" | "after") => {
    if (!cell || !lineage?.has(cell)) return;
    choose(cell);
    correct({ tool: which, cells: [[cell.label, cell.frame]] });
  };
  const pick = (found: Cell | null) => {
    if (!tool || !found) {
      if (!tool) choose(found);
      return;
    }
    const all = [...picked, found];
    if (tool === "divide" && all.length < 3) setPicked(all);
    else correct({ tool, cells: all.map(({ label, frame }): [number, number] => [label, frame]), gap });
  };
  useEffect(() => {
    if (viewer.current) viewer.current.onPick = pick;
  });

  useEffect(() => {
    const press = (event: KeyboardEvent) => {
      const target = event.target as HTMLElement;
      if (target.closest("input:not([type=range]):not([type=checkbox]), select, textarea") || event.altKey) return;
      const key = event.key.toLowerCase();
      if (/^(arrow|home|end)/.test(key) && target.closest("input[type=range]:not(.time)")) return;
      if (event.ctrlKey || event.metaKey) {
        if (key === "z") correct({ tool: event.shiftKey ? "redo" : "undo" });
        else if (key === "y") correct({ tool: "redo" });
        else return;
      } else if (key === " " && !target.closest("button, a")) setPlaying(!playing);
      else if (key === "arrowleft") step(event.shiftKey ? -10 : -1);
      else if (key === "arrowright") step(event.shiftKey ? 10 : 1);
      else if (key === "home") step(-count);
      else if (key === "end") step(count);
      else if (key === "escape") stop();
      else if (key === "j") begin("join");
      else if (key === "d") begin("divide");
      else if (key === "s") begin("swap");
      else if (key === "x") cut("before");
      else if (key === "c") cut("after");
      else if (key === "t") setLook((former) => ({ ...former, trail: former.trail ? 0 : TRAIL }));
      else if (key === "h") setLook((former) => ({ ...former, outlines: !former.outlines, fill: former.outlines ? 0 : 0.25 }));
      else if (key === "+" || key === "=") viewer.current?.zoom(1.5);
      else if (key === "-") viewer.current?.zoom(1 / 1.5);
      else if (key === "0") viewer.current?.home();
      else return;
      event.preventDefault();
    };
    window.addEventListener("keydown", press);
    return () => window.removeEventListener("keydown", press);
  });

  const entry = movie?.frames[place];
  return (
    <main class="movie">
      {lineage ? (
        <LineagePanel
          key={`${movie!.name} ${movie!.tracked}`}
          {...{ lineage, go, frame: number, chosen: cell?.label ?? null }}
          first={movie!.frames[0]!.number}
          last={movie!.frames[count - 1]!.number}
        />
      ) : (
        <section class="lineage" aria-label="Lineage">
          <header>
            <h2>Lineage</h2>
          </header>
          <p class="quiet">{movie ? "Here the tracks of the cells will be, once they are followed." : "Reading the tracks…"}</p>
        </section>
      )}
      <section class="stage" aria-label="Movie">
        <div ref={element} class={tool ? "viewer picking" : "viewer"} tabIndex={-1} />
        <div class="moviebar" role="group" aria-label="Player">
          <button class="small icon" aria-label="Frame before" title="Frame before (←)" onClick={() => step(-1)}>
            <ChevronLeft size={18} />
          </button>
          <button class="play" aria-label={playing ? "Pause" : "Play"} title="Space" disabled={count < 2} onClick={() => setPlaying(!playing)}>
            {playing ? <Pause size={18} /> : <Play size={18} />}
          </button>
          <button class="small icon" aria-label="Frame after" title="Frame after (→)" onClick={() => step(1)}>
            <ChevronRight size={18} />
          </button>
          <input
            type="range"
            class="time"
            min={0}
            max={Math.max(count - 1, 1)}
            value={place}
            aria-label="Frame"
            onInput={(event) => {
              setPlaying(false);
              setPlace(Number(event.currentTarget.value));
            }}
          />
          <span class="count">
            <strong>{number}</strong> of {movie?.frames[count - 1]?.number ?? 0}
          </span>
          <select value={speed} aria-label="Speed" onChange={(event) => setSpeed(Number(event.currentTarget.value))}>
            {SPEEDS.map((value) => (
              <option key={value} value={value}>
                {value} a second
              </option>
            ))}
          </select>
        </div>
        <div class="viewbar">
          {state.movies.length > 1 && (
            <select value={name} aria-label="Sequence" onChange={(event) => setName(event.currentTarget.value)}>
              {state.movies.map((other) => (
                <option key={other.name} value={other.name}>
                  Movie {other.name}
                </option>
              ))}
            </select>
          )}
          <label class="switch">
            <input type="checkbox" checked={look.outlines} onChange={(event) => setLook({ ...look, outlines: event.currentTarget.checked })} />
            Outlines
          </label>
          <label class="switch">
            <input type="checkbox" checked={look.trail > 0} onChange={(event) => setLook({ ...look, trail: event.currentTarget.checked ? TRAIL : 0 })} />
            Trails
          </label>
          {look.trail > 0 && (
            <select value={look.trail} aria-label="Length of the trails" onChange={(event) => setLook({ ...look, trail: Number(event.currentTarget.value) })}>
              {[5, 10, 30, 1000].map((value) => (
                <option key={value} value={value}>
                  {value === 1000 ? "all frames" : `${value} frames`}
                </option>
              ))}
            </select>
          )}
          <Fill value={look.fill} set={(fill) => setLook({ ...look, fill })} />
          {movie && <Brightness info={movie} shown={look.channels} show={(channels) => setLook({ ...look, channels })} />}
          <span class="gap" />
          <Zoom
            percent={percent}
            zoom={(factor) => viewer.current?.zoom(factor)}
            home={() => viewer.current?.home()}
          />
        </div>
      </section>
      <aside class="steps" aria-label="Steps">
        {movie && <FollowCells state={state} movie={movie} act={props.act} />}
        {movie && lineage && (
          <CorrectLinks
            {...{ movie, lineage, cell, tool, picked, gap, setGap, begin, cut, stop }}
            undo={() => correct({ tool: "undo" })}
            redo={() => correct({ tool: "redo" })}
            openImage={entry ? () => props.openImage(entry.image) : undefined}
          />
        )}
        {movie && lineage && <TakeTracks movie={movie} />}
      </aside>
    </main>
  );
}
