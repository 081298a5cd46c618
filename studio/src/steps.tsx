// The way from images to masks, step by step; the next one is always marked.

import {
  ArrowRight,
  Check,
  Download,
  FileSearch,
  GraduationCap,
  Lightbulb,
  Play,
  SlidersHorizontal,
  Sparkles,
  Table2,
} from "lucide-preact";
import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { api, type ImageEntry, type Job, type Mask, type RunDetails, type State } from "./api";
import { Curve } from "./curve";
import { CellSize, ModelChoice } from "./models";
import { outcomes, type Panel } from "./outcomes";
import { Enlarging } from "./panel";
import { ScoreCard } from "./scores";
import { ForOthers } from "./table";
import { Ended, isBusy, last, Work } from "./work";

export type Step = "find" | "correct" | "train" | "use";

const MINUTES = [2, 5, 10, 30, 60];

/** Return what to do next, from what there is. */
export function nextStep(state: State, image: ImageEntry | undefined, mask: Mask | null): Step {
  const done = state.images.filter(({ status }) => status === "done").length;
  const left = state.images.length - done;
  const training = last(state, "train");
  const learned = training?.asked.images?.length ?? 0;
  if (isBusy(training)) return "train";
  if (image && image.status !== "done" && (mask?.cells ?? 0) > 0) return "correct";
  if (left === 0 && done > 0) return done > learned ? "train" : "use";
  if (done >= 3 && done >= learned + 2) return "train";
  return image?.status === "done" ? "correct" : "find";
}

export function Steps(props: {
  state: State;
  image: ImageEntry | undefined;
  mask: Mask | null;
  dark: boolean;
  act: (what: () => Promise<unknown>) => void;
  mark: (done: boolean) => void;
  follow: () => void;
  suggest: (job: Job) => void;
  show: (panel: Panel) => void;
}) {
  const { state, image, mask } = props;
  const next = nextStep(state, image, mask);
  const runs = state.runs.filter(({ finished }) => finished);
  const newest = runs[0]?.name;
  const [model, setModel] = useState(state.base ? "base" : "");
  useEffect(() => {
    if (newest) setModel(newest);
  }, [newest]);
  const done = state.images.filter(({ status }) => status === "done");
  const left = state.images.filter(({ status }) => status !== "done");
  const models = [...runs.map(({ name }) => name), ...(state.base ? ["base"] : [])];
  return (
    <aside class="steps" aria-label="Steps">
      <Card step="find" next={next} number={1} title="Find the cells">
        <FindCells {...props} model={model} setModel={setModel} models={models} left={left} />
      </Card>
      <Card step="correct" next={next} number={2} title="Correct them">
        {!image ? (
          <p class="quiet">Open an image first.</p>
        ) : image.status === "done" ? (
          <>
            <p class="good">
              <Check size={16} aria-hidden="true" /> This image is finished.
            </p>
            <div class="row">
              {left.length > 0 && (
                <button class="main" onClick={props.follow}>
                  Next image <ArrowRight size={16} aria-hidden="true" />
                </button>
              )}
              <button onClick={() => props.mark(false)}>Take it back to work</button>
            </div>
          </>
        ) : (mask?.cells ?? 0) === 0 ? (
          <p class="quiet">Let the cells be found, or draw them with the brush or the outline tool.</p>
        ) : (
          <>
            <p>Look at every cell. Draw what is missing, delete what is no cell, split what is two.</p>
            <button class="main" onClick={() => props.mark(true)}>
              <Check size={16} aria-hidden="true" /> This image is right
            </button>
          </>
        )}
      </Card>
      <Card step="train" next={next} number={3} title="Train your own model">
        <Train {...props} done={done.length} models={models} newest={newest} />
      </Card>
      <Card step="use" next={next} number={4} title="Take the results">
        {done.length === 0 ? (
          <p class="quiet">Finished masks can be taken from here.</p>
        ) : (
          <>
            <a class="button" href="/api/masks.zip" download>
              <Download size={16} aria-hidden="true" /> Download {done.length} {done.length === 1 ? "mask" : "masks"}
            </a>
            <p class="quiet">
              They are also in <code>{state.folder}/masks</code>, as label images that other programs read.
            </p>
            <button
              onClick={() => {
                props.show("table");
                if (!last(state, "measure")) props.act(() => outcomes.measure(false, null));
              }}
            >
              <Table2 size={16} aria-hidden="true" /> Table of cells
            </button>
            <ForOthers state={state} act={props.act} />
          </>
        )}
        <Checked {...props} done={done.length} />
      </Card>
      <Card title="How good is a model?">
        <ScoreCard state={state} act={props.act} models={models} model={model} show={() => props.show("scores")} />
      </Card>
      <Card title="More images by simulation">
        <p class="quiet">Cells like yours, as many and as dense as you like, and images painted on them.</p>
        <button disabled={done.length === 0} onClick={() => props.show("simulate")}>
          <SlidersHorizontal size={16} aria-hidden="true" /> Simulate
        </button>
      </Card>
    </aside>
  );
}

