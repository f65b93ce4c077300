/** Captions as a value: what each event of a live session changes. Nothing is changed in place. */
import { COLOURS } from '$lib/transcript/speaker_colours';
import type { Final, LiveEvent, LiveNotice, LiveWord } from './messages';

/** A final word, and what separates it from the word before. */
export interface CaptionWord extends LiveWord {
  gap: string;
}

/** Consecutive words of one speaker in one utterance. */
export interface Caption {
  /** The number of its first word, which it keeps. */
  first: number;
  start: number | null;
  speaker: string | null;
  language: string;
  words: readonly CaptionWord[];
}

export interface Captions {
  words: readonly CaptionWord[];
  /** Numbers of words before which an utterance has ended. */
  breaks: ReadonlySet<number>;
  /** The number of the first word of the session. Words before it belong to sessions that were lost. */
  firstWord: number;
  language: string;
  /** Words that may still change. */
  interim: string;
  interimLanguage: string;
  /** Who speaks now; null if nobody does, or if it is not known. */
  floor: string | null;
  /** All speakers in order of their first words: their places give their colours. */
  speakers: readonly string[];
  behindSeconds: number;
  notices: readonly LiveNotice[];
  /** The number of the last event. Later ones are asked for after a lost connection. */
  lastEvent: number;
  /** Whether the server waits for its own connection. */
  waiting: boolean;
  jobId: string | null;
}

export const NO_CAPTIONS: Captions = {
  words: [],
  breaks: new Set(),
  firstWord: 0,
  language: '',
  interim: '',
  interimLanguage: '',
  floor: null,
  speakers: [],
  behindSeconds: 0,
  notices: [],
  lastEvent: 0,
  waiting: false,
  jobId: null,
};

/** Languages that are written without spaces between words. */
const UNSPACED = new Set(['zh', 'yue', 'ja', 'th', 'lo', 'my', 'km', 'bo']);

const gapOf = (word: string, language: string): string =>
  UNSPACED.has(language) && /[^\0-\x7f]/.test(word) ? '' : ' ';

/** The captions after an event. An event that was received before changes nothing. */
export function receive(captions: Captions, event: LiveEvent): Captions {
  if (event.type === 'reconnecting') return { ...captions, waiting: true };
  if (event.event_number > 0 && event.event_number <= captions.lastEvent) return captions;
  const next: Captions = {
    ...captions,
    behindSeconds: event.behind_seconds,
    lastEvent: Math.max(captions.lastEvent, event.event_number),
    waiting: false,
  };
  switch (event.type) {
    case 'interim':
      return { ...next, interim: event.text, interimLanguage: event.language };
    case 'final':
      return addWords(next, event);
    case 'speaker_correction':
      return correct(next, event.first_word, event.word_count, event.speaker);
    case 'utterance_end':
      return { ...next, interim: '', floor: null, breaks: new Set(next.breaks).add(next.words.length) };
    case 'notice':
      return { ...next, notices: [...next.notices, event] };
    case 'ended':
      return { ...next, interim: '', floor: null, jobId: event.job_id };
    default:
      return next;
  }
}

/** The captions when a session was lost and another one begins: what was said stays, and its numbers begin anew. */
export function beginAgain(captions: Captions): Captions {
  const { words, speakers, breaks, notices, language } = captions;
  const firstWord = words.length;
  return { ...NO_CAPTIONS, words, speakers, notices, language, firstWord, breaks: new Set(breaks).add(firstWord) };
}

function addWords(captions: Captions, event: Final): Captions {
  const added = event.words.map((word) => ({ ...word, gap: gapOf(word.text, event.language) }));
  const words = [...captions.words.slice(0, captions.firstWord + event.first_word), ...added];
  return {
    ...captions,
    words,
    language: event.language || captions.language,
    interim: '',
    floor: words.at(-1)?.speaker ?? null,
    speakers: withSpeakers(captions.speakers, added),
  };
}

function correct(captions: Captions, first: number, count: number, speaker: string): Captions {
  const from = captions.firstWord + first;
  const words = captions.words.map((word, index) => (index >= from && index < from + count ? { ...word, speaker } : word));
  const isLast = from + count >= words.length;
  return {
    ...captions,
    words,
    floor: isLast && captions.floor !== null ? speaker : captions.floor,
    speakers: withSpeakers(captions.speakers, words.slice(from, from + count)),
  };
}

function withSpeakers(speakers: readonly string[], words: readonly LiveWord[]): readonly string[] {
  const names = new Set([...speakers, ...words.flatMap(({ speaker }) => (speaker === null ? [] : [speaker]))]);
  return names.size === speakers.length ? speakers : [...names];
}

/** The last `count` captions, oldest first. */
export function lastCaptions({ words, breaks, language }: Captions, count: number): Caption[] {
  const captions: Caption[] = [];
  let end = words.length;
  while (end > 0 && captions.length < count) {
    let first = end - 1;
    const speaker = words[first]?.speaker ?? null;
    while (first > 0 && !breaks.has(first) && (words[first - 1]?.speaker ?? null) === speaker) first -= 1;
    captions.unshift({ first, start: words[first]?.start ?? null, speaker, language, words: words.slice(first, end) });
    end = first;
  }
  return captions;
}

/** The number of a speaker's colour. */
export function colourOf({ speakers }: Captions, speaker: string | null): number | null {
  const place = speaker === null ? -1 : speakers.indexOf(speaker);
  return place < 0 ? null : place % COLOURS;
}
