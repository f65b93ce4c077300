/** Short messages that go away by themselves, and errors as sentences for people. */
import { ApiError } from '$lib/api/http';
import { i18n } from '$lib/i18n/index.svelte';

const SHOWN_MS = 6000;
/** What browsers say if a file was moved, changed or locked after it had been chosen. */
const UNREADABLE = new Set(['NotReadableError', 'NotFoundError', 'SecurityError']);

export interface Message {
  id: number;
  text: string;
  kind: 'info' | 'error';
}

class Messages {
  shown = $state.raw<readonly Message[]>([]);
  private lastId = 0;

  info(text: string): void {
    this.show(text, 'info');
  }

  /** Shows what went wrong. Something that is not an answer of the server is a mistake in this page: it is thrown on. */
  error(error: unknown): void {
    this.show(describe(error), 'error');
  }

  dismiss(id: number): void {
    this.shown = this.shown.filter((message) => message.id !== id);
  }

  private show(text: string, kind: Message['kind']): void {
    this.lastId += 1;
    const id = this.lastId;
    this.shown = [...this.shown, { id, text, kind }];
    setTimeout(() => this.dismiss(id), kind === 'error' ? 2 * SHOWN_MS : SHOWN_MS);
  }
}

export const messages = new Messages();

/** An error as a sentence. Texts of the server are in English; common cases are in the console's language. */
export function describe(error: unknown): string {
  const { errors } = i18n.t;
  if (error instanceof DOMException && UNREADABLE.has(error.name)) return errors.unreadable;
  if (!(error instanceof ApiError)) throw error;
  if (error.status === 0) return errors.noConnection;
  if (error.status === 404) return errors.notFound;
  if (error.status === 429 || error.status === 503) return errors.busy(error.retryAfterSeconds);
  if (error.status === 403 && error.reason !== 'CROSS_SITE_REQUEST') return errors.forbidden;
  return errors.details(error.message, error.requestId);
}

/** Runs an action of a person, and shows its error. */
export async function attempt(action: () => Promise<void>): Promise<void> {
  try {
    await action();
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') return;
    messages.error(error);
  }
}
