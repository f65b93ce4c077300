import { query, request } from './http';
import type { ClearedCache, ModelStage, ReleasedMemory, Replica, SystemStats } from './types';

export const readStats = (signal?: AbortSignal): Promise<SystemStats> => request('/api/admin/stats', { signal });

export const listReplicas = (signal?: AbortSignal): Promise<{ replicas: Replica[] }> =>
  request('/api/admin/replicas', { signal });

export const clearCache = (stage: ModelStage, expiredOnly: boolean): Promise<ClearedCache> =>
  request(`/api/admin/${stage}/cache/clear${query({ expired_only: expiredOnly })}`, { method: 'POST' });

export const releaseMemory = (): Promise<ReleasedMemory> =>
  request('/api/admin/memory/release', { method: 'POST', body: {} });
