import { expect, it } from 'vitest';
import { chunkAt, extremes, gainOf, peaksOf, viewStart } from './peaks';

const waveform = {
  duration: 4,
  bucket_seconds: 1,
  channels: [
    { minima: [-64, 0, -128, 0], maxima: [64, 0, 0, 127] },
    { minima: [-32, -32, 0, 0], maxima: [0, 96, 0, 0] },
  ],
};

it('peaks are those of all channels together', () => {
  const { minima, maxima } = peaksOf(waveform, 0);
  expect([...minima]).toEqual([-0.5, -0.25, -1, 0]);
  expect([...maxima]).toEqual([0.5, 0.75, 0, 127 / 128]);
});

it('the extremes between two times are those of the buckets between them', () => {
  const peaks = peaksOf(waveform, 10);
  expect(extremes(peaks, 10, 12)).toEqual([-0.5, 0.75]);
  expect(extremes(peaks, 12.2, 12.3)).toEqual([-1, 0]);
  expect(extremes(peaks, 2, 3)).toEqual([0, 0]);
  expect(extremes(peaks, 99, 100)).toEqual([0, 0]);
});

it('a recording without sound has no extremes', () => {
  expect(extremes(peaksOf({ duration: 0, bucket_seconds: 0, channels: [] }, 0), 0, 1)).toEqual([0, 0]);
});

it('a quiet recording is drawn larger, and one loud moment does not matter', () => {
  const maxima = [...Array<number>(99).fill(16), 127];
  const quiet = peaksOf({ duration: 100, bucket_seconds: 1, channels: [{ minima: maxima.map(() => -16), maxima }] }, 0);
  const gain = gainOf(quiet);
  expect(gain).toBeCloseTo(0.9 * 8);
  expect(extremes(quiet, 0, 1, gain)[1]).toBeCloseTo(0.9);
  expect(extremes(quiet, 99, 100, gain)[1]).toBe(1);
  expect(gainOf(peaksOf(waveform, 0))).toBe(1);
  expect(gainOf(peaksOf({ duration: 1, bucket_seconds: 1, channels: [{ minima: [0], maxima: [0] }] }, 0))).toBe(1);
});

it('chunks do not move while the view moves inside them', () => {
  expect(chunkAt(0, 20)).toEqual({ start: 0, end: 40 });
  expect(chunkAt(39.9, 20)).toEqual({ start: 0, end: 40 });
  expect(chunkAt(40, 20)).toEqual({ start: 40, end: 80 });
});

it.each([
  [0, 10, 5, 100, 0],
  [0, 10, 10, 100, 9],
  [50, 10, 2, 100, 1],
  [50, 10, 0, 100, 0],
  [0, 10, 99, 100, 90],
  [0, 10, 3, 4, 0],
])('a view at %d of %d s that is to show %d of %d s starts at %d', (current, span, time, duration, start) => {
  expect(viewStart(current, span, time, duration)).toBe(start);
});
