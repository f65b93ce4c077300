import { expect, it } from 'vitest';
import { fold, search } from './search';
import { said } from './testing';

it('case and accents make no difference, and positions are those of the text', () => {
  const utterances = [said('A', 0, 'São Paulo, são'), said('B', 3, 'nothing here')];
  expect(search(utterances, 'SAO')).toEqual([
    { utterance: 0, from: 0, to: 3 },
    { utterance: 0, from: 11, to: 14 },
  ]);
});

it('a character that folds to several keeps its place', () => {
  expect(fold('İstanbul ß').length).toBe('İstanbul ß'.length);
});

it('nothing is found without a text to look for', () => {
  expect(search([said('A', 0, 'one')], '  ')).toEqual([]);
});
