// The mask of the open image: strokes are sent one after another, each on the state that the last one left.

import { api, Refusal, type Edit, type ImageInfo, type Mask } from "./api";

export type Saving = "saved" | "saving" | "offline";

const RETRY = 1500; // ms

export class MaskSync {
  private queue: Edit[] = [];
  private busy = false;

  constructor(
    readonly info: ImageInfo,
    public state: Mask,
    private readonly told: (state: Mask, saving: Saving) => void,
    private readonly conflict: (sentence: string) => void,
  ) {}

  get idle(): boolean {
    return !this.busy && this.queue.length === 0;
  }

  send(edit: Edit): void {
    this.queue.push(edit);
    void this.work();
  }

  private async work(): Promise<void> {
    if (this.busy) return;
    this.busy = true;
    let lost = false;
    while (this.queue.length) {
      const edit = this.queue[0]!;
      this.told(this.state, lost ? "offline" : "saving");
      try {
        if (lost) this.state = await api.image(this.info.name);
        lost = false;
        this.state = await api.edit(this.info.name, edit, this.state.revision);
        this.queue.shift();
      } catch (error) {
        if (error instanceof Refusal) {
          this.queue = [];
          this.state = await api.image(this.info.name).catch(() => this.state);
          this.conflict(
            error.status === 409
              ? "This mask was changed elsewhere, in another tab or by work that has ended. It is shown as it is now; please draw the last stroke again."
              : error.message,
          );
        } else {
          lost = true;
          this.told(this.state, "offline");
          await new Promise((resolve) => setTimeout(resolve, RETRY));
        }
      }
    }
    this.busy = false;
    this.told(this.state, "saved");
  }
}
