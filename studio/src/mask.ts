// What is edited on the server: edits are sent one after another, each on the state that the last one left.

import { api, Refusal, type Edit, type ImageInfo, type Mask } from "./api";

export type Saving = "saved" | "saving" | "offline";

const RETRY = 1500; // ms

export interface Edited<E, S> {
  look: () => Promise<S>;
  edit: (edit: E, revision: number) => Promise<S>;
  told: (state: S, saving: Saving) => void;
  /** an edit was refused; it and those that were made before this was known, `count` in all, are forgotten */
  refused: (sentence: string, outdated: boolean, count: number) => void;
}

export class EditSync<E, S extends { revision: number }> {
  /** how many of them, shown or not, have edits that are not confirmed */
  static working = 0;

  private queue: E[] = [];
  private busy = false;
  private lost = false; // whether the state has to be asked for anew

  constructor(
    public state: S,
    private readonly server: Edited<E, S>,
  ) {}

  get idle(): boolean {
    return !this.busy && this.queue.length === 0;
  }

  /** Edits that are not confirmed, in order. */
  get waiting(): readonly E[] {
    return this.queue;
  }

  send(edit: E): void {
    this.queue.push(edit);
    void this.work();
  }

  private async work(): Promise<void> {
    if (this.busy) return;
    this.busy = true;
    EditSync.working++;
    const { look, edit, told, refused } = this.server;
    while (this.queue.length) {
      const next = this.queue[0]!;
      told(this.state, this.lost ? "offline" : "saving");
      try {
        if (this.lost) this.state = await look();
        this.lost = false;
        this.state = await edit(next, this.state.revision);
        this.queue.shift();
      } catch (error) {
        if (error instanceof Refusal) {
          this.lost = true;
          await look().then((state) => {
            this.state = state;
            this.lost = false;
          }, () => {});
          refused(error.message, error.status === 409, this.queue.splice(0).length);
        } else {
          this.lost = true;
          told(this.state, "offline");
          await new Promise((resolve) => setTimeout(resolve, RETRY));
        }
      }
    }
    this.busy = false;
    EditSync.working--;
    told(this.state, "saved");
  }
}

/** The mask of the open image. */
export class MaskSync extends EditSync<Edit, Mask> {
  /** how many strokes are not confirmed */
  get strokes(): number {
    return this.waiting.filter(({ points }) => points).length;
  }

  constructor(
    readonly info: ImageInfo,
    state: Mask,
    told: (state: Mask, saving: Saving) => void,
    conflict: (sentence: string) => void,
  ) {
    super(state, {
      look: () => api.image(info.name),
      edit: (edit, revision) => api.edit(info.name, edit, revision),
      told,
      refused: (sentence, outdated, count) =>
        conflict(
          (outdated
            ? "This mask was changed elsewhere, in another tab or by work that has ended. It is shown as it is now."
            : sentence.replace(/\.?$/, ".")) +
            (count > 1
              ? ` The last ${count} strokes were not taken; please draw them again.`
              : " The last stroke was not taken; please draw it again."),
        ),
    });
  }
}
