/** The transcript as a value: what an edit does to it, and what an answer of the server does. Nothing is changed in place. */
import type { Edit, RenameSpeaker, ReplaceUtterances, Result, Speaker, Splice, Utterance } from '$lib/api/types';
import { alignWords } from './words';

/** An utterance that keeps its `key` while its content is corrected, so that its element on the page is kept too. */
export interface KeyedUtterance extends Utterance {
  key: number;
}

export interface TranscriptDocument {
  utterances: readonly KeyedUtterance[];
  speakers: readonly Speaker[];
}

let lastKey = 0;
const keyed = (utterance: Utterance, key?: number): KeyedUtterance => {
  lastKey += key === undefined ? 1 : 0;
  return { ...utterance, key: key ?? lastKey };
};

export function documentOf(result: Pick<Result, 'utterances' | 'speakers'>): TranscriptDocument {
  return { utterances: result.utterances.map((utterance) => keyed(utterance)), speakers: result.speakers };
}

/** An utterance as the server takes it. */
export function plain(utterance: Utterance): Utterance {
  const { start, end, speaker, language, text, words } = utterance;
  return { start, end, speaker, language, text, words };
}

/** The name by which utterances know a speaker. */
export const displayName = (speaker: Speaker): string => speaker.name ?? speaker.label;

export function applySplice(document: TranscriptDocument, splice: Splice): TranscriptDocument {
  const removed = document.utterances.slice(splice.index, splice.index + splice.removed_count);
  const added = splice.utterances.map((utterance, offset) => keyed(utterance, removed[offset]?.key));
  const utterances = document.utterances.slice();
  utterances.splice(splice.index, splice.removed_count, ...added);
  return { utterances, speakers: withSpeakersOf(splice.utterances, document.speakers) };
}

/** The document after an edit, as it is shown until the server has answered. */
export function applyEdit(document: TranscriptDocument, edit: Edit): TranscriptDocument {
  return edit.type === 'rename_speaker' ? rename(document, edit) : replace(document, edit);
}

function replace(document: TranscriptDocument, edit: ReplaceUtterances): TranscriptDocument {
  const utterances = edit.utterances.map((utterance) => ({
    ...utterance,
    words: alignWords(utterance).map((word) => ({ ...word, speaker: utterance.speaker })),
  }));
  return applySplice(document, { index: edit.index, removed_count: edit.count, utterances });
}

function rename(document: TranscriptDocument, edit: RenameSpeaker): TranscriptDocument {
  const { speaker: old, new_name: name } = edit;
  const utterances = document.utterances.map((utterance) =>
    utterance.speaker === old
      ? { ...utterance, speaker: name, words: utterance.words.map((word) => ({ ...word, speaker: name })) }
      : utterance,
  );
  const exists = document.speakers.some((speaker) => displayName(speaker) === name);
  const speakers = document.speakers
    .filter((speaker) => !(exists && displayName(speaker) === old))
    .map((speaker) => (displayName(speaker) === old ? { ...speaker, name } : speaker));
  return { utterances, speakers };
}

/** Speakers who are first named by an edit are added at the end. */
function withSpeakersOf(utterances: readonly Utterance[], speakers: readonly Speaker[]): readonly Speaker[] {
  const known = new Set(speakers.map(displayName));
  const names = new Set(utterances.flatMap(({ speaker }) => (speaker === null || known.has(speaker) ? [] : [speaker])));
  if (!names.size) return speakers;
  return [...speakers, ...[...names].map((label) => ({ label, name: null, similarity: null }))];
}

/** The edits that undo `edits`, which are about to be applied to `document`; null if only restoring a revision can. */
export function inverseOf(document: TranscriptDocument, edits: readonly Edit[]): Edit[] | null {
  const inverse: Edit[] = [];
  let current = document;
  for (const edit of edits) {
    if (edit.type === 'rename_speaker') {
      if (edit.merge) return null; // afterwards, nothing tells the utterances of one speaker from those of the other
      inverse.unshift({ type: 'rename_speaker', speaker: edit.new_name, new_name: edit.speaker, merge: false });
    } else {
      const before = current.utterances.slice(edit.index, edit.index + edit.count).map(plain);
      inverse.unshift({ ...edit, count: edit.utterances.length, utterances: before });
    }
    current = applyEdit(current, edit);
  }
  return inverse;
}

/** The index of the last utterance that starts at or before `time`; -1 if there is none. */
export function utteranceAt(utterances: readonly Utterance[], time: number): number {
  let low = 0;
  let high = utterances.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((utterances[middle]?.start ?? 0) <= time) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}
