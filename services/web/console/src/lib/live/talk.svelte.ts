/** A talk that is transcribed while people speak: its sound, its connection, and its captions. */
import { beginAgain, NO_CAPTIONS, receive, type Captions } from './captions';
import { Capture, type Source } from './capture';
import { LiveConnection } from './connection';
import type { LiveError, LiveOptions } from './messages';

export type Phase = 'idle' | 'starting' | 'live' | 'paused' | 'ending' | 'ended';

export interface TalkWatcher {
  /** The result of the session is the transcript of this job. */
  done(jobId: string): void;
  /** The session has ended, and nothing was said in it. */
  nothing(): void;
  restarted(): void;
  failed(error: LiveError): void;
}

export class Talk {
  phase = $state<Phase>('idle');
  captions = $state.raw<Captions>(NO_CAPTIONS);
  connected = $state(false);
  readonly running = $derived(this.phase === 'live' || this.phase === 'paused');
  private capture: Capture | null = null;
  private connection: LiveConnection | null = null;

  constructor(private readonly watcher: TalkWatcher) {}

  /** Starts. Throws a DOMException or a NoSoundError if there is no sound. */
  async start(source: Source, options: LiveOptions): Promise<void> {
    this.phase = 'starting';
    try {
      this.capture = await Capture.start(
        source,
        (pcm) => {
          if (this.phase === 'live') this.connection?.send(pcm);
        },
        () => this.stop(),
      );
    } catch (error) {
      this.phase = 'idle';
      throw error;
    }
    this.captions = NO_CAPTIONS;
    this.phase = 'live';
    this.connection = new LiveConnection(options, {
      connected: (connected) => (this.connected = connected),
      event: (event) => {
        this.captions = receive(this.captions, event);
        if (event.type === 'ended') this.ended();
        if (event.type === 'result') this.watcher.done(event.job_id);
      },
      restarted: () => {
        const { jobId } = this.captions;
        if (jobId !== null) {
          this.release();
          this.watcher.done(jobId);
          return;
        }
        this.captions = beginAgain(this.captions);
        this.watcher.restarted();
      },
      failed: (error) => {
        this.release();
        this.watcher.failed(error);
      },
    });
  }

  pause(): void {
    this.phase = 'paused';
  }

  resume(): void {
    this.phase = 'live';
  }

  /** Ends the talk. The transcript follows. */
  stop(): void {
    if (!this.running) return;
    this.phase = 'ending';
    this.stopCapture();
    this.connection?.end();
  }

  /** Ends the talk without waiting for its transcript, which will be in the history. */
  leave(): void {
    this.stop();
    this.connection?.close();
    this.stopCapture();
  }

  /** The session has ended: because of `stop`, or by itself after a long pause. */
  private ended(): void {
    this.stopCapture();
    this.phase = 'ended';
    if (this.captions.jobId !== null) return;
    this.release();
    this.watcher.nothing();
  }

  private release(): void {
    this.stopCapture();
    this.connection?.close();
    this.connection = null;
    this.phase = 'idle';
  }

  private stopCapture(): void {
    this.capture?.stop();
    this.capture = null;
  }
}
