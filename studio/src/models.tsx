// Which models there are, and the choice of one.

export function modelName(model: string): string {
  return model === "base" ? "General model" : `Your model (${model})`;
}

export function ModelChoice(props: {
  label: string;
  model: string;
  models: string[];
  choose: (model: string) => void;
}) {
  return (
    <label class="field">
      {props.label}
      <select value={props.model} onChange={(event) => props.choose(event.currentTarget.value)}>
        {props.models.map((model) => (
          <option key={model} value={model}>
            {modelName(model)}
          </option>
        ))}
      </select>
    </label>
  );
}
