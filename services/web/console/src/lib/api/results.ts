import { query, request, send } from './http';
import type { Edit, Result, Revision, Splice, Waveform } from './types';

const path = (id: string): string => `/api/jobs/${encodeURIComponent(id)}`;
const ifMatch = (revision: number): Record<string, string> => ({ 'If-Match': `"${revision}"` });

/** The path of a result in one format, for a link that downloads it. */
export const exportPath = (id: string, format: string, revision?: number): string =>
  `${path(id)}/result.${format}${query({ revision })}`;

export const audioPath = (id: string): string => `${path(id)}/audio`;

export const recordingPath = (id: string): string => `${path(id)}/recording`;

/** Reads a transcript: the newest revision unless a number is given (0: as it was recognised). */
export const readResult = (id: string, revision?: number, signal?: AbortSignal): Promise<Result> =>
  request(`${path(id)}/result${query({ revision: revision === undefined ? undefined : String(revision) })}`, { signal });

/** A result as the text of one format. */
export async function readExport(id: string, format: string): Promise<string> {
  return (await send(exportPath(id, format), { headers: { Accept: '*/*' } })).text();
}

/** Saves edits as one revision. Throws an ApiError with status 412 if `revision` is not the newest one. */
export const saveEdits = (
  id: string,
  revision: number,
  edits: Edit[],
): Promise<{ revision: Revision; splices: Splice[] }> =>
  request(`${path(id)}/result`, { method: 'PATCH', body: { edits }, headers: ifMatch(revision) });

export const listRevisions = (id: string): Promise<{ revisions: Revision[] }> => request(`${path(id)}/revisions`);

/** Makes a new revision with the content of an older one. */
export const restoreRevision = (id: string, newest: number, restore: number): Promise<{ revision: Revision }> =>
  request(`${path(id)}/revisions`, { method: 'POST', body: { restore }, headers: ifMatch(newest) });

export interface WaveformRange {
  start?: number;
  end?: number;
  buckets: number;
}

export const readWaveform = (id: string, range: WaveformRange, signal?: AbortSignal): Promise<Waveform> =>
  request(`${path(id)}/waveform${query({ ...range })}`, { signal });
