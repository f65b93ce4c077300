/** Records from the microphone, in a format that the browser chooses. */

const TYPES = ['audio/webm;codecs=opus', 'audio/mp4', 'audio/ogg;codecs=opus'];

export class Microphone {
  seconds = $state(0);
  recording = $state(false);
  private recorder: MediaRecorder | null = null;
  private parts: Blob[] = [];
  private timer: ReturnType<typeof setInterval> | undefined;

  /** Whether the browser lets this page use a microphone at all. */
  static get available(): boolean {
    return Boolean(globalThis.navigator?.mediaDevices) && 'MediaRecorder' in globalThis;
  }

  /** Starts to record. Throws a DOMException if the person or the browser refuses. */
  async start(): Promise<void> {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    const mimeType = TYPES.find((type) => MediaRecorder.isTypeSupported(type));
    this.recorder = new MediaRecorder(stream, mimeType ? { mimeType } : {});
    this.parts = [];
    this.recorder.addEventListener('dataavailable', (event) => this.parts.push(event.data));
    this.recorder.start(1000);
    this.recording = true;
    this.seconds = 0;
    const started = performance.now();
    this.timer = setInterval(() => (this.seconds = (performance.now() - started) / 1000), 250);
  }

  /** Stops, and returns what was recorded as a file. */
  async stop(name: string): Promise<File> {
    const recorder = this.recorder;
    if (!recorder) throw new Error('Nothing is being recorded.');
    await new Promise<void>((resolve) => {
      recorder.addEventListener('stop', () => resolve(), { once: true });
      recorder.stop();
    });
    this.end();
    const type = recorder.mimeType.split(';')[0] ?? '';
    return new File(this.parts, `${name}.${type.split('/')[1] ?? 'webm'}`, { type });
  }

  discard(): void {
    if (this.recording) this.recorder?.stop();
    this.end();
  }

  private end(): void {
    clearInterval(this.timer);
    this.recording = false;
    this.recorder?.stream.getTracks().forEach((track) => track.stop());
    this.recorder = null;
  }
}
