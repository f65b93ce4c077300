/** The fields of the options form, and the options that they make. */
import type { JobOptions } from '$lib/api/types';

export class OptionForm {
  language = $state('');
  translate = $state(false);
  speakerMode = $state<'auto' | 'exact' | 'range'>('auto');
  speakerCount = $state(2);
  minSpeakers = $state(2);
  maxSpeakers = $state(4);
  channelMode = $state<'mix' | 'separate'>('mix');
  trackMode = $state<'auto' | 'all' | 'each' | 'number'>('auto');
  trackNumber = $state(0);
  useSavedVoices = $state(true);
  hotwords = $state('');
  prompt = $state('');
  skipCache = $state(false);

  readonly rangeIsWrong = $derived(this.speakerMode === 'range' && this.minSpeakers > this.maxSpeakers);
  readonly trackIsWrong = $derived(
    this.channelMode === 'separate' && (this.trackMode === 'all' || this.trackMode === 'each'),
  );
  readonly isValid = $derived(!this.rangeIsWrong && !this.trackIsWrong);

  /**
   * The options that differ from the server's defaults. Saved voices are asked for even if none is known of: a person may
   * choose a file before the list of voices has arrived.
   */
  options(): JobOptions {
    const options: JobOptions = {};
    const hotwords = this.hotwords.split(',').map((word) => word.trim()).filter(Boolean);
    if (this.language) options.language = this.language;
    if (this.translate) options.translate = true;
    if (this.speakerMode === 'exact') options.speaker_count = this.speakerCount;
    if (this.speakerMode === 'range') {
      options.min_speaker_count = this.minSpeakers;
      options.max_speaker_count = this.maxSpeakers;
    }
    if (this.channelMode === 'separate') options.channel_mode = 'separate';
    if (this.trackMode !== 'auto') options.audio_track = this.trackMode === 'number' ? this.trackNumber : this.trackMode;
    if (this.useSavedVoices) options.use_saved_voices = true;
    if (hotwords.length) options.hotwords = hotwords;
    if (this.prompt.trim()) options.initial_prompt = this.prompt.trim();
    if (this.skipCache) options.skip_cache = true;
    return options;
  }
}
