import { describe, expect, it } from 'vitest';
import type { Edit } from '$lib/api/types';
import { editText, remove, renameSpeaker, split } from './corrections';
import { applyEdit } from './document';
import { applyAll, pendingEdit, rebase } from './pending';
import { lines, said, transcript } from './testing';

const document = transcript(said('A', 0, 'one two'), said('B', 2, 'three four'), said('A', 4, 'five'));
const pending = (edit: Edit) => [pendingEdit(1, document, edit)];

describe('edits on a newer revision', () => {
  it('follow their utterance to its new place', () => {
    const newer = applyEdit(document, remove(document, 0));
    const { applicable, refused } = rebase(newer, pending(editText(document, 1, 'three or four')));
    expect(refused).toEqual([]);
    expect(lines(applyAll(newer, applicable))).toEqual(['B: three or four', 'A: five']);
  });

  it('are refused where somebody else changed the passage', () => {
    const newer = applyEdit(document, editText(document, 1, 'another text'));
    const mine = pending(editText(document, 1, 'three or four'));
    expect(rebase(newer, mine)).toEqual({ applicable: [], refused: mine });
  });

  it.each([
    ['an edited text', editText(document, 1, 'three or four')],
    ['a split', split(document, 0, 4)!],
    ['a deletion', remove(document, 1)],
    ['a new name', renameSpeaker('A', 'Ana', false)],
    ['a merge', renameSpeaker('A', 'B', true)],
  ])('are dropped if the revision has them: %s', (_, edit) => {
    expect(rebase(applyEdit(document, edit), pending(edit))).toEqual({ applicable: [], refused: [] });
  });

  it('do not put a deleted utterance back twice', () => {
    const shorter = applyEdit(document, remove(document, 1));
    const back: Edit = { type: 'replace_utterances', index: 1, count: 0, utterances: [said('B', 2, 'three four')] };
    const mine = [pendingEdit(1, shorter, back)];
    expect(rebase(document, mine).applicable).toEqual([]);
    expect(rebase(shorter, mine).applicable).toHaveLength(1);
  });

  it('do not delete what somebody else has corrected', () => {
    const newer = applyEdit(document, editText(document, 1, 'another text'));
    expect(rebase(newer, pending(remove(document, 1))).refused).toHaveLength(1);
  });

  it('do not give a speaker a name that somebody else has given to another', () => {
    const newer = applyEdit(document, renameSpeaker('B', 'Ana', false));
    expect(rebase(newer, pending(renameSpeaker('A', 'Ana', false))).refused).toHaveLength(1);
  });
});
