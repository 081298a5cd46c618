// What lies below the image when results are looked at: a table of cells, scores, or simulated masks.

import { X } from "lucide-preact";
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Job, State } from "./api";
import { outcomes, type Panel } from "./outcomes";
import { ScorePanel } from "./scores";
import { SimulatePanel } from "./simulate";
import { TablePanel } from "./table";

export interface PanelProps {
  state: State;
  act: (what: () => Promise<unknown>) => void;
  /** open an image, at one of its cells if a number is given */
  look: (image: string, cell?: number) => void;
  close: () => void;
}

export function Panels({ shown, ...props }: PanelProps & { shown: Panel | null }) {
  if (shown === "table") return <TablePanel {...props} />;
  if (shown === "scores") return <ScorePanel {...props} />;
  if (shown === "simulate") return <SimulatePanel {...props} />;
  return null;
}

export function Sheet(props: { name: Panel; title: string; close: () => void; tools?: ComponentChildren; children: ComponentChildren }) {
  const place = useRef<HTMLElement>(null);
  useEffect(() => place.current?.scrollIntoView({ block: "nearest" }), []);
  return (
    <section ref={place} class={`sheet ${props.name}`} aria-label={props.title}>
      <header>
        <h2>{props.title}</h2>
        {props.tools}
        <span class="gap" />
        <button class="icon" aria-label={`Close ${props.title.toLowerCase()}`} onClick={props.close}>
          <X size={17} />
        </button>
      </header>
      {props.children}
    </section>
  );
}

/** A picture that a click shows as large as the window. */
export function Enlarging(props: { src: string; alt: string }) {
  const [large, setLarge] = useState(false);
  return (
    <>
      <button class="enlarging" onClick={() => setLarge(true)} aria-label="Show the picture larger">
        <img src={props.src} alt={props.alt} />
      </button>
      {large && (
        <div class="large" role="dialog" aria-label="Picture" onClick={() => setLarge(false)}>
          <img src={props.src} alt="" />
        </div>
      )}
    </>
  );
}

/** Say that masks have changed since something was made of them. */
export function Since({ job, state }: { job: Job; state: State }) {
  const [since, setSince] = useState({ changed: false, later: 0 });
  const now = state.images.map(({ status, revision }) => `${status} ${revision}`).join();
  useEffect(() => void outcomes.changed(job.number).then(setSince).catch(() => {}), [job.number, now]);
  const { changed, later } = since;
  if (!changed && !later) return null;
  const more = later === 1 ? "1 more image was finished" : `${later} more images were finished`;
  return <p class="since">{[changed && "masks have changed", later > 0 && more].filter(Boolean).join(" and ")} since</p>;
}