function Card(props: { step?: Step; next?: Step; number?: number; title: string; children: ComponentChildren }) {
  const chosen = props.step !== undefined && props.step === props.next;
  return (
    <section class={chosen ? "card next" : "card"} data-step={props.step}>
      <h2>
        {props.number && <span class="number">{props.number}</span>} {props.title} {chosen && <em>next</em>}
      </h2>
      {props.children}
    </section>
  );
}

function FindCells(
  props: Parameters<typeof Steps>[0] & {
    model: string;
    setModel: (model: string) => void;
    models: string[];
    left: ImageEntry[];
  },
) {
  const { state, image, mask, model } = props;
  const [diameter, setDiameter] = useState("");
  const busy = state.jobs.find((job) => job.kind === "segment" && isBusy(job));
  const suggesting = state.jobs.find((job) => job.kind === "suggest" && isBusy(job));
  const ended = last(state, "segment", "suggest");
  const find = (images: string[], replace: boolean) =>
    props.act(() =>
      api.work({ kind: "segment", model, images, replace, ...(diameter ? { diameter: Number(diameter) } : {}) }),
    );
  const begun = (mask?.cells ?? 0) > 0;
  if (!state.images.length) return <p class="quiet">Add images first: drop files or a folder on this page.</p>;
  return (
    <>
      <ModelChoice label="With" model={model} models={props.models} choose={props.setModel} />
      {model === "base" && <CellSize value={diameter} set={setDiameter} />}
      <div class="row">
        {image && image.status !== "done" && (
          <button class={begun ? "" : "main"} disabled={!!busy} onClick={() => find([image.name], true)}>
            <Sparkles size={16} aria-hidden="true" /> {begun ? "Find again" : "Find cells in this image"}
          </button>
        )}
        {props.left.length > 1 && (
          <button disabled={!!busy} onClick={() => find(props.left.map(({ name }) => name), false)}>
            In all {props.left.length}
          </button>
        )}
        {props.left.length > 1 && (
          <button
            disabled={!!suggesting}
            title="Finds the image about which the model is least sure"
            onClick={() => props.act(() => api.work({ kind: "suggest", model }))}
          >
            <Lightbulb size={16} aria-hidden="true" /> Which image next?
          </button>
        )}
      </div>
      {busy && <Work job={busy} act={props.act} />}
      {suggesting && <Work job={suggesting} act={props.act} />}
      {!busy && !suggesting && ended && (
        <Ended job={ended} act={props.act}>
          {ended.kind === "suggest" && (
            <button onClick={() => props.suggest(ended)}>
              Show me <ArrowRight size={16} aria-hidden="true" />
            </button>
          )}
        </Ended>
      )}
    </>
  );
}

