/** Recordings that were submitted from this page: their uploads, and then their jobs. They go on while pages change. */
import { ApiError } from '$lib/api/http';
import { cancelJob, submitJob, type Submitted } from '$lib/api/jobs';
import type { Digest, Job, JobOptions, Priority } from '$lib/api/types';
import { digestOf, isStored, uploadRecording, type RunningUpload } from '$lib/api/uploads';
import { LiveJobs } from './live_jobs.svelte';
import { describe } from './messages.svelte';

const UPLOADS_AT_ONCE = 2;
/** Nobody waits in front of the page for more files than this. */
const MOST_INTERACTIVE = 3;
/** The most characters that the server takes as a name. Its end tells the type of the file. */
const MAX_NAME = 255;

export type Phase = 'waiting' | 'hashing' | 'uploading' | 'submitting' | 'submitted' | 'failed' | 'cancelled';

export class Submission {
  phase = $state<Phase>('waiting');
  /** The fraction of the file that was sent. */
  sent = $state(0);
  jobId = $state<string | null>(null);
  error = $state('');
  private readonly request: Submitted;
  private upload: RunningUpload | null = null;

  constructor(
    readonly id: number,
    readonly file: File,
    options: JobOptions,
    priority: Priority,
  ) {
    // crypto.randomUUID exists only in pages that were opened by HTTPS or on the same machine.
    const random = crypto.getRandomValues(new Uint32Array(4));
    this.request = {
      name: file.name.slice(-MAX_NAME),
      options,
      priority,
      request_id: Array.from(random, (part) => part.toString(16).padStart(8, '0')).join(''),
    };
  }

  get isDone(): boolean {
    return this.phase === 'submitted' || this.phase === 'failed' || this.phase === 'cancelled';
  }

  /** Offers the digest of the file, uploads the file if the server does not have it, and submits the job. */
  async run(): Promise<Job | null> {
    this.phase = 'hashing';
    const digest = await digestOf(this.file);
    const job = digest && (await this.offer(digest));
    if (job) return this.submitted(job);
    if (this.isDone) return null;
    this.phase = 'uploading';
    this.upload = uploadRecording(this.file, (bytes) => (this.sent = bytes / this.file.size));
    const recording = await this.upload.done;
    this.upload = null;
    if (this.isDone) return null;
    this.phase = 'submitting';
    return this.submitted(await submitJob(recording, this.request));
  }

  /** Cancels the upload, or the job. */
  async cancel(): Promise<Job | null> {
    if (this.jobId) return cancelJob(this.jobId);
    this.phase = 'cancelled';
    await this.upload?.abort();
    return null;
  }

  fail(error: unknown): void {
    if (this.phase === 'cancelled') return;
    this.error = describe(error);
    this.phase = 'failed';
  }

  private async submitted(job: Job): Promise<Job> {
    if (this.phase === 'cancelled') return cancelJob(job.id);
    this.jobId = job.id;
    this.phase = 'submitted';
    return job;
  }

  /** Submits the job if the server has the recording, which it may delete at any time. */
  private async offer(digest: Digest): Promise<Job | null> {
    if (!(await isStored(digest)) || this.isDone) return null;
    try {
      return await submitJob(digest, this.request);
    } catch (error) {
      if (error instanceof ApiError && error.reason === 'RECORDING_MISSING') return null;
      throw error;
    }
  }
}

class Submissions {
  list = $state.raw<readonly Submission[]>([]);
  readonly jobs = new LiveJobs();
  private running = 0;
  private lastId = 0;

  add(files: readonly File[], options: JobOptions): void {
    const priority = files.length > MOST_INTERACTIVE ? 'batch' : 'interactive';
    const added = files.map((file) => {
      this.lastId += 1;
      return new Submission(this.lastId, file, options, priority);
    });
    this.list = [...added, ...this.list];
    this.startNext();
  }

  job(submission: Submission): Job | undefined {
    return this.jobs.jobs.find((job) => job.id === submission.jobId);
  }

  async cancel(submission: Submission): Promise<void> {
    const job = await submission.cancel();
    if (job) this.jobs.put(job);
  }

  retry(submission: Submission): void {
    submission.phase = 'waiting';
    submission.error = '';
    this.startNext();
  }

  /** Whether closing the page would stop an upload. */
  get uploading(): boolean {
    return this.list.some((submission) => !submission.isDone);
  }

  private startNext(): void {
    // The list has the newest first; the oldest is next.
    const next = this.list.findLast(({ phase }) => phase === 'waiting');
    if (!next || this.running >= UPLOADS_AT_ONCE) return;
    this.running += 1;
    void this.run(next);
    this.startNext();
  }

  private async run(submission: Submission): Promise<void> {
    try {
      const job = await submission.run();
      if (job) this.jobs.put(job);
    } catch (error) {
      submission.fail(error);
    } finally {
      this.running -= 1;
      this.startNext();
    }
  }
}

export const submissions = new Submissions();
