import { query, request, send } from './http';
import type { Digest, Job, JobOptions, JobState, Priority } from './types';

export interface JobFilter {
  states?: JobState[];
  text?: string;
  allSubmitters?: boolean;
  pageSize?: number;
  pageToken?: string;
}

export interface JobPage {
  jobs: Job[];
  next_page_token: string;
}

const path = (id: string): string => `/api/jobs/${encodeURIComponent(id)}`;

/** The page where people see a job. */
export const jobPagePath = (id: string): string => `/jobs/${encodeURIComponent(id)}`;

export interface Submitted {
  name: string;
  options: JobOptions;
  priority: Priority;
  /** Makes it safe to send the request again: the same id gives the same job. */
  request_id: string;
}

export const submitJob = (recording: Digest, submitted: Submitted): Promise<Job> =>
  request('/api/jobs', { method: 'POST', body: { recording, ...submitted } });

export const listJobs = (filter: JobFilter, signal?: AbortSignal): Promise<JobPage> =>
  request(
    `/api/jobs${query({
      state: filter.states,
      query: filter.text,
      all_submitters: filter.allSubmitters,
      page_size: filter.pageSize,
      page_token: filter.pageToken,
    })}`,
    { signal },
  );

export const readJob = (id: string, signal?: AbortSignal): Promise<Job> => request(path(id), { signal });

export const cancelJob = (id: string): Promise<Job> => request(`${path(id)}/cancel`, { method: 'POST' });

export const retryJob = (id: string): Promise<Job> => request(`${path(id)}/retry`, { method: 'POST' });

export async function deleteJob(id: string): Promise<void> {
  await send(path(id), { method: 'DELETE' });
}

export const clearHistory = (allSubmitters: boolean): Promise<{ removed_jobs: number }> =>
  request(`/api/jobs${query({ all_submitters: allSubmitters })}`, { method: 'DELETE' });
