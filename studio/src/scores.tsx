// How what a model finds agrees with the finished masks, image by image.

import { Scale } from "lucide-preact";
import { useEffect, useState } from "preact/hooks";
import type { Job, State } from "./api";
import { ModelChoice, modelName } from "./models";
import { outcomes, type Mean, type Scores } from "./outcomes";
import { Sheet, Since, type PanelProps } from "./panel";
import { isBusy, last, Progress } from "./work";

export function ScoreCard(props: {
  state: State;
  act: PanelProps["act"];
  models: string[];
  model: string;
  show: () => void;
}) {
  const { state, act, models } = props;
  const [model, setModel] = useState(props.model);
  useEffect(() => setModel(props.model), [props.model]);
  const job = last(state, "score");
  if (!state.images.some(({ status }) => status === "done")) {
    return <p class="quiet">Finish an image first: what a model finds in it is compared with your mask.</p>;
  }
  return (
    <>
      <ModelChoice label="Of" model={model} models={models} choose={setModel} />
      <div class="row">
        <button
          disabled={isBusy(job)}
          onClick={() => {
            act(() => outcomes.score(model));
            props.show();
          }}
        >
          <Scale size={16} aria-hidden="true" /> Compare with my masks
        </button>
        {state.jobs.some(({ kind, state: how }) => kind === "score" && how === "done") && (
          <button class="small" onClick={props.show}>
            Show
          </button>
        )}
      </div>
      <Progress job={job} act={act} />
    </>
  );
}

export function ScorePanel({ state, act, look, close }: PanelProps) {
  const job = last(state, "score");
  const done = state.jobs.find(({ kind, state: how }) => kind === "score" && how === "done");
  const model = done?.asked.model ?? job?.asked.model ?? "base";
  return (
    <Sheet name="scores" title={`Scores: ${modelName(model)}`} close={close}>
      {job && job !== done && <Progress job={job} act={act} />}
      {done && <Agreement key={done.number} job={done} state={state} look={look} />}
    </Sheet>
  );
}

function Agreement({ job, state, look }: { job: Job; state: State; look: PanelProps["look"] }) {
  const [scores, setScores] = useState<Scores | null>(null);
  useEffect(() => void outcomes.scores(job.number).then(setScores).catch(() => {}), [job.number]);
  if (!scores) return null;
  const repeated = scores.images.filter(({ as_found }) => as_found).length;
  return (
    <>
      <div class="means">
        {scores.new ? (
          <Value mean={scores.new} what="that it has not learned from" />
        ) : (
          <p class="since">
            It was trained on all of these images. This says how well it repeats them, and nothing about new ones:
            finish an image that it has not seen, and compare again.
          </p>
        )}
        {scores.learned && <Value mean={scores.learned} what="that it was trained on or chosen by, so no test" quiet />}
      </div>
      <div class="row about">
        {repeated > 0 && (
          <p class="since">
            {repeated} of {scores.images.length} masks {repeated === 1 ? "is" : "are"} just as a model found them, which
            flatters that model
          </p>
        )}
        <Since job={job} state={state} />
      </div>
      <div class="cells">
        <table>
          <thead>
            <tr>
              {["Image", "F", "Your cells", "Model drew", "Missed", "Wrong", ""].map((title) => (
                <th key={title} scope="col">
                  {title}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {scores.images.map((image) => (
              <tr key={image.name} title="Open this image" onClick={() => look(image.name)}>
                <th scope="row">
                  <button>{image.name}</button>
                </th>
                <td class="bar">
                  <meter min={0} max={1} value={image.f_score ?? 0} aria-hidden="true" /> {image.f_score?.toFixed(2) ?? "–"}
                </td>
                <td>{image.true}</td>
                <td>{image.found}</td>
                <td>{image.missed}</td>
                <td>{image.wrong}</td>
                <td class="words">
                  {[image.learned && "trained on", image.as_found && "mask as found"].filter(Boolean).join(", ")}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <p class="quiet foot">
        F is 1 where each cell is found and nothing else; a cell counts as found from an overlap (IoU) of{" "}
        {scores.threshold} on. The worst image comes first; a click opens it.
      </p>
    </>
  );
}

function Value({ mean, what, quiet }: { mean: Mean; what: string; quiet?: boolean }) {
  const sure = mean.low !== null && mean.high !== null ? ` [${mean.low.toFixed(2)} to ${mean.high.toFixed(2)}]` : "";
  return (
    <p class={quiet ? "mean quiet" : "mean"}>
      <strong>
        F {mean.value?.toFixed(2) ?? "–"}
        <small>{sure}</small>
      </strong>
      on {mean.images} {mean.images === 1 ? "image" : "images"} {what}
    </p>
  );
}
