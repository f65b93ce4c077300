/** Server-sent events about jobs. After a lost connection the browser reconnects, and resumes with `Last-Event-ID`. */
import { query } from './http';
import type { Job, Segment } from './types';

const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 30_000;

export interface JobWatcher {
  job(job: Job): void;
  segment?(segment: Segment): void;
  gone?(id: string): void;
  end?(): void;
  /** The server refused to resume, for example while it restarts. All events will come again from the first one. */
  restarted?(): void;
}

/** Watches one job with its text as it comes, until the job's end. Returns a function that stops watching. */
export function watchJob(id: string, watcher: JobWatcher): () => void {
  return watch(`/api/jobs/${encodeURIComponent(id)}/events`, watcher);
}

/** Watches up to 100 jobs over one connection. Returns a function that stops watching. */
export function watchJobs(ids: string[], watcher: JobWatcher): () => void {
  return watch(`/api/events${query({ job: ids })}`, watcher);
}

function watch(url: string, watcher: JobWatcher): () => void {
  let source: EventSource;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let pause = FIRST_PAUSE_MS;

  function open(): void {
    source = new EventSource(url);
    const on = (type: string, handle: (data: string) => void): void =>
      source.addEventListener(type, (event) => handle((event as MessageEvent<string>).data));
    source.addEventListener('open', () => (pause = FIRST_PAUSE_MS));
    on('job', (data) => watcher.job(JSON.parse(data) as Job));
    on('segment', (data) => watcher.segment?.(JSON.parse(data) as Segment));
    on('gone', (data) => watcher.gone?.((JSON.parse(data) as { id: string }).id));
    on('end', () => {
      source.close();
      watcher.end?.();
    });
    source.addEventListener('error', () => {
      // Browsers reconnect after a broken connection, but never after an answer with an error.
      if (source.readyState !== EventSource.CLOSED) return;
      timer = setTimeout(() => {
        watcher.restarted?.();
        open();
      }, pause);
      pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
    });
  }

  open();
  return () => {
    clearTimeout(timer);
    source.close();
  };
}
