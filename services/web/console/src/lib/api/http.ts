/** Requests to the server, and their errors. Everything else in this folder is one file for each resource. */

/** An answer that says what is wrong (problem details), or a request that got no answer (`status` 0). */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly reason: string,
    detail: string,
    readonly retryAfterSeconds: number | null = null,
    readonly metadata: Record<string, unknown> = {},
    readonly requestId = '',
  ) {
    super(detail);
    this.name = 'ApiError';
  }

  /** Whether the same request may succeed later: no connection, or a server that is busy, starting or restarting. */
  get temporary(): boolean {
    return [0, 408, 429, 502, 503, 504].includes(this.status);
  }
}

let onSignedOut: () => void = () => undefined;

/** Sets what happens when the server says that nobody is signed in. */
export function handleSignedOut(handler: () => void): void {
  onSignedOut = handler;
}

export interface RequestOptions {
  method?: string;
  body?: unknown;
  headers?: Record<string, string>;
  signal?: AbortSignal | undefined;
  /** Whether the request shall be finished although the page is being closed. Its body is at most 64 kB. */
  keepalive?: boolean;
}

/** Sends one request. Throws an ApiError unless the answer is a success. */
export async function send(path: string, options: RequestOptions = {}): Promise<Response> {
  const headers: Record<string, string> = { Accept: 'application/json', ...options.headers };
  const init: RequestInit = { method: options.method ?? 'GET', headers, credentials: 'same-origin' };
  if (options.body !== undefined) {
    headers['Content-Type'] = 'application/json';
    init.body = JSON.stringify(options.body);
  }
  if (options.signal) init.signal = options.signal;
  if (options.keepalive) init.keepalive = true;
  let response: Response;
  try {
    response = await fetch(path, init);
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    throw new ApiError(0, 'NO_CONNECTION', String(error));
  }
  if (response.ok) return response;
  const failure = await problem(response);
  if (response.status === 401 && path !== '/api/session') onSignedOut();
  throw failure;
}

/** Sends one request and returns the JSON of its answer. */
export async function request<T>(path: string, options: RequestOptions = {}): Promise<T> {
  const response = await send(path, options);
  try {
    return (await response.json()) as T;
  } catch (error) {
    throw new ApiError(0, 'BROKEN_ANSWER', String(error));
  }
}

/** Reads the problem details of an answer. A proxy may answer with something else; then only the status is known. */
async function problem(response: Response): Promise<ApiError> {
  const requestId = response.headers.get('X-Request-Id') ?? '';
  const type = response.headers.get('Content-Type') ?? '';
  if (!type.includes('json')) {
    const retryAfter = Number(response.headers.get('Retry-After'));
    return new ApiError(response.status, '', response.statusText, retryAfter || null, {}, requestId);
  }
  const body = (await response.json()) as {
    detail?: string;
    title?: string;
    reason?: string;
    retry_after_seconds?: number | null;
    metadata?: Record<string, unknown>;
  };
  return new ApiError(
    response.status,
    body.reason ?? '',
    body.detail || body.title || response.statusText,
    body.retry_after_seconds ?? null,
    body.metadata ?? {},
    requestId,
  );
}

/** A query string of the parameters that are set, with its question mark. Lists give one parameter for each value. */
export function query(parameters: Record<string, string | number | boolean | string[] | undefined>): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value === undefined || value === '' || value === false) continue;
    for (const one of Array.isArray(value) ? value : [value]) search.append(name, String(one));
  }
  const text = search.toString();
  return text ? `?${text}` : '';
}
