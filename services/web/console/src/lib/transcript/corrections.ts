/** What a person does to a transcript, as edits. Each function returns an edit of the document it is given. */
import type { RenameSpeaker, ReplaceUtterances, Utterance, Word } from '$lib/api/types';
import type { TranscriptDocument } from './document';
import { plain } from './document';
import { wordGaps, wordPlaces, wordsBefore } from './words';

const replacement = (index: number, count: number, utterances: Utterance[]): ReplaceUtterances => ({
  type: 'replace_utterances',
  index,
  count,
  utterances,
});

function at(document: TranscriptDocument, index: number): Utterance {
  const utterance = document.utterances[index];
  if (!utterance) throw new RangeError(`There is no utterance ${index}.`);
  return plain(utterance);
}

/** Changes the text. The words are those from before, of which the server keeps the times. */
export function editText(document: TranscriptDocument, index: number, text: string): ReplaceUtterances {
  return replacement(index, 1, [{ ...at(document, index), text: text.trim() }]);
}

export function reassign(document: TranscriptDocument, index: number, speaker: string): ReplaceUtterances {
  return replacement(index, 1, [withSpeaker(at(document, index), speaker)]);
}

/** Gives the words that touch the characters `from` to `to` to another speaker, as an utterance of their own. */
export function reassignPart(
  document: TranscriptDocument,
  index: number,
  from: number,
  to: number,
  speaker: string,
): ReplaceUtterances {
  const utterance = at(document, index);
  const places = wordPlaces(utterance.text, utterance.words);
  const first = places.filter((place) => place.to <= from).length;
  const last = wordsBefore(utterance.text, utterance.words, to);
  if (last <= first) return replacement(index, 1, [utterance]);
  const parts = [part(utterance, 0, first), part(utterance, first, last), part(utterance, last)];
  if (parts[1]) parts[1] = withSpeaker(parts[1], speaker);
  return replacement(index, 1, parts.filter((one) => one !== null));
}

/** Splits an utterance before the word at a position of its text. Returns null if one part would be empty. */
export function split(document: TranscriptDocument, index: number, position: number): ReplaceUtterances | null {
  const utterance = at(document, index);
  const places = wordPlaces(utterance.text, utterance.words);
  const first = places.filter((place) => place.to <= position).length;
  const [left, right] = [part(utterance, 0, first), part(utterance, first)];
  return left && right ? replacement(index, 1, [left, right]) : null;
}

/** Joins an utterance with the next one. The speaker is that of the first. */
export function joinWithNext(document: TranscriptDocument, index: number): ReplaceUtterances | null {
  const [first, second] = [at(document, index), document.utterances[index + 1]];
  if (!second) return null;
  const separator = wordGaps(first.text, first.words).slice(1).some(Boolean) || first.words.length < 2 ? ' ' : '';
  const joined = {
    ...first,
    start: Math.min(first.start, second.start),
    end: Math.max(first.end, second.end),
    text: `${first.text}${separator}${second.text}`,
    words: [...first.words, ...second.words],
  };
  return replacement(index, 2, [first.speaker === null ? joined : withSpeaker(joined, first.speaker)]);
}

export function remove(document: TranscriptDocument, index: number): ReplaceUtterances {
  at(document, index);
  return replacement(index, 1, []);
}

export const renameSpeaker = (speaker: string, newName: string, merge: boolean): RenameSpeaker => ({
  type: 'rename_speaker',
  speaker,
  new_name: newName,
  merge,
});

const withSpeaker = (utterance: Utterance, speaker: string): Utterance => ({
  ...utterance,
  speaker,
  words: utterance.words.map((word) => ({ ...word, speaker })),
});

/** The part of an utterance with the words from `first` to before `last`; null without words. */
function part(utterance: Utterance, first: number, last = utterance.words.length): Utterance | null {
  const words = utterance.words.slice(first, last);
  if (!words.length) return null;
  const gaps = wordGaps(utterance.text, utterance.words).slice(first, last);
  const text = words.map((word, offset) => (offset ? (gaps[offset] ?? ' ') : '') + word.text).join('');
  const start = first === 0 ? utterance.start : (timeOf(words, 'start') ?? utterance.start);
  const end = last >= utterance.words.length ? utterance.end : (timeOf(words, 'end') ?? utterance.end);
  return { ...utterance, start, end: Math.max(start, end), text, words };
}

function timeOf(words: readonly Word[], side: 'start' | 'end'): number | null {
  const times = words.map((word) => word[side]).filter((time) => time !== null);
  return (side === 'start' ? times[0] : times.at(-1)) ?? null;
}
