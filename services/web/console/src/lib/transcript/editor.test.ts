import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ApiError } from '$lib/api/http';
import type { Edit, Result, Splice } from '$lib/api/types';
import { editText, reassign, renameSpeaker, split } from './corrections';
import { applyEdit, documentOf, type TranscriptDocument } from './document';
import { EditStore } from './edit_store';
import { Editor } from './editor.svelte';
import { lines, said, transcript } from './testing';

/** Keeps revisions as the server does, and fails when told so. */
class FakeServer {
  revisions: TranscriptDocument[] = [transcript(said('A', 0, 'one two'), said('B', 2, 'three four'), said('A', 4, 'five'))];
  failure: ApiError | null = null;
  loseAnswers = false;
  saves: Edit[][] = [];

  get newest(): number {
    return this.revisions.length - 1;
  }

  async read(): Promise<Result> {
    if (this.failure?.status === 0) throw this.failure;
    const { utterances, speakers } = structuredClone(this.revisions.at(-1)!);
    return { ...({} as Result), utterances: [...utterances], speakers: [...speakers], revision: this.newest };
  }

  async save(revision: number, edits: Edit[]) {
    if (this.failure) throw this.failure;
    if (revision !== this.newest) throw new ApiError(412, 'REVISION_CONFLICT', 'There is a newer revision.');
    if (edits.some((edit) => edit.type === 'replace_utterances' && edit.utterances.some(({ text }) => text === 'bad')))
      throw new ApiError(400, 'INVALID', 'This text is bad.');
    this.saves.push(edits);
    this.revisions.push(edits.reduce(applyEdit, this.revisions.at(-1)!));
    if (this.loseAnswers) throw new ApiError(0, 'NO_CONNECTION', 'The answer was lost.');
    const splices: Splice[] = edits.flatMap((edit) =>
      edit.type === 'replace_utterances' ? [{ index: edit.index, removed_count: edit.count, utterances: edit.utterances }] : [],
    );
    return { revision: revisionOf(this.newest), splices };
  }

  async restore(newest: number, revision: number) {
    if (this.failure) throw this.failure;
    if (newest !== this.newest) throw new ApiError(412, 'REVISION_CONFLICT', 'There is a newer revision.');
    this.revisions.push(this.revisions[revision]!);
    return { revision: revisionOf(this.newest) };
  }

  get text(): string[] {
    return lines(this.revisions.at(-1)!);
  }
}

const revisionOf = (number: number) => ({ number, author: '', created: 0, summary: '', restored_from: null });

/** A Storage in memory. */
class MemoryStorage {
  private readonly items = new Map<string, string>();
  full = false;
  get length() {
    return this.items.size;
  }
  key = (index: number) => [...this.items.keys()][index] ?? null;
  getItem = (key: string) => this.items.get(key) ?? null;
  removeItem = (key: string) => void this.items.delete(key);
  clear = () => this.items.clear();
  setItem(key: string, value: string) {
    if (this.full) throw new DOMException('full', 'QuotaExceededError');
    this.items.set(key, value);
  }
}

let server: FakeServer;
let storage: MemoryStorage;

async function open(): Promise<Editor> {
  const editor = new Editor(server, new EditStore('job', storage, undefined));
  await editor.start(await server.read());
  return editor;
}

const offline = () => new ApiError(0, 'NO_CONNECTION', 'Nobody answers.');
const type = (editor: Editor, index: number, text: string) => editor.apply([editText(editor.view, index, text)]);

beforeEach(() => {
  vi.useFakeTimers();
  server = new FakeServer();
  storage = new MemoryStorage();
});
afterEach(() => vi.useRealTimers());

describe('saving', () => {
  it('shows edits at once and saves them together as one revision', async () => {
    const editor = await open();
    type(editor, 0, 'first');
    type(editor, 1, 'second');
    expect(lines(editor.view)).toEqual(['A: first', 'B: second', 'A: five']);
    expect(editor.state).toBe('saving');
    await vi.runAllTimersAsync();
    expect(server.saves).toHaveLength(1);
    expect([editor.state, editor.revision, storage.length]).toEqual(['saved', 1, 0]);
    expect(server.text).toEqual(lines(editor.view));
  });

  it('goes on after a time without a connection, and loses nothing', async () => {
    const editor = await open();
    server.failure = offline();
    type(editor, 0, 'first');
    await vi.advanceTimersByTimeAsync(1000);
    expect([editor.state, storage.length]).toEqual(['offline', 1]);
    type(editor, 1, 'second');
    server.failure = null;
    await vi.runAllTimersAsync();
    expect(editor.state).toBe('saved');
    expect(server.text).toEqual(['A: first', 'B: second', 'A: five']);
  });

  it('keeps edits for the next page when the session has expired', async () => {
    const editor = await open();
    server.failure = new ApiError(401, 'UNAUTHENTICATED', 'The session has expired.');
    type(editor, 0, 'first');
    await vi.runAllTimersAsync();
    editor.close();
    server.failure = null;
    const next = await open();
    expect(lines(next.view)[0]).toBe('A: first');
    await vi.runAllTimersAsync();
    expect(server.text[0]).toBe('A: first');
    expect(storage.length).toBe(0);
  });

  it('notices that an edit was saved although the answer was lost', async () => {
    const editor = await open();
    server.loseAnswers = true;
    editor.apply([split(editor.view, 0, 4)!]);
    await vi.advanceTimersByTimeAsync(500);
    server.loseAnswers = false;
    await vi.runAllTimersAsync();
    expect([editor.state, editor.kept.length]).toEqual(['saved', 0]);
    expect(server.text).toEqual(['A: one', 'A: two', 'B: three four', 'A: five']);
    expect(lines(editor.view)).toEqual(server.text);
  });

  it('sets an edit aside that the server refuses, and saves the others', async () => {
    const editor = await open();
    type(editor, 0, 'first');
    type(editor, 1, 'bad');
    type(editor, 2, 'third');
    await vi.runAllTimersAsync();
    expect(editor.refused.map(({ message }) => message)).toEqual(['This text is bad.']);
    expect(server.text).toEqual(['A: first', 'B: three four', 'A: third']);
    expect(lines(editor.view)).toEqual(server.text);
  });

  it('says so if the browser does not keep the edits', async () => {
    const editor = await open();
    storage.full = true;
    type(editor, 0, 'first');
    expect(editor.stored).toBe(false);
    await vi.runAllTimersAsync();
    expect(server.text[0]).toBe('A: first');
  });
});

