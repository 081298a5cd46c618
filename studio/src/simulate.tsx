// Masks of simulated cells that follow the sliders, and what a generator paints on them.

import { Brush, Dices, Layers } from "lucide-preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { State } from "./api";
import { outcomes, type Drawn, type Facts, type Sliders } from "./outcomes";
import { Sheet, type PanelProps } from "./panel";
import { isBusy, last, Progress } from "./work";

const MINUTES = [2, 5, 10, 30, 60];
const COUNTS = [5, 20, 50, 100];
const LAYOUTS = { mixed: "groups and single cells", scattered: "single cells", colony: "packed colonies" };
const CALM = 150; // ms without a change after which a painting is asked for

export function SimulatePanel({ state, act, close }: PanelProps) {
  const [facts, setFacts] = useState<Facts | null>(null);
  const [why, setWhy] = useState<string | null>(null);
  const [sliders, setSliders] = useState<Sliders | null>(null);
  const [painter, setPainter] = useState<string | null>(null);
  const trained = state.jobs.filter(({ kind, state: how }) => kind === "train-painter" && how === "done").length;
  const finished = state.images.filter(({ status }) => status === "done").length;
  useEffect(() => {
    void outcomes
      .facts()
      .then((found) => {
        setFacts(found);
        setWhy(null);
        setPainter(found.painters[0]?.name ?? null);
        setSliders((now) => now ?? { ...found.begin, layout: "mixed", gap: 0, seed: 0 });
      })
      .catch((error: Error) => setWhy(error.message));
  }, [trained, finished]);
  if (!facts || !sliders) {
    return (
      <Sheet name="simulate" title="Simulated cells" close={close}>
        <p class="quiet">{why ?? "Looking at your cells…"}</p>
      </Sheet>
    );
  }
  const set = (changed: Partial<Sliders>) => setSliders({ ...sliders, ...changed });
  return (
    <Sheet name="simulate" title="Simulated cells" close={close}>
      <Controls {...{ facts, sliders, set }} />
      <div class="simulation">
        <Mask sliders={sliders} painter={painter} facts={facts} />
        <Painting {...{ state, act, sliders, facts, painter, setPainter }} />
      </div>
      <Write {...{ state, act, sliders, painter }} />
    </Sheet>
  );
}

function Controls(props: { facts: Facts; sliders: Sliders; set: (changed: Partial<Sliders>) => void }) {
  const { facts, sliders, set } = props;
  const percent = (value: number) => `${Math.round(100 * value)} %`;
  const slider = (name: keyof Facts["ranges"], title: string, words: string, disabled = false) => (
    <label class="slider">
      <span>
        {title} <b>{words}</b>
      </span>
      <input
        type="range"
        min={facts.ranges[name][0]}
        max={facts.ranges[name][1]}
        step={0.01}
        value={sliders[name]}
        disabled={disabled}
        onInput={(event) => set({ [name]: Number(event.currentTarget.value) })}
      />
    </label>
  );
  return (
    <div class="controls">
      {slider("density", "Cells cover", percent(sliders.density))}
      {slider("magnification", "Size of cells", `× ${sliders.magnification.toFixed(2)}`)}
      {slider("variation", "Variety of cells", percent(sliders.variation))}
      {slider("touching", "Cells that touch", percent(sliders.touching), sliders.layout !== "mixed")}
      <label class="slider">
        <span>
          Gap between cells <b>{sliders.gap} px</b>
        </span>
        <input
          type="range"
          min={0}
          max={facts.gap}
          value={sliders.gap}
          onInput={(event) => set({ gap: Number(event.currentTarget.value) })}
        />
      </label>
      <label class="field">
        In
        <select
          value={sliders.layout}
          onChange={(event) => set({ layout: event.currentTarget.value as Sliders["layout"] })}
        >
          {Object.entries(LAYOUTS).map(([name, title]) => (
            <option key={name} value={name}>
              {title}
            </option>
          ))}
        </select>
      </label>
      <button class="small" onClick={() => set({ seed: sliders.seed + 1 })}>
        <Dices size={15} aria-hidden="true" /> Another one
      </button>
    </div>
  );
}

function Mask({ sliders, painter, facts }: { sliders: Sliders; painter: string | null; facts: Facts }) {
  const { found, error } = useLatest(JSON.stringify({ ...sliders, painter }), outcomes.mask);
  const [few, many] = facts.yours.cells;
  return (
    <figure class="made">
      {found && <img src={found.picture} alt="Simulated mask, a colour for each cell" />}
      <figcaption>
        {error ?? (found && `${cells(found)}, ${Math.round(100 * found.coverage)} % covered, in ${found.width} × ${found.height} px.`)} Your whole images have{" "}
        {few === many ? few : `${few} to ${many}`}, {Math.round(100 * facts.yours.coverage)} % covered.
      </figcaption>
    </figure>
  );
}

