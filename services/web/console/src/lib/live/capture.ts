/** Sound of a microphone or of a shared tab, as PCM. */
import workletUrl from './capture.worklet.ts?worker&url';
import { PcmEncoder } from './pcm';

export const SOURCES = ['microphone', 'tab'] as const;
export type Source = (typeof SOURCES)[number];

/** What was shared has no sound. */
export class NoSoundError extends Error {}

export class Capture {
  private constructor(
    private readonly stream: MediaStream,
    private readonly context: AudioContext,
  ) {}

  /** Whether the browser lets this page use such a source at all. */
  static available(source: Source): boolean {
    const devices = globalThis.navigator?.mediaDevices;
    return Boolean(source === 'tab' ? devices?.getDisplayMedia : devices) && 'AudioWorkletNode' in globalThis;
  }

  /** Starts. Throws a DOMException if the person or the browser refuses, and a NoSoundError. */
  static async start(source: Source, onpcm: (pcm: Uint8Array<ArrayBuffer>) => void, onend: () => void): Promise<Capture> {
    const stream = await open(source);
    const [track] = stream.getAudioTracks();
    if (!track) {
      stop(stream);
      throw new NoSoundError();
    }
    track.addEventListener('ended', onend);
    const context = new AudioContext();
    try {
      await context.audioWorklet.addModule(workletUrl);
      const node = new AudioWorkletNode(context, 'capture', { numberOfOutputs: 0 });
      const encoder = new PcmEncoder(context.sampleRate);
      node.port.onmessage = ({ data }: MessageEvent<Float32Array>) => onpcm(encoder.encode(data));
      context.createMediaStreamSource(new MediaStream([track])).connect(node);
      await context.resume();
    } catch (error) {
      stop(stream);
      await context.close();
      throw error;
    }
    return new Capture(stream, context);
  }

  stop(): void {
    stop(this.stream);
    void this.context.close();
  }
}

function open(source: Source): Promise<MediaStream> {
  const { mediaDevices } = navigator;
  // Browsers' filters are made for calls: they remove voices that come from a loudspeaker, and make others less alike.
  const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  if (source === 'microphone') return mediaDevices.getUserMedia({ audio });
  return mediaDevices.getDisplayMedia({ video: true, audio }); // browsers share no sound without a picture
}

function stop(stream: MediaStream): void {
  stream.getTracks().forEach((track) => track.stop());
}
