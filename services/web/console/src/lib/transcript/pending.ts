/** Edits that the server has not confirmed: how they are kept, and how they are applied to a newer revision. */
import type { Edit, ReplaceUtterances, Utterance } from '$lib/api/types';
import type { TranscriptDocument } from './document';
import { applyEdit, displayName, plain } from './document';

/** One edit, with what is needed to find its place again after somebody else changed the transcript. */
export interface PendingEdit {
  id: number;
  edit: Edit;
  /** The utterances that a replacement replaces. */
  before: Utterance[];
}

export const pendingEdit = (id: number, document: TranscriptDocument, edit: Edit): PendingEdit => ({
  id,
  edit,
  before:
    edit.type === 'replace_utterances'
      ? document.utterances.slice(edit.index, edit.index + edit.count).map(plain)
      : [],
});

export const applyAll = (document: TranscriptDocument, pending: readonly PendingEdit[]): TranscriptDocument =>
  pending.reduce((current, { edit }) => applyEdit(current, edit), document);

export interface Rebased {
  /** Edits that can be applied to the newer revision, with their places in it. */
  applicable: PendingEdit[];
  /** Edits whose passage somebody else changed. */
  refused: PendingEdit[];
}

/** Moves edits to a newer revision. Edits that it contains already (the answer to saving them was lost) are dropped. */
export function rebase(document: TranscriptDocument, pending: readonly PendingEdit[]): Rebased {
  const rebased: Rebased = { applicable: [], refused: [] };
  let current = document;
  for (const one of pending) {
    const edit = moved(current, one);
    if (edit === 'contained') continue;
    if (edit === 'refused') {
      rebased.refused.push(one);
      continue;
    }
    rebased.applicable.push({ ...one, edit });
    current = applyEdit(current, edit);
  }
  return rebased;
}

function moved(document: TranscriptDocument, { edit, before }: PendingEdit): Edit | 'contained' | 'refused' {
  if (edit.type === 'rename_speaker') {
    const names = new Set(document.speakers.map(displayName));
    if (!names.has(edit.speaker)) return names.has(edit.new_name) ? 'contained' : 'refused';
    return names.has(edit.new_name) && !edit.merge ? 'refused' : edit;
  }
  if (edit.utterances.length && find(document, edit.utterances, edit.index) !== null && !before.length) return 'contained';
  const index = find(document, before, Math.min(edit.index, document.utterances.length));
  if (index !== null) return { ...edit, index };
  return contains(document, edit, before) ? 'contained' : 'refused';
}

/** Whether the document has what the edit makes: its utterances, or none any more where it removes them. */
function contains(document: TranscriptDocument, edit: ReplaceUtterances, before: readonly Utterance[]): boolean {
  if (edit.utterances.length) return find(document, edit.utterances, edit.index) !== null;
  const starts = new Set(before.map((utterance) => utterance.start));
  return !document.utterances.some((utterance) => starts.has(utterance.start));
}

/** The place of the same utterances in a row that is nearest to `near`. */
function find(document: TranscriptDocument, wanted: readonly Utterance[], near: number): number | null {
  const places = Math.max(near, document.utterances.length - near);
  for (let distance = 0; distance <= places; distance += 1) {
    for (const index of distance ? [near - distance, near + distance] : [near]) {
      if (index >= 0 && wanted.every((utterance, offset) => same(document.utterances[index + offset], utterance))) {
        return index;
      }
    }
  }
  return null;
}

const same = (one: Utterance | undefined, other: Utterance): boolean =>
  one !== undefined &&
  one.text === other.text &&
  one.speaker === other.speaker &&
  Math.abs(one.start - other.start) < 0.01;
