/** The messages of `/api/live`: what this page sends, and what the server tells. Times are seconds. */
import type { Result } from '$lib/api/types';

/** What to ask for at the start of a session. */
export interface LiveOptions {
  language?: string;
  hotwords?: string[];
  speaker_count?: number;
  min_speaker_count?: number;
  max_speaker_count?: number;
  use_saved_voices?: boolean;
  display_name?: string;
}

export interface LiveWord {
  text: string;
  start: number | null;
  end: number | null;
  probability: number | null;
  speaker: string | null;
}

interface Position {
  /** From 1; 0 for events that are not sent again after a lost connection. */
  event_number: number;
  audio_seconds: number;
  behind_seconds: number;
}

interface Speech {
  language: string;
  text: string;
  words: LiveWord[];
}

export interface Started extends Position {
  type: 'started';
  session_id: string;
  received_bytes: number;
}
export interface Interim extends Position, Speech {
  type: 'interim';
}
export interface Final extends Position, Speech {
  type: 'final';
  first_word: number;
}
export interface SpeakerCorrection extends Position {
  type: 'speaker_correction';
  first_word: number;
  word_count: number;
  speaker: string;
}
export interface UtteranceEnd extends Position {
  type: 'utterance_end';
}
export interface LiveNotice extends Position {
  type: 'notice';
  code: string;
  message: string;
}
export interface Ended extends Position {
  type: 'ended';
  /** Null if there was no audio. */
  job_id: string | null;
}
export interface LiveResult extends Position {
  type: 'result';
  job_id: string;
  result: Result;
}
/** The server has lost its own connection. It continues by itself, and nothing is lost. */
export interface Reconnecting {
  type: 'reconnecting';
  attempt: number;
  delay_seconds: number;
}
export interface LiveError {
  type: 'error';
  status: number;
  reason: string;
  detail: string;
  retry_after_seconds: number | null;
  request_id: string;
}

export type LiveEvent =
  | Started
  | Interim
  | Final
  | SpeakerCorrection
  | UtteranceEnd
  | LiveNotice
  | Ended
  | LiveResult
  | Reconnecting;
export type LiveMessage = LiveEvent | LiveError;
