import { expect, it } from 'vitest';
import { beginAgain, colourOf, lastCaptions, NO_CAPTIONS, receive, type Captions } from './captions';
import type { Final, LiveEvent } from './messages';

let number = 0;
const position = (): { event_number: number; audio_seconds: number; behind_seconds: number } => {
  number += 1;
  return { event_number: number, audio_seconds: number, behind_seconds: 0.5 };
};

const word = (text: string, speaker: string | null, start: number) => ({ text, start, end: start + 0.5, probability: 0.9, speaker });

function final(first: number, text: string, speaker: string | null, language = 'en'): Final {
  const words = text.split(' ').map((one, index) => word(one, speaker, first + index));
  return { ...position(), type: 'final', first_word: first, language, text, words };
}

const interim = (text: string): LiveEvent => ({ ...position(), event_number: 0, type: 'interim', language: 'en', text, words: [] });
const correction = (first_word: number, word_count: number, speaker: string): LiveEvent => ({
  ...position(),
  type: 'speaker_correction',
  first_word,
  word_count,
  speaker,
});
const utteranceEnd = (): LiveEvent => ({ ...position(), type: 'utterance_end' });

function after(...events: LiveEvent[]): Captions {
  return events.reduce(receive, NO_CAPTIONS);
}

/** The captions as lines: speaker and text. */
const lines = (captions: Captions): string[] =>
  lastCaptions(captions, 100).map(
    ({ speaker, words }) => `${speaker ?? '?'}: ${words.map(({ gap, text }, index) => (index ? gap : '') + text).join('')}`,
  );

it('words of one speaker are one caption, over several events', () => {
  expect(lines(after(final(0, 'good morning', 'A'), final(2, 'all', 'A')))).toEqual(['A: good morning all']);
});

it('another speaker, and the end of an utterance, begin a caption', () => {
  const captions = after(final(0, 'hello there', 'A'), final(2, 'hi', 'B'), utteranceEnd(), final(3, 'well', 'B'));
  expect(lines(captions)).toEqual(['A: hello there', 'B: hi', 'B: well']);
});

it('a caption keeps its number and its time while it grows', () => {
  const before = after(final(0, 'one', 'A'), final(1, 'two', 'B'));
  const later = receive(before, final(2, 'three', 'B'));
  const place = ({ first, start }: { first: number; start: number | null }): unknown => [first, start];
  expect(lastCaptions(before, 9).map(place)).toEqual([
    [0, 0],
    [1, 1],
  ]);
  expect(lastCaptions(later, 9).map(place)).toEqual([
    [0, 0],
    [1, 1],
  ]);
});

it('only the last captions are made', () => {
  const captions = after(final(0, 'one', 'A'), final(1, 'two', 'B'), final(2, 'three', 'C'));
  expect(lastCaptions(captions, 2).map(({ speaker }) => speaker)).toEqual(['B', 'C']);
});

it('interim words are replaced by later ones, and go with final ones', () => {
  const two = after(interim('one'), interim('one two'));
  expect(two.interim).toBe('one two');
  expect(receive(two, final(0, 'one two', 'A')).interim).toBe('');
  expect(receive(two, utteranceEnd()).interim).toBe('');
});

it('a correction changes the speaker of words that were said, and who has the floor', () => {
  const captions = after(final(0, 'one two three four', 'A'), correction(1, 2, 'B'));
  expect(lines(captions)).toEqual(['A: one', 'B: two three', 'A: four']);
  expect(captions.floor).toBe('A');
  expect(receive(captions, correction(3, 1, 'C')).floor).toBe('C');
  expect(receive(receive(captions, utteranceEnd()), correction(3, 1, 'C')).floor).toBeNull();
});

it('the floor belongs to the speaker of the last word until the utterance ends', () => {
  const captions = after(final(0, 'one', 'A'), final(1, 'two', 'B'));
  expect(captions.floor).toBe('B');
  expect(receive(captions, utteranceEnd()).floor).toBeNull();
});

it('speakers have colours in the order of their first words', () => {
  const captions = after(final(0, 'one', 'B'), final(1, 'two', null), final(2, 'three', 'A'), correction(1, 1, 'B'));
  expect([colourOf(captions, 'B'), colourOf(captions, 'A'), colourOf(captions, null)]).toEqual([0, 1, null]);
});

it('an event that comes again after a lost connection changes nothing', () => {
  const event = final(0, 'one', 'A');
  const captions = after(event, final(1, 'two', 'A'));
  expect(receive(captions, event)).toBe(captions);
});

it('languages without spaces have none between words', () => {
  expect(lines(after(final(0, '今日 は OK です', 'A', 'ja')))).toEqual(['A: 今日は OKです']);
});

it('a lost connection of the server is shown until it continues', () => {
  const waiting = after(final(0, 'one', 'A'), { type: 'reconnecting', attempt: 2, delay_seconds: 1 });
  expect(waiting.waiting).toBe(true);
  expect(receive(waiting, { ...position(), event_number: 0, type: 'started', session_id: 's', received_bytes: 0 }).waiting).toBe(false);
});

it('how far behind the words are, notices, and the job are those of the events', () => {
  const notice: LiveEvent = { ...position(), type: 'notice', code: 'FALLING_BEHIND', message: 'too slow', behind_seconds: 7 };
  const captions = after(interim('one'), notice);
  expect(captions.behindSeconds).toBe(7);
  expect(captions.notices.map(({ message }) => message)).toEqual(['too slow']);
  expect(captions.jobId).toBeNull();
  expect(receive(captions, { ...position(), type: 'ended', job_id: 'job-1' })).toMatchObject({ jobId: 'job-1', interim: '' });
});

it('a new session goes on after the words of the lost one', () => {
  number = 0;
  const lost = after(final(0, 'one two', 'A'));
  number = 0;
  const captions = [final(0, 'three', 'A'), correction(0, 1, 'B')].reduce(receive, beginAgain(lost));
  expect(lines(captions)).toEqual(['A: one two', 'B: three']);
  expect(captions.lastEvent).toBe(2);
});
