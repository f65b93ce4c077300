/** Words and the text that contains them: positions, and times for words of a text that was edited. */
import type { Utterance, Word } from '$lib/api/types';

/** Words with a lower probability are marked: the model itself held them for more likely wrong than right. */
export const UNCERTAIN_BELOW = 0.5;

export const isUncertain = (word: Word): boolean => word.probability !== null && word.probability < UNCERTAIN_BELOW;

/** A word's place in its text: characters `from` to `to`. */
export interface Place {
  from: number;
  to: number;
}

/** Finds each word in the text, in order. A word that is not where it is expected gets an empty place. */
export function wordPlaces(text: string, words: readonly Word[]): Place[] {
  let position = 0;
  return words.map((word) => {
    const from = text.indexOf(word.text, position);
    if (from < 0 || text.slice(position, from).trim() !== '') return { from: position, to: position };
    position = from + word.text.length;
    return { from, to: position };
  });
}

/** Whether the words, with spaces between them or not, are exactly the text. */
export function matchesText(text: string, words: readonly Word[]): boolean {
  const spaceless = (value: string): string => value.replace(/\s+/g, '');
  return spaceless(text) === spaceless(words.map((word) => word.text).join(''));
}

/** What the text has before each word: a space or nothing. Languages such as Japanese have no spaces. */
export function wordGaps(text: string, words: readonly Word[]): string[] {
  let end = 0;
  return wordPlaces(text, words).map((place, index) => {
    const gap = place.from === place.to ? ' ' : text.slice(end, place.from);
    end = place.to;
    return index === 0 ? '' : gap && ' ';
  });
}

/** The number of words that lie before a position in the text. A position inside a word counts as after it. */
export function wordsBefore(text: string, words: readonly Word[], position: number): number {
  return wordPlaces(text, words).filter((place) => place.from < position).length;
}

/** The index of the word that is spoken at `time`, or the last one before; -1 before the first word. */
export function wordAt(words: readonly Word[], time: number): number {
  let found = -1;
  for (let index = 0; index < words.length; index += 1) {
    const start = words[index]?.start;
    if (start === null || start === undefined) continue;
    if (start > time) break;
    found = index;
  }
  return found;
}

/** Whether the language of the text separates words by spaces; otherwise an edited passage is kept as one word. */
const tokensOf = (text: string): string[] => text.split(/\s+/).filter(Boolean);

/**
 * Gives the words of an edited text times, until the server's answer has better ones. Words before and after the
 * changed passage keep theirs; new words share its time in proportion to their length, and have no probability.
 */
export function alignWords(utterance: Utterance): Word[] {
  const { text, words, start, end, speaker } = utterance;
  if (matchesText(text, words)) return words;
  const tokens = tokensOf(text);
  const limit = Math.min(tokens.length, words.length);
  let head = 0;
  while (head < limit && tokens[head] === words[head]?.text) head += 1;
  let tail = 0;
  while (tail < limit - head && tokens[tokens.length - 1 - tail] === words[words.length - 1 - tail]?.text) tail += 1;
  const kept = words.slice(words.length - tail);
  const added = tokens.slice(head, tokens.length - tail);
  const from = words[head - 1]?.end ?? start;
  const to = Math.max(from, kept[0]?.start ?? end);
  return [...words.slice(0, head), ...spread(added, from, to, speaker), ...kept];
}

function spread(tokens: string[], from: number, to: number, speaker: string | null): Word[] {
  const total = tokens.reduce((sum, token) => sum + token.length, 0);
  let done = 0;
  return tokens.map((text) => {
    const start = from + ((to - from) * done) / total;
    done += text.length;
    return { text, start, end: from + ((to - from) * done) / total, probability: null, speaker };
  });
}
