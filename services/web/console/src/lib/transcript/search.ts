/** Search in a transcript: case and accents make no difference. */
import type { Utterance } from '$lib/api/types';

export interface Match {
  /** Index of the utterance, and the characters of its text. */
  utterance: number;
  from: number;
  to: number;
}

/** Text without case and accents, with the same length: a character that would become longer or shorter is kept. */
export function fold(text: string): string {
  if (/^[\x20-\x7e]*$/.test(text)) return text.toLowerCase();
  let folded = '';
  for (const character of text.normalize('NFC')) {
    const plain = character.normalize('NFD').replace(/\p{M}/gu, '').toLowerCase();
    folded += plain.length === character.length ? plain : character;
  }
  return folded;
}

/** Folded texts of utterances: a search while a person types folds each text only once. */
const foldedTexts = new WeakMap<Utterance, string>();

function foldedText(utterance: Utterance): string {
  const known = foldedTexts.get(utterance);
  if (known !== undefined) return known;
  const folded = fold(utterance.text);
  foldedTexts.set(utterance, folded);
  return folded;
}

/** All places where the text contains `wanted`, in order. */
export function search(utterances: readonly Utterance[], wanted: string): Match[] {
  const needle = fold(wanted.trim());
  if (!needle) return [];
  const matches: Match[] = [];
  utterances.forEach((utterance, index) => {
    const text = foldedText(utterance);
    for (let from = text.indexOf(needle); from >= 0; from = text.indexOf(needle, from + needle.length)) {
      matches.push({ utterance: index, from, to: from + needle.length });
    }
  });
  return matches;
}
