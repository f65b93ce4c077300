import type { Failure } from '$lib/api/types';

/** Why a service or a replica does not answer. */
export const errorText = (error: string | Failure): string => (typeof error === 'string' ? error : error.message);
