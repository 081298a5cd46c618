// Which models there are, and the choice of one.

export function modelName(model: string): string {
  return model === "base" ? "General model" : `Your model (${model})`;
}

/** How many pixels the cells are across that the general model looks for; it estimates that without it. */
export function CellSize(props: { value: string; set: (value: string) => void }) {
  return (
    <label class="field">
      Size of a cell
      <input
        type="number"
        min={4}
        max={500}
        placeholder="auto"
        value={props.value}
        onInput={(event) => props.set(event.currentTarget.value)}
      />
      pixels
    </label>
  );
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
