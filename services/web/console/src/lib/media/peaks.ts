/** Peaks of a waveform, and which of them a picture of some width shows. */
import type { Waveform } from '$lib/api/types';

export interface Peaks {
  start: number;
  bucketSeconds: number;
  /** One value for each bucket, -1 to 1, over all channels. */
  minima: Float32Array;
  maxima: Float32Array;
}

/** The peaks of a server's answer that begins at `start`: all channels in one. */
export function peaksOf(waveform: Waveform, start: number): Peaks {
  const count = Math.max(0, ...waveform.channels.map((channel) => channel.maxima.length));
  const minima = new Float32Array(count);
  const maxima = new Float32Array(count);
  for (const channel of waveform.channels) {
    for (let index = 0; index < count; index += 1) {
      minima[index] = Math.min(minima[index] ?? 0, (channel.minima[index] ?? 0) / 128);
      maxima[index] = Math.max(maxima[index] ?? 0, (channel.maxima[index] ?? 0) / 128);
    }
  }
  return { start, bucketSeconds: waveform.bucket_seconds, minima, maxima };
}

/** The most by which a quiet recording is drawn larger. Above, the steps of the 8-bit peaks would be seen. */
const MAX_GAIN = 16;
/** Values above those of this part of the buckets do not matter for the gain: a click, or a cough. */
const USUAL = 0.98;

/** By what to multiply peaks so that a recording fills its picture, however quiet it is: 1 to 16. */
export function gainOf({ minima, maxima }: Peaks): number {
  const loudness = maxima.map((high, index) => Math.max(high, -(minima[index] ?? 0))).sort();
  const usual = loudness[Math.floor(USUAL * loudness.length)];
  return usual ? Math.min(Math.max(1, 0.9 / usual), MAX_GAIN) : 1;
}

/** The lowest and highest value between two times, times `gain`, -1 to 1; zeros where there are no peaks. */
export function extremes(peaks: Peaks, from: number, to: number, gain = 1): [low: number, high: number] {
  if (peaks.bucketSeconds <= 0) return [0, 0];
  const first = Math.floor((from - peaks.start) / peaks.bucketSeconds);
  const last = Math.max(first + 1, Math.ceil((to - peaks.start) / peaks.bucketSeconds));
  let low = 0;
  let high = 0;
  for (let index = Math.max(0, first); index < Math.min(last, peaks.maxima.length); index += 1) {
    low = Math.min(low, peaks.minima[index] ?? 0);
    high = Math.max(high, peaks.maxima[index] ?? 0);
  }
  return [Math.max(-1, low * gain), Math.min(1, high * gain)];
}

/** The lengths of recording that the zoomed view can show, in seconds. */
export const SPANS = [5, 10, 20, 40, 80, 160, 320, 640] as const;

/** The part of a recording to read for a view: twice its span, at multiples of that, so that parts can be kept. */
export function chunkAt(time: number, span: number): { start: number; end: number } {
  const length = 2 * span;
  const start = Math.floor(Math.max(0, time) / length) * length;
  return { start, end: start + length };
}

/** The start of the view: where it was while the time is in it, and one page on or back otherwise. */
export function viewStart(current: number, span: number, time: number, duration: number): number {
  const last = Math.max(0, duration - span);
  const start = time >= current && time < current + span ? current : time - span / 10;
  return Math.min(Math.max(0, start), last);
}
