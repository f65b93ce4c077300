/** What a person does on the page of one transcript: the active utterance, the selection, search, and corrections. */
import type { Player } from '$lib/media/player.svelte';
import type { Edit } from '$lib/api/types';
import * as corrections from './corrections';
import { displayName, type KeyedUtterance, type TranscriptDocument } from './document';
import type { Editor } from './editor.svelte';
import { search, type Match } from './search';
import { wordsBefore } from './words';

/** Characters of an utterance's text. */
export interface Selection {
  index: number;
  from: number;
  to: number;
}

export class Workspace {
  /** The utterance that keys and the toolbar act on. */
  active = $state(0);
  /** The word of the active utterance that Enter plays. */
  word = $state(0);
  /** The key of the utterance whose text is being edited. */
  editing = $state<number | null>(null);
  selection = $state.raw<Selection | null>(null);
  wanted = $state('');
  match = $state(0);
  follow = $state(true);
  /** An older revision, which cannot be edited; null for the newest. */
  older = $state.raw<{ number: number; document: TranscriptDocument } | null>(null);

  constructor(
    readonly jobId: string,
    readonly editor: Editor,
    readonly player: Player,
  ) {}

  readonly document = $derived.by(() => this.older?.document ?? this.editor.view);
  readonly readOnly = $derived.by(() => this.older !== null || this.editor.state === 'conflict');
  readonly names = $derived.by(() => this.document.speakers.map(displayName));
  readonly matches = $derived.by(() => search(this.document.utterances, this.wanted));
  /** The matches of each utterance that has some, by its index. */
  readonly matchesOf = $derived.by(() => Map.groupBy(this.matches, (match) => match.utterance));

  utterance(index: number): KeyedUtterance | undefined {
    return this.document.utterances[index];
  }

  activate(index: number): void {
    const last = this.document.utterances.length - 1;
    const next = Math.max(0, Math.min(index, last));
    if (next !== this.active) this.word = 0;
    this.active = next;
  }

  moveWord(steps: number): void {
    const count = this.utterance(this.active)?.words.length ?? 0;
    this.word = Math.min(Math.max(0, this.word + steps), Math.max(0, count - 1));
  }

  /** Plays from a word of the active utterance, or from its start. */
  playWord(index: number, word: number): void {
    const utterance = this.utterance(index);
    if (!utterance) return;
    this.activate(index);
    this.word = word;
    this.player.play(utterance.words[word]?.start ?? utterance.start);
  }

  startEditing(index: number): void {
    if (this.readOnly) return;
    this.activate(index);
    this.editing = this.utterance(index)?.key ?? null;
  }

  /** Saves the text if it was changed. */
  commitText(index: number, text: string): void {
    const utterance = this.utterance(index);
    if (!utterance || utterance.text === text.trim()) return;
    this.apply(text.trim() ? corrections.editText(this.document, index, text) : corrections.remove(this.document, index));
  }

  /** Gives the selected words, or else the whole utterance, to a speaker. */
  giveTo(index: number, speaker: string): void {
    const selected = this.selection?.index === index ? this.selection : null;
    this.selection = null;
    if (selected) this.apply(corrections.reassignPart(this.document, index, selected.from, selected.to, speaker));
    else this.apply(corrections.reassign(this.document, index, speaker));
  }

  split(index: number, position: number): void {
    this.apply(corrections.split(this.document, index, position));
  }

  join(index: number): void {
    this.apply(corrections.joinWithNext(this.document, index));
  }

  remove(index: number): void {
    this.apply(corrections.remove(this.document, index));
    this.activate(Math.min(index, this.document.utterances.length - 1));
  }

  rename(speaker: string, name: string, merge: boolean): void {
    this.apply(corrections.renameSpeaker(speaker, name, merge));
  }

  /** The word that contains a place of the text, for search results. */
  wordsOfMatch(match: Match): { first: number; last: number } {
    const { text, words } = this.utterance(match.utterance) ?? { text: '', words: [] };
    return { first: Math.max(0, wordsBefore(text, words, match.from + 1) - 1), last: wordsBefore(text, words, match.to) };
  }

  /** Goes to the next (1) or previous (-1) match, around the ends. */
  goToMatch(steps: number): void {
    const count = this.matches.length;
    if (!count) return;
    this.match = (this.match + steps + count) % count;
    const found = this.matches[this.match];
    if (!found) return;
    this.follow = false;
    this.activate(found.utterance);
    this.word = this.wordsOfMatch(found).first;
  }

  private apply(edit: Edit | null): void {
    if (edit && !this.older) this.editor.apply([edit]);
  }
}
