import { request, send } from './http';
import type { Session } from './types';

export const readSession = (): Promise<Session> => request('/api/session');

export const signIn = (token: string): Promise<Session> =>
  request('/api/session', { method: 'POST', body: { token } });

export async function signOut(): Promise<void> {
  await send('/api/session', { method: 'DELETE' });
}