function Painting(props: {
  state: State;
  act: PanelProps["act"];
  sliders: Sliders;
  facts: Facts;
  painter: string | null;
  setPainter: (painter: string) => void;
}) {
  const { state, act, facts, painter } = props;
  const [minutes, setMinutes] = useState(10);
  const job = last(state, "train-painter");
  const { found, error } = useLatest(
    painter && JSON.stringify({ ...props.sliders, painter }),
    outcomes.painting,
    CALM,
  );
  const known = facts.painters.find(({ name }) => name === painter);
  const verdict = known?.judged.verdict;
  return (
    <figure class="made">
      {found && painter && <img src={found.picture} alt="What the painter paints on this mask" />}
      {painter && (
        <figcaption>
          {error ?? (
            <>
              {facts.painters.length > 1 ? (
                <select value={painter} onChange={(event) => props.setPainter(event.currentTarget.value)}>
                  {facts.painters.map(({ name }) => (
                    <option key={name}>{name}</option>
                  ))}
                </select>
              ) : (
                painter
              )}{" "}
              {verdict && <strong class={`is-${verdict}`}>is {verdict}</strong>} {found ? "" : "paints…"}
              {known && <p class="quiet told">{known.told}</p>}
            </>
          )}
        </figcaption>
      )}
      <div class={painter ? "again" : "absent"}>
        {!painter && !isBusy(job) && (
          <p>A painter turns such masks into images like yours. It learns from your finished images.</p>
        )}
        {isBusy(job) || (job && job.state !== "done") ? (
          <Progress job={job} act={act} />
        ) : (
          <div class="row">
            <button class={painter ? "small" : "main"} onClick={() => act(() => outcomes.trainPainter(minutes))}>
              <Brush size={15} aria-hidden="true" /> Train {painter ? "another" : "a painter"}
            </button>
            <select
              aria-label="Minutes"
              value={minutes}
              onChange={(event) => setMinutes(Number(event.currentTarget.value))}
            >
              {MINUTES.map((number) => (
                <option key={number} value={number}>
                  {number} minutes
                </option>
              ))}
            </select>
          </div>
        )}
      </div>
    </figure>
  );
}

function Write(props: { state: State; act: PanelProps["act"]; sliders: Sliders; painter: string | null }) {
  const { state, act, painter } = props;
  const [count, setCount] = useState(20);
  const job = last(state, "paint", "simulate");
  const folder = state.folder;
  return (
    <div class="write">
      <div class="row">
        <button
          disabled={isBusy(job)}
          onClick={() => act(() => outcomes.simulate({ ...props.sliders, painter, count }))}
        >
          <Layers size={16} aria-hidden="true" /> Write {count} of these
        </button>
        <select aria-label="How many" value={count} onChange={(event) => setCount(Number(event.currentTarget.value))}>
          {COUNTS.map((number) => (
            <option key={number}>{number}</option>
          ))}
        </select>
        <Progress job={job} act={act} />
      </div>
      {job?.state === "done" && job.kind === "paint" && (
        <p class="quiet">
          Choose them in step 3 (<em>Also from</em>) to train with them, or:{" "}
          <code>
            cytoforge train segmentation {folder} --with {folder}/{job.asked.out} --out RUN
          </code>
        </p>
      )}
      {job?.state === "done" && job.kind === "simulate" && !job.asked.painter && (
        <p class="quiet">
          These are masks without images; train a painter to have images, too. They are in <code>{folder}/{job.asked.out}</code>
        </p>
      )}
    </div>
  );
}

const cells = (drawn: Drawn): string => `${drawn.cells} ${drawn.cells === 1 ? "cell" : "cells"}`;

/** Ask for what is wanted now, one request at a time; what has changed meanwhile is asked for next. */
function useLatest<T>(wanted: string | null, asking: (wanted: object) => Promise<T>, calm = 0) {
  const [found, setFound] = useState<T | null>(null);
  const [error, setError] = useState<string | null>(null);
  const next = useRef<string | null>(null);
  const busy = useRef(false);
  const gone = useRef(false);
  useEffect(
    () => () => {
      gone.current = true;
    },
    [],
  );
  useEffect(() => {
    if (wanted === null) return;
    next.current = wanted;
    const work = async () => {
      if (busy.current) return;
      busy.current = true;
      while (next.current !== null && !gone.current) {
        const now = next.current;
        next.current = null;
        try {
          const answer = await asking(JSON.parse(now));
          if (!gone.current) setFound(answer);
          setError(null);
        } catch (failed) {
          setError((failed as Error).message);
        }
      }
      busy.current = false;
    };
    const timer = setTimeout(work, calm);
    return () => clearTimeout(timer);
  }, [wanted]);
  return { found, error };
}
