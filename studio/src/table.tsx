// The cells of the finished images as a table, and files of them for other programs.

import { Download, FileText, Ruler } from "lucide-preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Job, State } from "./api";
import { fileOf, outcomes, type Row, type Rows } from "./outcomes";
import { Enlarging, Sheet, Since, type PanelProps } from "./panel";
import { isBusy, last, Progress } from "./work";

const FORMATS = { roi: "ImageJ regions", geojson: "QuPath GeoJSON", coco: "COCO JSON" };

export function TablePanel({ state, act, look, close }: PanelProps) {
  const [drafts, setDrafts] = useState(false);
  const [pixel, setPixel] = useState("");
  const job = last(state, "measure");
  const done = state.jobs.find(({ kind, state: how }) => kind === "measure" && how === "done");
  const others = state.images.filter(({ status }) => status === "draft").length;
  const measure = () => act(() => outcomes.measure(drafts, Number(pixel) || null));
  const options = (
    <>
      <label class="field">
        A pixel is
        <input
          type="number"
          min={0}
          step="any"
          placeholder="as stated"
          value={pixel}
          onInput={(event) => setPixel(event.currentTarget.value)}
        />
        µm
      </label>
      {others > 0 && (
        <label class="switch">
          <input type="checkbox" checked={drafts} onChange={() => setDrafts(!drafts)} /> also {others} not finished
        </label>
      )}
      <button disabled={isBusy(job)} onClick={measure}>
        <Ruler size={16} aria-hidden="true" /> {done ? "Measure again" : "Measure"}
      </button>
    </>
  );
  return (
    <Sheet name="table" title="Table of cells" close={close} tools={options}>
      {job && job !== done && <Progress job={job} act={act} />}
      {done && <Cells key={done.number} job={done} state={state} look={look} />}
    </Sheet>
  );
}

function Cells({ job, state, look }: { job: Job; state: State; look: PanelProps["look"] }) {
  const [found, setFound] = useState<Rows | null>(null);
  const [sort, setSort] = useState({ name: "", down: false });
  const [chart, setChart] = useState(false);
  const [chosen, setChosen] = useState("");
  const fetching = useRef(false);
  useEffect(() => {
    let gone = false;
    void outcomes.table(job.number, 0, sort.name, sort.down).then((rows) => !gone && setFound(rows)).catch(() => {});
    return () => {
      gone = true;
    };
  }, [job.number, sort]);
  if (!found) return null;
  const more = (event: { currentTarget: HTMLElement }) => {
    const { scrollTop, clientHeight, scrollHeight } = event.currentTarget;
    if (fetching.current || found.rows.length >= found.total || scrollTop + clientHeight < scrollHeight - 200) return;
    fetching.current = true;
    void outcomes
      .table(job.number, found.rows.length, sort.name, sort.down)
      .then((next) => setFound((now) => (now === found ? { ...next, rows: [...found.rows, ...next.rows] } : now)))
      .finally(() => (fetching.current = false));
  };
  const image = found.columns.findIndex(({ name }) => name === "image");
  const cell = found.columns.findIndex(({ name }) => name === "label");
  const open = (row: Row) => {
    setChosen(`${row[image]} ${row[cell]}`);
    look(String(row[image]), Number(row[cell]));
  };
  return (
    <>
      <div class="row about">
        <span class="quiet">{job.message}</span>
        <Since job={job} state={state} />
        <span class="gap" />
        <a class="button small" href={fileOf(job, "cells.csv")} download>
          <Download size={15} aria-hidden="true" /> CSV
        </a>
        <a class="button small" href={fileOf(job, "cells-summary.csv")} download title="Medians and spread, by group">
          <Download size={15} aria-hidden="true" /> Summary
        </a>
        <button class="small" aria-pressed={chart} onClick={() => setChart(!chart)}>
          {chart ? "Table" : "Figure"}
        </button>
        <a class="button small" target="_blank" rel="noreferrer" href={fileOf(job, "cells.html")}>
          <FileText size={15} aria-hidden="true" /> Report
        </a>
      </div>
      {chart ? (
        <figure class="chart">
          <Enlarging src={fileOf(job, "cells-summary.png")} alt="A few measures, each image as a point" />
        </figure>
      ) : (
        <div class="cells" onScroll={more}>
          <table>
            <thead>
              <tr>
                {found.columns.map(({ name, title, unit }) => {
                  const how = sort.name !== name ? "none" : sort.down ? "descending" : "ascending";
                  return (
                    <th key={name} scope="col" aria-sort={how}>
                      <button onClick={() => setSort({ name, down: sort.name === name ? !sort.down : name !== "image" })}>
                        {title}
                        {how !== "none" && <span aria-hidden="true">{sort.down ? " ▾" : " ▴"}</span>}
                        {unit && <small>{unit}</small>}
                      </button>
                    </th>
                  );
                })}
              </tr>
            </thead>
            <tbody>
              {found.rows.map((row) => {
                const key = `${row[image]} ${row[cell]}`;
                return (
                  <tr key={key} class={key === chosen ? "chosen" : ""} title="Show this cell" onClick={() => open(row)}>
                    {row.map((value, k) =>
                      k === image ? (
                        <th key={k} scope="row">
                          <button>{value}</button>
                        </th>
                      ) : (
                        <td key={k}>{shown(value)}</td>
                      ),
                    )}
                  </tr>
                );
              })}
            </tbody>
          </table>
        </div>
      )}
    </>
  );
}

function shown(value: string | number | null): string {
  if (typeof value !== "number") return value ?? "–";
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4))).replace("-", "−");
}

/** The cells as other programs take them, without the images. */
export function ForOthers({ state, act }: { state: State; act: PanelProps["act"] }) {
  const [format, setFormat] = useState<keyof typeof FORMATS>("roi");
  const job = last(state, "export");
  return (
    <>
      <div class="row">
        <label class="field">
          As
          <select value={format} onChange={(event) => setFormat(event.currentTarget.value as keyof typeof FORMATS)}>
            {Object.entries(FORMATS).map(([name, title]) => (
              <option key={name} value={name}>
                {title}
              </option>
            ))}
          </select>
        </label>
        <button class="small" disabled={isBusy(job)} onClick={() => act(() => outcomes.export(format))}>
          Make
        </button>
      </div>
      <Progress job={job} act={act}>
        {job && (
          <>
            <Since job={job} state={state} />
            <a class="button small" href={fileOf(job, "cells.zip")} download>
              <Download size={15} aria-hidden="true" /> {FORMATS[job.asked.format ?? "roi"]}
            </a>
          </>
        )}
      </Progress>
    </>
  );
}
