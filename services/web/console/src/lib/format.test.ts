import { expect, it } from 'vitest';
import { formatBytes, formatDuration, formatTime } from './format';

it.each([
  [0, '0:00'],
  [59.9, '0:59'],
  [61, '1:01'],
  [3600, '1:00:00'],
  [36_061, '10:01:01'],
  [-1, '0:00'],
])('%d s is %s', (seconds, text) => expect(formatTime(seconds)).toBe(text));

it.each([
  [0, '0 B'],
  [999, '999 B'],
  [1500, '1.5 kB'],
  [25_400_000, '25 MB'],
  [2e15, '2,000 TB'],
])('%d bytes are %s', (bytes, text) => expect(formatBytes(bytes, 'en')).toBe(text));

it.each([
  [30, '30 seconds'],
  [5400, '2 hours'],
  [604_800, '7 days'],
])('%d s are %s', (seconds, text) => expect(formatDuration(seconds, 'en')).toBe(text));
