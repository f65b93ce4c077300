import { expect, it } from 'vitest';
import { OptionForm } from './option_form.svelte';

const filled = (fields: Partial<OptionForm>): OptionForm => Object.assign(new OptionForm(), fields);

it('asks for saved voices only, unless something else is chosen', () => {
  expect(new OptionForm().options()).toEqual({ use_saved_voices: true });
  expect(filled({ useSavedVoices: false }).options()).toEqual({});
});

it.each([
  [{ language: 'pt' }, { language: 'pt' }],
  [{ speakerMode: 'exact', speakerCount: 3 }, { speaker_count: 3 }],
  [{ speakerMode: 'range', minSpeakers: 1, maxSpeakers: 4 }, { min_speaker_count: 1, max_speaker_count: 4 }],
  [{ channelMode: 'separate' }, { channel_mode: 'separate' }],
  [{ trackMode: 'number', trackNumber: 0 }, { audio_track: 0 }],
  [{ trackMode: 'each' }, { audio_track: 'each' }],
  [{ hotwords: ' Careca,, gRPC ' }, { hotwords: ['Careca', 'gRPC'] }],
  [{ prompt: ' A talk. ', translate: true, skipCache: true }, { initial_prompt: 'A talk.', translate: true, skip_cache: true }],
] as [Partial<OptionForm>, object][])('%j becomes %j', (fields, options) => {
  expect(filled({ ...fields, useSavedVoices: false }).options()).toEqual(options);
});

it.each([
  [{ speakerMode: 'range', minSpeakers: 5, maxSpeakers: 4 }, false],
  [{ speakerMode: 'exact', minSpeakers: 5, maxSpeakers: 4 }, true],
  [{ channelMode: 'separate', trackMode: 'all' }, false],
  [{ channelMode: 'separate', trackMode: 'number' }, true],
] as [Partial<OptionForm>, boolean][])('%j is valid: %s', (fields, valid) => {
  expect(filled(fields).isValid).toBe(valid);
});
