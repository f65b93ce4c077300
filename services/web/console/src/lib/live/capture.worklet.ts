/** Runs in the audio thread: passes sound on, as one channel, in pieces of an eighth of a second. */

declare const sampleRate: number;
declare class AudioWorkletProcessor {
  readonly port: MessagePort;
}
declare function registerProcessor(name: string, processor: new () => AudioWorkletProcessor): void;

class Capture extends AudioWorkletProcessor {
  private piece = new Float32Array(Math.round(sampleRate / 8));
  private filled = 0;

  process(inputs: Float32Array[][]): boolean {
    const channels = inputs[0] ?? [];
    const length = channels[0]?.length ?? 0;
    for (let index = 0; index < length; index += 1) {
      let sum = 0;
      for (const channel of channels) sum += channel[index] ?? 0;
      this.piece[this.filled] = sum / channels.length;
      this.filled += 1;
      if (this.filled === this.piece.length) this.send();
    }
    return true;
  }

  private send(): void {
    this.port.postMessage(this.piece, [this.piece.buffer]);
    this.piece = new Float32Array(Math.round(sampleRate / 8));
    this.filled = 0;
  }
}

registerProcessor('capture', Capture);