describe("somebody else's revision", () => {
  async function conflict(theirs: (document: TranscriptDocument) => Edit): Promise<Editor> {
    const editor = await open();
    server.revisions.push(applyEdit(server.revisions[0]!, theirs(server.revisions[0]!)));
    type(editor, 1, 'mine');
    await vi.runAllTimersAsync();
    expect([editor.state, editor.kept.length, editor.revision]).toEqual(['conflict', 1, 1]);
    return editor;
  }

  it('is shown, and the own edits can be applied to it', async () => {
    const editor = await conflict((document) => split(document, 0, 4)!);
    expect(lines(editor.view)).toEqual(['A: one', 'A: two', 'B: three four', 'A: five']);
    editor.applyKept();
    await vi.runAllTimersAsync();
    expect(server.text).toEqual(['A: one', 'A: two', 'B: mine', 'A: five']);
    expect(editor.state).toBe('saved');
  });

  it('wins over own edits of the same passage, which stay readable', async () => {
    const editor = await conflict((document) => editText(document, 1, 'theirs'));
    editor.applyKept();
    await vi.runAllTimersAsync();
    expect(server.text[1]).toBe('B: theirs');
    expect(editor.refused[0]?.edit.edit).toMatchObject({ utterances: [{ text: 'mine' }] });
  });

  it('is kept if the own edits are discarded', async () => {
    const editor = await conflict((document) => split(document, 0, 4)!);
    editor.discardKept();
    await vi.runAllTimersAsync();
    expect([editor.state, storage.length, server.newest]).toEqual(['saved', 0, 1]);
  });

  it('is not overwritten by an edit of the same passage after the page was closed', async () => {
    (await conflict((document) => editText(document, 1, 'theirs'))).close();
    const next = await open();
    expect([next.state, next.kept.length]).toEqual(['conflict', 1]);
    expect(server.text[1]).toBe('B: theirs');
  });

  it('gets an edit of another passage after the page was closed', async () => {
    (await conflict((document) => split(document, 0, 4)!)).close();
    const next = await open();
    expect(next.kept).toHaveLength(0); // the own passage is unchanged, so the edit fits this revision
    await vi.runAllTimersAsync();
    expect(server.text).toContain('B: mine');
  });
});

describe('undo and redo', () => {
  it('are edits of their own', async () => {
    const editor = await open();
    type(editor, 0, 'first');
    editor.apply([split(editor.view, 1, 6)!]);
    await vi.runAllTimersAsync();
    await editor.undo();
    await editor.undo();
    await vi.runAllTimersAsync();
    expect(server.text).toEqual(['A: one two', 'B: three four', 'A: five']);
    await editor.redo();
    await vi.runAllTimersAsync();
    expect(server.text[0]).toBe('A: first');
    expect([editor.canUndo, editor.canRedo]).toEqual([true, true]);
  });

  it('separate merged speakers by restoring the revision from before', async () => {
    const editor = await open();
    editor.apply([reassign(editor.view, 2, 'B')]);
    editor.apply([renameSpeaker('A', 'B', true)]);
    expect(editor.canUndo).toBe(false); // until the server has confirmed the merge
    await vi.runAllTimersAsync();
    expect(server.text.every((line) => line.startsWith('B'))).toBe(true);
    await editor.undo();
    expect(server.text).toEqual(['A: one two', 'B: three four', 'B: five']);
    await editor.undo();
    await vi.runAllTimersAsync();
    expect(server.text).toEqual(['A: one two', 'B: three four', 'A: five']);
    expect(lines(editor.view)).toEqual(server.text);
  });

  it('take back the restoring of a revision', async () => {
    const editor = await open();
    type(editor, 0, 'first');
    await editor.restore(0);
    expect(server.text[0]).toBe('A: one two');
    await editor.undo();
    expect(server.text[0]).toBe('A: first');
  });

  it('do not restore while edits cannot be saved', async () => {
    const editor = await open();
    server.failure = offline();
    type(editor, 0, 'first');
    await expect(editor.restore(0)).rejects.toThrow('not saved yet');
    expect(lines(editor.view)[0]).toBe('A: first');
  });
});

it('an element of the page keeps its utterance when the server has answered', async () => {
  const editor = await open();
  editor.apply([split(editor.view, 0, 4)!]);
  const keys = editor.view.utterances.map(({ key }) => key);
  await vi.runAllTimersAsync();
  expect(editor.view.utterances.map(({ key }) => key)).toEqual(keys);
  expect(documentOf(await server.read()).utterances).toHaveLength(4);
});
