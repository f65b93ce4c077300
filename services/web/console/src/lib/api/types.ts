/** The JSON that the server sends and takes. Times are seconds; dates are seconds since 1970. */

export interface Session {
  signed_in: boolean;
  needs_token: boolean;
  name: string;
  role: 'user' | 'admin' | '';
  expires: number | null;
}

export interface Info {
  version: string;
  requires_token: boolean;
  takes_jobs: boolean;
  transcription_model: string;
  diarization_model: string;
  max_recording_bytes: number;
  max_audio_seconds: number;
  formats: string[];
  languages: { code: string; name: string }[];
}

export interface Digest {
  sha256: string;
  size_bytes: number;
}

export const JOB_STATES = ['queued', 'running', 'succeeded', 'failed', 'cancelled'] as const;
export type JobState = (typeof JOB_STATES)[number];

export interface JobStage {
  stage: 'decode' | 'transcribe' | 'diarize' | 'merge';
  state: 'waiting' | 'running' | 'succeeded' | 'failed' | 'skipped';
  progress: number;
  seconds: number;
  cached: boolean;
  attempts: number;
  error: Failure | null;
}

export interface Failure {
  reason: string;
  message: string;
}

export interface Job {
  id: string;
  state: JobState;
  recording: Digest;
  name: string;
  submitter: string;
  priority: Priority;
  request_id: string;
  created: number;
  started: number | null;
  ended: number | null;
  partial: boolean;
  error: Failure | null;
  stages: JobStage[];
  from_cache: boolean;
}

/** Interactive jobs, for which a person waits, run before batch jobs. */
export type Priority = 'interactive' | 'batch';

export interface JobOptions {
  language?: string;
  translate?: boolean;
  initial_prompt?: string;
  hotwords?: string[];
  speaker_count?: number;
  min_speaker_count?: number;
  max_speaker_count?: number;
  channel_mode?: 'mix' | 'separate';
  audio_track?: 'auto' | 'all' | 'each' | number;
  use_saved_voices?: boolean;
  skip_cache?: boolean;
}

export interface Word {
  text: string;
  start: number | null;
  end: number | null;
  probability: number | null;
  speaker: string | null;
}

export interface Segment {
  start: number;
  end: number;
  text: string;
  language: string;
  words: Omit<Word, 'speaker'>[];
}

export interface Utterance {
  start: number;
  end: number;
  speaker: string | null;
  language: string;
  text: string;
  words: Word[];
}

export interface Speaker {
  label: string;
  name: string | null;
  similarity: number | null;
}

export interface Notice {
  code: string;
  message: string;
  start: number | null;
  end: number | null;
}

export interface Result {
  name: string;
  duration: number;
  language: string;
  partial: boolean;
  failures: { stage: string; reason: string; message: string }[];
  notices: Notice[];
  speakers: Speaker[];
  utterances: Utterance[];
  transcription_model: string;
  diarization_model: string;
  revision: number;
}

export interface ReplaceUtterances {
  type: 'replace_utterances';
  index: number;
  count: number;
  utterances: Utterance[];
}

export interface RenameSpeaker {
  type: 'rename_speaker';
  speaker: string;
  new_name: string;
  merge: boolean;
}

export type Edit = ReplaceUtterances | RenameSpeaker;

/** What an edit changed: `removed_count` utterances from `index` on became `utterances`. Splices apply in their order. */
export interface Splice {
  index: number;
  removed_count: number;
  utterances: Utterance[];
}

export interface Revision {
  number: number;
  author: string;
  created: number;
  summary: string;
  restored_from: number | null;
}

export interface Waveform {
  duration: number;
  bucket_seconds: number;
  channels: { minima: number[]; maxima: number[] }[];
}

export interface Voice {
  name: string;
  embedding_model: string;
  created: number;
  job_id: string;
}

export type ModelStage = 'transcription' | 'diarization';

export interface CacheStats {
  /** Whether Redis answered; if not, the counts are zero. */
  available: boolean;
  /** Null before the first lookup. */
  hit_rate: number | null;
  entries: number;
  size_bytes: number;
  hits: number;
  misses: number;
  evictions: number;
  expirations: number;
  oldest_entry: number | null;
  newest_entry: number | null;
  max_entries: number;
  ttl_seconds: number;
}

export interface MemoryUsage {
  rss_bytes: number;
  uss_bytes: number;
  gpu_allocated_bytes: number;
  gpu_reserved_bytes: number;
}

export interface MemoryChange {
  before: MemoryUsage;
  after: MemoryUsage;
}

/** A model service, or one of its replicas. What is not known, because it cannot be reached, is null. */
export interface ServiceState {
  stage: ModelStage;
  /** Why it cannot be reached; empty if it can. */
  error: string;
  cache: CacheStats | null;
  memory: MemoryUsage | null;
  models_loaded: boolean | null;
  model: string | null;
  device: string | null;
  in_flight: number | null;
  waiting: number | null;
}

export interface Replica extends ServiceState {
  address: string;
}

export interface SystemStats {
  services: ServiceState[];
  gateway: { memory: MemoryUsage; stored_recordings: number; stored_bytes: number };
}

export interface ClearedCache {
  removed_entries: number;
  removed_bytes: number;
  memory: MemoryChange;
}

export interface ReleasedMemory {
  services: { stage: ModelStage; memory: MemoryChange }[];
  gateway: MemoryChange;
}
