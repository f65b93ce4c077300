/** Colours of speakers: by their place in the list, and the same ones again after the last. */
import type { Speaker } from '$lib/api/types';
import { displayName } from './document';

export const COLOURS = 8;

/** The number of the colour of each speaker, by name. */
export const speakerColours = (speakers: readonly Speaker[]): Map<string, number> =>
  new Map(speakers.map((speaker, index) => [displayName(speaker), index % COLOURS]));
