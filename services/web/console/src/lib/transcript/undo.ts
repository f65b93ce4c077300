/** What a person did, for undo and redo. */
import type { Edit } from '$lib/api/types';

/** Edits, or going back to the content of a revision. */
export type Change = { edits: Edit[] } | { restore: number };

export interface Step {
  forward: Change;
  /** Null while it is not known: merged speakers are separated by restoring the revision from before, once it is known. */
  inverse: Change | null;
  /** The pending edits that the step made: the last ones that were queued for it. */
  pendingIds: number[];
}

/** Steps that can be undone and redone. A new step forgets those that were undone. */
export class UndoStack {
  constructor(
    readonly done: readonly Step[] = [],
    readonly undone: readonly Step[] = [],
  ) {}

  push(step: Step): UndoStack {
    return new UndoStack([...this.done, step], []);
  }

  /** The stack after the last step was undone. */
  undo(): UndoStack {
    const last = this.done.at(-1);
    return last ? new UndoStack(this.done.slice(0, -1), [...this.undone, last]) : this;
  }

  /** The stack after the step that was undone last was done again, as `step`. */
  redo(step: Step): UndoStack {
    return this.undone.length ? new UndoStack([...this.done, step], this.undone.slice(0, -1)) : this;
  }

  /** The stack after a step that contains the pending edit `id` became revision `before + 1`. */
  confirmed(id: number, before: number): UndoStack {
    const known = (step: Step): Step =>
      step.inverse === null && step.pendingIds.includes(id) ? { ...step, inverse: { restore: before } } : step;
    return new UndoStack(this.done.map(known), this.undone);
  }
}
