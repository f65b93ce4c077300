import { describe, expect, it } from 'vitest';
import type { Edit } from '$lib/api/types';
import { editText, joinWithNext, reassign, reassignPart, remove, renameSpeaker, split } from './corrections';
import { applyEdit, applySplice, documentOf, inverseOf, utteranceAt } from './document';
import { lines, said, transcript } from './testing';

const document = transcript(said('A', 0, 'one two three'), said('B', 3, 'four five'), said('A', 5, 'six'));

const after = (edit: Edit | null): string[] => (edit ? lines(applyEdit(document, edit)) : []);

describe('corrections', () => {
  it('edit a text', () => {
    expect(after(editText(document, 1, ' four or five '))).toEqual(['A: one two three', 'B: four or five', 'A: six']);
  });

  it('give an utterance to another speaker, with its words', () => {
    const changed = applyEdit(document, reassign(document, 1, 'A'));
    expect(changed.utterances[1]?.words.map(({ speaker }) => speaker)).toEqual(['A', 'A']);
  });

  it.each([
    ['the middle', 5, 6, ['A: one', 'C: two', 'A: three']],
    ['the beginning', 0, 3, ['C: one', 'A: two three']],
    ['the end', 9, 13, ['A: one two', 'C: three']],
    ['everything', 0, 13, ['C: one two three']],
    ['nothing', 4, 4, ['A: one two three']],
  ])('give %s of an utterance to another speaker', (_, from, to, expected) => {
    expect(after(reassignPart(document, 0, from, to, 'C')).slice(0, -2)).toEqual(expected);
  });

  it('split between words, with the times of the words', () => {
    const changed = applyEdit(document, split(document, 0, 4)!);
    expect(lines(changed).slice(0, 2)).toEqual(['A: one', 'A: two three']);
    expect(changed.utterances.slice(0, 2).map(({ start, end }) => [start, end])).toEqual([
      [0, 1],
      [1, 3],
    ]);
  });

  it('do not split at the ends', () => {
    expect(split(document, 0, 0)).toBeNull();
    expect(split(document, 0, 13)).toBeNull();
  });

  it('join with the next utterance, which gets the first speaker', () => {
    const changed = applyEdit(document, joinWithNext(document, 0)!);
    expect(lines(changed)).toEqual(['A: one two three four five', 'A: six']);
    expect(changed.utterances[0]).toMatchObject({ start: 0, end: 5 });
    expect(joinWithNext(document, 2)).toBeNull();
  });

  it('delete', () => {
    expect(after(remove(document, 1))).toEqual(['A: one two three', 'A: six']);
  });

  it('rename a speaker everywhere', () => {
    const changed = applyEdit(document, renameSpeaker('A', 'Ana', false));
    expect(lines(changed)).toEqual(['Ana: one two three', 'B: four five', 'Ana: six']);
    expect(changed.speakers.map(({ label, name }) => [label, name])).toEqual([
      ['A', 'Ana'],
      ['B', null],
    ]);
  });

  it('merge two speakers', () => {
    const changed = applyEdit(document, renameSpeaker('A', 'B', true));
    expect(lines(changed)).toEqual(['B: one two three', 'B: four five', 'B: six']);
    expect(changed.speakers.map(({ label }) => label)).toEqual(['B']);
  });

  it('add a speaker who was not there', () => {
    expect(applyEdit(document, reassign(document, 0, 'Zoe')).speakers.map(({ label }) => label)).toEqual(['A', 'B', 'Zoe']);
  });
});

it('each series of edits is undone by its inverse', () => {
  let current = document;
  const edits: Edit[] = [];
  for (const make of [
    () => editText(current, 0, 'a new text'),
    () => split(current, 1, 5)!,
    () => renameSpeaker('A', 'Ana', false),
    () => joinWithNext(current, 0)!,
    () => remove(current, 1),
  ]) {
    const edit = make();
    edits.push(edit);
    current = applyEdit(current, edit);
  }
  const inverse = inverseOf(document, edits)!;
  expect(lines(inverse.reduce(applyEdit, current))).toEqual(lines(document));
});

it('a merge has no inverse', () => {
  expect(inverseOf(document, [renameSpeaker('A', 'B', true)])).toBeNull();
});

it('an utterance keeps its key while its content changes', () => {
  const keys = document.utterances.map(({ key }) => key);
  expect(applyEdit(document, editText(document, 1, 'x')).utterances.map(({ key }) => key)).toEqual(keys);
  const halves = applyEdit(document, split(document, 0, 4)!).utterances.map(({ key }) => key);
  expect(halves).toEqual([keys[0], halves[1], keys[1], keys[2]]);
  expect(keys).not.toContain(halves[1]);
});

it("the server's splice replaces what was shown", () => {
  const changed = applySplice(document, { index: 1, removed_count: 2, utterances: [said('B', 3, 'four and more')] });
  expect(lines(changed)).toEqual(['A: one two three', 'B: four and more']);
});

it('the utterance at a time is the last that has started', () => {
  const { utterances } = documentOf({ utterances: [said('A', 1, 'a'), said('B', 3, 'b')], speakers: [] });
  expect([0, 1, 2.9, 3, 99].map((time) => utteranceAt(utterances, time))).toEqual([-1, 0, 0, 1, 1]);
});
