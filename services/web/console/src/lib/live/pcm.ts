/** Turns what a microphone gives into what the server takes: signed 16-bit PCM at 16 kHz. */

export const SAMPLE_RATE = 16_000;
export const BYTES_PER_SECOND = 2 * SAMPLE_RATE;

/** Zero crossings of the low-pass filter at each side. */
const CROSSINGS = 8;

/** Converts one stream of samples, piece by piece, without a seam between them. */
export class PcmEncoder {
  private readonly step: number;
  private readonly cutoff: number;
  private readonly reach: number;
  private pending: Float32Array;
  /** Where the next sample is in `pending`. */
  private position: number;

  constructor(rate: number) {
    this.step = rate / SAMPLE_RATE;
    this.cutoff = Math.min(1, 1 / this.step);
    this.reach = Math.ceil(CROSSINGS / this.cutoff);
    this.pending = new Float32Array(this.reach);
    this.position = this.reach;
  }

  /** Returns the PCM for the samples, as far as it depends on no later ones. */
  encode(samples: Float32Array): Uint8Array<ArrayBuffer> {
    const input = new Float32Array(this.pending.length + samples.length);
    input.set(this.pending);
    input.set(samples, this.pending.length);
    const values: number[] = [];
    while (this.position + this.reach < input.length) {
      values.push(this.valueAt(input, this.position));
      this.position += this.step;
    }
    const keepFrom = Math.max(0, Math.floor(this.position) - this.reach);
    this.pending = input.slice(keepFrom);
    this.position -= keepFrom;
    return pcmOf(values);
  }

  /** The value of the filtered signal at a position between samples. */
  private valueAt(input: Float32Array, position: number): number {
    let sum = 0;
    const first = Math.ceil(position - this.reach);
    const last = Math.floor(position + this.reach);
    for (let index = Math.max(0, first); index <= last; index += 1) {
      const distance = (position - index) * this.cutoff;
      if (Math.abs(distance) < CROSSINGS) sum += (input[index] ?? 0) * windowedSinc(distance);
    }
    return sum * this.cutoff;
  }
}

function windowedSinc(distance: number): number {
  if (distance === 0) return 1;
  const angle = Math.PI * distance;
  return (Math.sin(angle) / angle) * (0.5 + 0.5 * Math.cos(angle / CROSSINGS));
}

/** Samples from -1 to 1 as bytes; what is louder is cut off. */
export function pcmOf(samples: ArrayLike<number>): Uint8Array<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(2 * samples.length));
  for (let index = 0; index < samples.length; index += 1) {
    const value = Math.max(-1, Math.min(1, samples[index] ?? 0));
    view.setInt16(2 * index, Math.round(value < 0 ? value * 0x8000 : value * 0x7fff), true);
  }
  return new Uint8Array(view.buffer);
}
