import { expect, it } from 'vitest';
import { PcmEncoder, pcmOf, SAMPLE_RATE } from './pcm';

const sine = (hertz: number, rate: number, seconds: number): Float32Array =>
  Float32Array.from({ length: rate * seconds }, (_, index) => 0.5 * Math.sin((2 * Math.PI * hertz * index) / rate));

/** The samples of PCM, from -1 to 1. */
function samplesOf(pcm: Uint8Array): number[] {
  const view = new DataView(pcm.buffer, pcm.byteOffset, pcm.byteLength);
  return Array.from({ length: pcm.length / 2 }, (_, index) => view.getInt16(2 * index, true) / 0x8000);
}

function encode(rate: number, samples: Float32Array, piece: number): number[] {
  const encoder = new PcmEncoder(rate);
  const found: number[] = [];
  for (let begin = 0; begin < samples.length; begin += piece) {
    found.push(...samplesOf(encoder.encode(samples.subarray(begin, begin + piece))));
  }
  return found;
}

const rms = (samples: readonly number[]): number => Math.hypot(...samples) / Math.sqrt(samples.length);

it('samples become little-endian numbers, and what is too loud is cut off', () => {
  expect([...pcmOf([0, 1, -1, 2, -2, 0.5])]).toEqual([0, 0, 0xff, 0x7f, 0, 0x80, 0xff, 0x7f, 0, 0x80, 0, 0x40]);
});

it.each([8_000, 16_000, 44_100, 48_000])('a tone at %d Hz is the same tone at 16 kHz', (rate) => {
  const found = encode(rate, sine(440, rate, 1), 1000);
  const expected = sine(440, SAMPLE_RATE, 1);
  expect(found.length).toBeGreaterThan(SAMPLE_RATE - 100);
  expect(found.length).toBeLessThanOrEqual(SAMPLE_RATE);
  const errors = found.slice(100, -100).map((value, index) => value - (expected[index + 100] ?? 0));
  expect(rms(errors)).toBeLessThan(0.005);
});

it('the division into pieces changes nothing', () => {
  const samples = sine(700, 44_100, 0.5);
  expect(encode(44_100, samples, 128)).toEqual(encode(44_100, samples, samples.length));
});

it('what 16 kHz cannot have does not come back as another tone', () => {
  const found = encode(48_000, sine(12_000, 48_000, 1), 4800);
  expect(rms(found.slice(100))).toBeLessThan(0.005);
});
