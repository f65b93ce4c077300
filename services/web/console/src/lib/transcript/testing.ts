/** Small transcripts for the tests. */
import type { Utterance } from '$lib/api/types';
import { documentOf, type TranscriptDocument } from './document';

/** An utterance whose words last one second each. */
export function said(speaker: string, start: number, text: string): Utterance {
  const words = text.split(' ').map((word, index) => ({
    text: word,
    start: start + index,
    end: start + index + 1,
    probability: 0.9,
    speaker,
  }));
  return { start, end: start + words.length, speaker, language: 'en', text, words };
}

export function transcript(...utterances: Utterance[]): TranscriptDocument {
  const labels = [...new Set(utterances.map(({ speaker }) => speaker ?? ''))];
  return documentOf({ utterances, speakers: labels.map((label) => ({ label, name: null, similarity: null })) });
}

/** The transcript as lines `speaker: text`. */
export const lines = (document: TranscriptDocument): string[] =>
  document.utterances.map(({ speaker, text }) => `${speaker}: ${text}`);
