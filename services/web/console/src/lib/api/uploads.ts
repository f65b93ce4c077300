/** Recordings: offering the digest of a file, and uploading it so that a broken connection costs nothing. */
import { Upload } from 'tus-js-client';
import { ApiError, query, request } from './http';
import type { Digest } from './types';

const CHUNK_BYTES = 16 * 1024 * 1024;
const RETRY_DELAYS_MS = [0, 1000, 3000, 5000, 10_000, 20_000, 30_000];
/** WebCrypto needs the whole file in memory; above this size, uploading is preferred. */
const MAX_DIGEST_BYTES = 256 * 1024 * 1024;

interface UploadState {
  recording: Digest | null;
}

/** The SHA-256 of a file, or null where the browser cannot compute it (no HTTPS) or the file is large. */
export async function digestOf(file: Blob): Promise<Digest | null> {
  if (file.size > MAX_DIGEST_BYTES || !globalThis.crypto?.subtle) return null;
  const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', await file.arrayBuffer()));
  const sha256 = Array.from(hash, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return { sha256, size_bytes: file.size };
}

/** Whether the server has a recording, so that a job needs only its digest. */
export async function isStored({ sha256, size_bytes }: Digest): Promise<boolean> {
  const path = `/api/recordings/${sha256}${query({ size_bytes })}`;
  return (await request<{ stored: boolean }>(path)).stored;
}

export interface RunningUpload {
  /** Rejects with an ApiError, or with the DOMException AbortError after `abort`. */
  done: Promise<Digest>;
  abort(): Promise<void>;
}

/** Uploads a file by the tus protocol. An interrupted upload of the same file goes on where it stopped. */
export function uploadRecording(file: File, onProgress: (sentBytes: number) => void): RunningUpload {
  let upload!: Upload;
  let stop!: (reason: Error) => void;
  const done = new Promise<Digest>((resolve, reject) => {
    stop = reject;
    upload = new Upload(file, {
      endpoint: '/api/uploads',
      chunkSize: CHUNK_BYTES,
      retryDelays: RETRY_DELAYS_MS,
      metadata: { filename: file.name, filetype: file.type },
      removeFingerprintOnSuccess: true,
      onProgress: (sent) => onProgress(sent),
      onError: (error) => reject(uploadError(error)),
      onSuccess: () => {
        const path = new URL(upload.url ?? '', location.href).pathname;
        request<UploadState>(path).then(({ recording }) => {
          if (recording) resolve(recording);
          else reject(new ApiError(0, 'UPLOAD_INCOMPLETE', 'The server has not received the whole file.'));
        }, reject);
      },
    });
    upload.findPreviousUploads().then((previous) => {
      if (previous[0]) upload.resumeFromPreviousUpload(previous[0]);
      upload.start();
    }, reject);
  });
  const abort = async (): Promise<void> => {
    stop(new DOMException('The upload was cancelled.', 'AbortError'));
    await upload.abort(true);
  };
  return { done, abort };
}

/** The problem details that the server sent for an upload, as for any other request. */
function uploadError(error: Error): Error {
  const response = 'originalResponse' in error ? (error.originalResponse as TusResponse | null) : null;
  if (!response) return new ApiError(0, 'NO_CONNECTION', error.message);
  try {
    const body = JSON.parse(response.getBody()) as { reason?: string; detail?: string };
    return new ApiError(response.getStatus(), body.reason ?? '', body.detail ?? error.message);
  } catch {
    return new ApiError(response.getStatus(), '', error.message); // a proxy's answer is not JSON
  }
}

interface TusResponse {
  getStatus(): number;
  getBody(): string;
}
