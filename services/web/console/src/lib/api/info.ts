import { request } from './http';
import type { Info } from './types';

export const readInfo = (): Promise<Info> => request('/api/info');
