// What is edited on the server: edits are sent one after another, each on the state that the last one left.

import { api, Refusal, type Edit, type ImageInfo, type Mask } from "./api";

export type Saving = "saved" | "saving" | "offline";

const RETRY = 1500; // ms

export interface Edited<E, S> {
  look: () => Promise<S>;
  edit: (edit: E, revision: number) => Promise<S>;
  told: (state: S, saving: Saving) => void;
  /** an edit was refused; it and those after it are forgotten */
  refused: (sentence: string, outdated: boolean) => void;
}

export class EditSync<E, S extends { revision: number }> {
  /** how many of them, shown or not, have edits that are not confirmed */
  static working = 0;

  private queue: E[] = [];
  private busy = false;

  constructor(
    public state: S,
    private readonly server: Edited<E, S>,
  ) {}

  get idle(): boolean {
    return !this.busy && this.queue.length === 0;
  }

  send(edit: E): void {
    this.queue.push(edit);
    void this.work();
  }

  private async work(): Promise<void> {
    if (this.busy) return;
    this.busy = true;
    EditSync.working++;
    let lost = false;
    const { look, edit, told, refused } = this.server;
    while (this.queue.length) {
      const next = this.queue[0]!;
      told(this.state, lost ? "offline" : "saving");
      try {
        if (lost) this.state = await look();
        lost = false;
        this.state = await edit(next, this.state.revision);
        this.queue.shift();
      } catch (error) {
        if (error instanceof Refusal) {
          this.queue = [];
          this.state = await look().catch(() => this.state);
          refused(error.message, error.status === 409);
        } else {
          lost = true;
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
      refused: (sentence, outdated) =>
        conflict(
          outdated
            ? "This mask was changed elsewhere, in another tab or by work that has ended. It is shown as it is now; please draw the last stroke again."
            : sentence,
        ),
    });
  }
}
