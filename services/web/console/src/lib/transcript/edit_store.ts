/**
 * Keeps edits in the browser's storage until the server has confirmed them, so that a closed page, a crash or an expired
 * session loses none. Each open page has an entry of its own; the entries of pages that are gone are taken over.
 */
import type { PendingEdit } from './pending';

export interface StoredEdits {
  /** The revision that the edits are to be applied to. */
  revision: number;
  edits: PendingEdit[];
}

const PREFIX = 'careca.edits.';

/** The edits of one person in one transcript, which `owner` names. */
export class EditStore {
  private readonly key: string;

  constructor(
    private readonly owner: string,
    private readonly storage: Storage = localStorage,
    private readonly locks: LockManager | undefined = globalThis.navigator?.locks,
  ) {
    this.key = `${PREFIX}${owner}.${Math.random().toString(36).slice(2)}`;
    // The lock is held as long as the page is open. It tells other pages that this entry has an owner.
    void this.locks?.request(this.key, () => new Promise<void>((resolve) => (this.release = resolve)));
  }

  private release: () => void = () => undefined;

  /** Keeps the edits in place of those from before. Returns whether the browser has stored them. */
  save(stored: StoredEdits): boolean {
    try {
      if (stored.edits.length) this.storage.setItem(this.key, JSON.stringify(stored));
      else this.storage.removeItem(this.key);
      return true;
    } catch {
      return false; // the storage is full or switched off; the page says so, and still has the edits
    }
  }

  /** Takes over the edits of pages that are gone, oldest revision first. */
  async adopt(): Promise<StoredEdits[]> {
    const held = new Set((await this.locks?.query())?.held?.map((lock) => lock.name));
    const found: StoredEdits[] = [];
    for (const key of this.keys()) {
      if (held.has(key)) continue;
      const stored = parse(this.storage.getItem(key));
      if (stored) found.push(stored);
      this.storage.removeItem(key);
    }
    return found.sort((one, other) => one.revision - other.revision);
  }

  /** Gives up the entry: another page may take it over. */
  close(): void {
    this.release();
  }

  private keys(): string[] {
    const all = Array.from({ length: this.storage.length }, (_, index) => this.storage.key(index) ?? '');
    return all.filter((key) => key.startsWith(`${PREFIX}${this.owner}.`) && key !== this.key);
  }
}

function parse(text: string | null): StoredEdits | null {
  try {
    const stored = JSON.parse(text ?? 'null') as StoredEdits | null;
    return stored && Array.isArray(stored.edits) && stored.edits.length ? stored : null;
  } catch {
    return null; // not written by this version of the page
  }
}