function Train(
  props: Parameters<typeof Steps>[0] & { done: number; models: string[]; newest: string | undefined },
) {
  const { state, done } = props;
  const [minutes, setMinutes] = useState(5);
  const [start, setStart] = useState("base");
  const [painted, setPainted] = useState("");
  const [details, setDetails] = useState<RunDetails | null>(null);
  const job = last(state, "train");
  const running = isBusy(job);
  const run = job?.asked.run;
  const begun = state.runs.some(({ name }) => name === run);
  useEffect(() => {
    if (!run || !begun) return;
    let gone = false;
    const look = () =>
      api
        .run(run)
        .then((found) => !gone && setDetails(found))
        .catch(() => {});
    void look();
    const timer = running ? setInterval(look, 2000) : undefined;
    return () => {
      gone = true;
      clearInterval(timer);
    };
  }, [run, begun, running, job?.state]);
  const sample = details?.name === run ? details?.samples[details.samples.length - 1] : undefined;
  const verdict = details?.judged.verdict;
  return (
    <>
      {!running && done === 0 && (
        <p class="quiet">Finish one image or more. Three to five are a good beginning.</p>
      )}
      {!running && done > 0 && (
        <>
          <p>
            It learns from your {done} finished {done === 1 ? "image" : "images"}.
          </p>
          <label class="field">
            For
            <select value={minutes} onChange={(event) => setMinutes(Number(event.currentTarget.value))}>
              {MINUTES.map((number) => (
                <option key={number} value={number}>
                  {number} minutes
                </option>
              ))}
            </select>
          </label>
          {props.newest && (
            <ModelChoice label="Beginning from" model={start} models={props.models} choose={setStart} />
          )}
          {state.painted.length > 0 && (
            <label class="field">
              Also from
              <select value={painted} onChange={(event) => setPainted(event.currentTarget.value)}>
                <option value="">nothing else</option>
                {state.painted.map((name) => (
                  <option key={name}>{name}</option>
                ))}
              </select>
            </label>
          )}
          <button
            class="main"
            onClick={() => props.act(() => api.work({ kind: "train", minutes, model: start, painted: painted || null }))}
          >
            <GraduationCap size={16} aria-hidden="true" /> Train
          </button>
        </>
      )}
      {job && running && <Work job={job} act={props.act} />}
      {job && details?.name === run && details && (running || details.metrics.length > 0) && (
        <Curve rows={details.metrics} dark={props.dark} />
      )}
      {sample && (
        <figure class="sample">
          <Enlarging
            src={`/api/runs/${run}/samples/${sample}`}
            alt="A validation image: as it is, your cells, and what the model finds"
          />
          <figcaption>
            What it finds in a test image: blue is right, magenta wrong, orange missed. A click shows all of it.
          </figcaption>
        </figure>
      )}
      {job && !running && (
        <>
          <p class={`verdict ${job.state === "done" ? (verdict ?? "") : job.state}`}>
            {verdict && <strong>{{ poor: "Poor. ", usable: "Usable. ", good: "Good. " }[verdict]}</strong>}
            {job.message}
          </p>
          <div class="row">
            {(job.state === "stopped" || job.state === "failed") && (
              <button onClick={() => props.act(() => api.goOn(job.number))}>
                <Play size={16} aria-hidden="true" /> Go on
              </button>
            )}
            {details?.report && (
              <a class="button" target="_blank" rel="noreferrer" href={`/api/runs/${run}/report`}>
                Whole report
              </a>
            )}
          </div>
        </>
      )}
    </>
  );
}

function Checked(props: Parameters<typeof Steps>[0] & { done: number }) {
  const job = last(props.state, "check");
  const [findings, setFindings] = useState<{ severity: string; file: string; what: string; remedy: string }[]>([]);
  useEffect(() => {
    if (job?.state === "done") void api.found(job.number).then((found) => setFindings(found.findings ?? []));
  }, [job?.number, job?.state]);
  const mine = findings.filter(({ what }) => !what.startsWith("has no mask"));
  return (
    <>
      {props.done > 0 && (
        <button class="small" disabled={isBusy(job)} onClick={() => props.act(() => api.work({ kind: "check" }))}>
          <FileSearch size={14} aria-hidden="true" /> Look for mistakes
        </button>
      )}
      {job?.state === "done" && mine.length === 0 && <p class="quiet">Nothing is wrong with the finished images.</p>}
      {mine.length > 0 && (
        <ul class="findings">
          {mine.slice(0, 20).map((finding) => (
            <li key={finding.file + finding.what} class={finding.severity}>
              <strong>{finding.file.split("/").pop()}</strong> {finding.what}. <em>{finding.remedy}</em>
            </li>
          ))}
        </ul>
      )}
    </>
  );
}
