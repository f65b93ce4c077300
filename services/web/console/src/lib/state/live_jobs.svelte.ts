/** Jobs that follow what happens on the server: one connection for all that are unfinished. */
import { watchJobs } from '$lib/api/events';
import type { Job } from '$lib/api/types';

/** The most jobs that the server lets one connection watch. */
const MAX_WATCHED = 100;

export const isFinished = (job: Job): boolean => job.state !== 'queued' && job.state !== 'running';

export class LiveJobs {
  jobs = $state.raw<readonly Job[]>([]);
  /** Ids of jobs that were deleted, by anybody. */
  gone = $state.raw<ReadonlySet<string>>(new Set());
  private watched = '';
  private stopWatching: () => void = () => undefined;

  /** Shows these jobs in place of those from before. */
  show(jobs: readonly Job[]): void {
    this.jobs = jobs;
    this.gone = new Set();
    this.watch();
  }

  /** Puts a job in the place of its older version; a new one comes first. */
  put(job: Job): void {
    const known = this.jobs.some(({ id }) => id === job.id);
    this.jobs = known ? this.jobs.map((one) => (one.id === job.id ? job : one)) : [job, ...this.jobs];
    this.watch();
  }

  remove(id: string): void {
    this.jobs = this.jobs.filter((job) => job.id !== id);
    this.watch();
  }

  stop(): void {
    this.stopWatching();
    this.watched = '';
  }

  private watch(): void {
    const ids = this.jobs.filter((job) => !isFinished(job) && !this.gone.has(job.id)).map(({ id }) => id);
    const wanted = ids.slice(0, MAX_WATCHED);
    const key = wanted.join(' ');
    if (key === this.watched) return;
    this.stopWatching();
    this.stopWatching = () => undefined;
    this.watched = key;
    if (!wanted.length) return;
    this.stopWatching = watchJobs(wanted, {
      job: (job) => this.put(job),
      gone: (id) => {
        this.gone = new Set([...this.gone, id]);
        this.watch();
      },
    });
  }
}
