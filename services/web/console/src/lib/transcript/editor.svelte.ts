/**
 * Corrects the transcript of one job. Edits are shown at once, kept in a queue (and in the browser's storage) until the
 * server has confirmed them, and sent again after a failure.
 */
import { untrack } from 'svelte';
import { ApiError } from '$lib/api/http';
import type { Edit, Result, Revision, Splice } from '$lib/api/types';
import { applyEdit, applySplice, documentOf, inverseOf, type TranscriptDocument } from './document';
import type { EditStore } from './edit_store';
import { applyAll, pendingEdit, rebase, type PendingEdit } from './pending';
import { UndoStack, type Step } from './undo';

export type SaveState = 'saved' | 'saving' | 'offline' | 'conflict';

/** What the editor needs of the server. */
export interface Server {
  read(): Promise<Result>;
  save(revision: number, edits: Edit[]): Promise<{ revision: Revision; splices: Splice[] }>;
  restore(newest: number, revision: number): Promise<{ revision: Revision }>;
}

const SAVE_DELAY_MS = 300;
const RETRY_DELAYS_MS = [1000, 2000, 5000, 10_000, 30_000];
const MAX_BATCH = 100;

export class Editor {
  /** The transcript with all edits, confirmed or not. */
  view = $state.raw<TranscriptDocument>({ utterances: [], speakers: [] });
  revision = $state(0);
  pending = $state.raw<readonly PendingEdit[]>([]);
  state = $state<SaveState>('saved');
  /** Edits that wait for a decision, because somebody else has made a newer revision. */
  kept = $state.raw<readonly PendingEdit[]>([]);
  /** Edits that could not be saved, with the server's reason if it gave one. */
  refused = $state.raw<readonly { edit: PendingEdit; message: string }[]>([]);
  /** Whether the browser keeps the pending edits too. */
  stored = $state(true);
  history = $state.raw(new UndoStack());

  private confirmed: TranscriptDocument = this.view;
  private lastId = 0;
  private failures = 0;
  private batchLimit = MAX_BATCH;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private sending: Promise<void> | null = null;

  constructor(
    private readonly server: Server,
    private readonly store: EditStore,
  ) {}

  readonly canUndo = $derived(this.history.done.at(-1)?.inverse != null && this.state !== 'conflict');
  readonly canRedo = $derived(this.history.undone.length > 0 && this.state !== 'conflict');

  /** Starts with the newest revision, and with edits that an earlier page could not save. */
  async start(result: Result): Promise<void> {
    this.load(result);
    this.history = new UndoStack();
    for (const { revision, edits } of await this.store.adopt()) {
      const own = edits.map((one) => ({ ...one, id: this.nextId() }));
      const { applicable, refused } = rebase(applyAll(this.confirmed, this.pending), own);
      const asLeft = revision === this.revision && !refused.length && !this.kept.length;
      if (asLeft) this.pending = [...this.pending, ...applicable];
      else this.kept = [...this.kept, ...applicable, ...refused];
    }
    this.view = applyAll(this.confirmed, this.pending);
    if (this.kept.length) this.state = 'conflict';
    this.persist();
    if (this.pending.length && !this.kept.length) this.saveSoon(0);
  }

  /** Makes edits, each of the document that the ones before leave. While a conflict is open they are set aside. */
  apply(edits: Edit[]): void {
    if (!edits.length) return;
    if (this.state === 'conflict') {
      const aside = edits.map((edit) => ({ edit: { id: this.nextId(), edit, before: [] }, message: '' }));
      this.refused = [...this.refused, ...aside];
    } else this.history = this.history.push(this.enqueue(edits));
  }

  async undo(): Promise<void> {
    const step = this.history.done.at(-1);
    if (!step?.inverse || !this.canUndo) return;
    if ('edits' in step.inverse) this.enqueue(step.inverse.edits);
    else await this.restoreNow(step.inverse.restore);
    this.history = this.history.undo();
  }

  async redo(): Promise<void> {
    const step = this.history.undone.at(-1);
    if (!step || !this.canRedo) return;
    if ('edits' in step.forward) this.history = this.history.redo(this.enqueue(step.forward.edits));
    else {
      await this.restoreNow(step.forward.restore);
      this.history = this.history.redo(step);
    }
  }

  /** Makes a revision with the content of an older one. Throws an ApiError if the server cannot be reached. */
  async restore(revision: number): Promise<void> {
    const before = await this.restoreNow(revision);
    this.history = this.history.push({ forward: { restore: revision }, inverse: { restore: before }, pendingIds: [] });
  }

  /** Sends what is pending now, and waits for the answer. */
  async flush(): Promise<void> {
    clearTimeout(this.timer);
    await (this.sending ?? Promise.resolve());
    if (this.pending.length) await this.send();
  }

  /** Applies the edits that were kept after somebody else's revision. Those whose passage changed are refused. */
  applyKept(): void {
    const { applicable, refused } = rebase(this.confirmed, this.kept);
    this.refused = [...this.refused, ...refused.map((edit) => ({ edit, message: '' }))];
    this.kept = [];
    this.state = 'saved';
    if (applicable.length) this.apply(applicable.map(({ edit }) => edit));
    else this.persist();
  }

  discardKept(): void {
    this.kept = [];
    this.state = 'saved';
    this.persist();
  }

  dismissRefused(): void {
    this.refused = [];
  }

