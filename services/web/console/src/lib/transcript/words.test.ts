import { describe, expect, it } from 'vitest';
import { said } from './testing';
import { alignWords, isUncertain, matchesText, wordAt, wordGaps, wordPlaces, wordsBefore } from './words';

const word = (text: string) => ({ text, start: null, end: null, probability: null, speaker: null });

describe('places of words in their text', () => {
  it('are found in order, also if a word occurs twice', () => {
    expect(wordPlaces('no no yes', ['no', 'no', 'yes'].map(word))).toEqual([
      { from: 0, to: 2 },
      { from: 3, to: 5 },
      { from: 6, to: 9 },
    ]);
  });

  it('are empty for a word that the text does not have there', () => {
    expect(wordPlaces('yes no', ['maybe', 'yes'].map(word))).toEqual([
      { from: 0, to: 0 },
      { from: 0, to: 3 },
    ]);
  });

  it('tell which words are before a position', () => {
    const { text, words } = said('A', 0, 'one two three');
    expect([0, 1, 3, 4, 5, 13].map((position) => wordsBefore(text, words, position))).toEqual([0, 1, 1, 1, 2, 3]);
  });
});

it('gaps between words are those of the text: Japanese has none', () => {
  expect(wordGaps('私は 行く', ['私', 'は', '行く'].map(word))).toEqual(['', '', ' ']);
});

it('a text matches its words whatever the spaces', () => {
  expect(matchesText(' one  two', [word('one'), word('two')])).toBe(true);
  expect(matchesText('one to', [word('one'), word('two')])).toBe(false);
});

it('only words with a low probability are uncertain', () => {
  const { words } = said('A', 0, 'one');
  expect(words.map(isUncertain)).toEqual([false]);
  expect(isUncertain({ ...word('one'), probability: 0.49 })).toBe(true);
  expect(isUncertain(word('one'))).toBe(false);
});

it('the word at a time is the last that has started', () => {
  const { words } = said('A', 10, 'one two three');
  expect([9.9, 10, 10.9, 11, 99].map((time) => wordAt(words, time))).toEqual([-1, 0, 0, 1, 2]);
});

describe('words of an edited text', () => {
  it('are the same while the text is', () => {
    const utterance = said('A', 0, 'one two');
    expect(alignWords(utterance)).toBe(utterance.words);
  });

  it('keep their times outside of the change, and share the time of the change', () => {
    const words = alignWords({ ...said('A', 0, 'one two three four'), text: 'one aa bb four' });
    expect(words.map(({ text, start, end }) => [text, start, end])).toEqual([
      ['one', 0, 1],
      ['aa', 1, 2],
      ['bb', 2, 3],
      ['four', 3, 4],
    ]);
    expect(words[1]?.probability).toBeNull();
  });

  it('cover an utterance that had no words', () => {
    const words = alignWords({ ...said('A', 0, 'x'), end: 2, words: [], text: 'one two' });
    expect(words.map(({ start, end }) => [start, end])).toEqual([
      [0, 1],
      [1, 2],
    ]);
  });

  it('never run backwards, even if the neighbours overlap', () => {
    const utterance = said('A', 0, 'one two three');
    utterance.words[0]!.end = 2.5;
    const words = alignWords({ ...utterance, text: 'one new three' });
    expect(words[1]).toMatchObject({ text: 'new', start: 2.5, end: 2.5 });
  });
});
