import { request, send } from './http';
import type { Voice } from './types';

export const listVoices = (): Promise<{ voices: Voice[] }> => request('/api/voices');

/** Keeps the voice of a speaker (label or name) in a job's result under a person's name. */
export const saveVoice = (name: string, jobId: string, speaker: string): Promise<unknown> =>
  request('/api/voices', { method: 'POST', body: { name, job_id: jobId, speaker } });

export async function deleteVoice(name: string): Promise<void> {
  await send(`/api/voices/${encodeURIComponent(name)}`, { method: 'DELETE' });
}