  /** Ends the work on this transcript. Edits that are pending stay in the browser's storage. */
  close(): void {
    clearTimeout(this.timer);
    this.store.close();
  }

  private async restoreNow(revision: number): Promise<number> {
    await this.flush();
    if (this.pending.length) throw new ApiError(0, 'NO_CONNECTION', 'The edits before are not saved yet.');
    const before = this.revision;
    try {
      await this.server.restore(before, revision);
    } finally {
      this.load(await this.server.read()); // also after a refusal: somebody else's revision is shown then
    }
    return before;
  }

  private enqueue(edits: Edit[]): Step {
    const inverse = inverseOf(this.view, edits);
    const added = edits.map((edit) => {
      const one = pendingEdit(this.nextId(), this.view, edit);
      this.view = applyEdit(this.view, edit);
      return one;
    });
    this.pending = [...this.pending, ...added];
    this.persist();
    this.saveSoon(SAVE_DELAY_MS);
    return { forward: { edits }, inverse: inverse && { edits: inverse }, pendingIds: added.map(({ id }) => id) };
  }

  private saveSoon(delay: number): void {
    if (this.state !== 'offline') this.state = 'saving';
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.flush(), delay);
  }

  private send(): Promise<void> {
    this.sending ??= this.sendBatches().finally(() => (this.sending = null));
    return this.sending;
  }

  private async sendBatches(): Promise<void> {
    this.state = 'saving';
    while (this.pending.length) {
      const batch = this.nextBatch();
      try {
        const { revision, splices } = await this.server.save(this.revision, batch.map(({ edit }) => edit));
        this.confirm(batch, revision.number, splices);
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        if (!(await this.recover(error, batch))) return;
      }
    }
    this.state = this.kept.length ? 'conflict' : 'saved';
  }

  /** The edits for one revision. A new name gets its own: merging is undone by restoring the revision before. */
  private nextBatch(): readonly PendingEdit[] {
    const firstName = this.pending.findIndex(({ edit }) => edit.type === 'rename_speaker');
    const limit = firstName < 0 ? this.batchLimit : Math.max(1, firstName);
    return this.pending.slice(0, Math.min(limit, this.batchLimit));
  }

  private confirm(batch: readonly PendingEdit[], revision: number, splices: Splice[]): void {
    for (const { id } of batch) this.history = this.history.confirmed(id, this.revision);
    this.failures = 0;
    this.revision = revision;
    this.confirmed = splices.reduce(applySplice, batch.reduce(renameOnly, this.confirmed));
    this.pending = this.pending.slice(batch.length);
    this.show(applyAll(this.confirmed, this.pending));
    this.persist();
  }

  /** Handles a failed save. Returns whether to go on with the next batch. */
  private async recover(error: ApiError, batch: readonly PendingEdit[]): Promise<boolean> {
    if (error.status === 412) return this.meetConflict();
    if (error.temporary || error.status === 401) return this.retryLater(error);
    if (batch.length > 1) {
      this.batchLimit = 1; // finds the edit that the server refuses
      return true;
    }
    this.refused = [...this.refused, ...batch.map((edit) => ({ edit, message: error.message }))];
    const rest = rebase(this.confirmed, this.pending.slice(1));
    this.refused = [...this.refused, ...rest.refused.map((edit) => ({ edit, message: '' }))];
    this.pending = rest.applicable;
    this.history = new UndoStack();
    this.show(applyAll(this.confirmed, this.pending));
    this.persist();
    return true;
  }

  /** Waits before the next try. After an expired session there is none: the stored edits are taken over later. */
  private retryLater(error: ApiError): false {
    this.state = 'offline';
    if (error.status === 401) return false;
    const delay = RETRY_DELAYS_MS[Math.min(this.failures, RETRY_DELAYS_MS.length - 1)] ?? 0;
    this.failures += 1;
    this.timer = setTimeout(() => void this.flush(), Math.max(delay, 1000 * (error.retryAfterSeconds ?? 0)));
    return false;
  }

  /** Loads the newest revision after somebody else's edit, and keeps the pending edits for a decision. */
  private async meetConflict(): Promise<boolean> {
    let newest: Result;
    try {
      newest = await this.server.read();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      return this.retryLater(error);
    }
    const waiting = this.pending;
    this.load(newest);
    this.history = new UndoStack();
    const { applicable, refused } = rebase(this.confirmed, waiting);
    this.kept = [...applicable, ...refused];
    this.persist();
    return true;
  }

  private load(result: Result): void {
    this.confirmed = documentOf(result);
    this.revision = result.revision;
    this.pending = [];
    this.show(this.confirmed);
  }

  /** Shows a document. Where it has as many utterances as before, each keeps its key, and so its element. */
  private show(next: TranscriptDocument): void {
    const shown = untrack(() => this.view.utterances);
    const utterances =
      shown.length === next.utterances.length
        ? next.utterances.map((one, index) => ({ ...one, key: shown[index]?.key ?? one.key }))
        : next.utterances;
    this.view = { ...next, utterances };
  }

  private persist(): void {
    this.stored = this.store.save({ revision: this.revision, edits: [...this.kept, ...this.pending] });
  }

  private nextId(): number {
    this.lastId += 1;
    return this.lastId;
  }
}

/** Names of speakers are not in the answer's splices, so they are changed here. Utterances come from the server. */
const renameOnly = (document: TranscriptDocument, { edit }: PendingEdit): TranscriptDocument =>
  edit.type === 'rename_speaker' ? applyEdit(document, edit) : document;
