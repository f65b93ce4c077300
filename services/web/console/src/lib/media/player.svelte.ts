/** The sound of a recording: an audio element whose time can be followed frame by frame. */
import { ApiError } from '$lib/api/http';

export const SPEEDS = [0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 2.5, 3] as const;
export const SEEK_SECONDS = 5;

export class Player {
  time = $state(0);
  playing = $state(false);
  speed = $state<number>(1);
  failed = $state(false);
  private audio: HTMLAudioElement | null = null;
  private frame = 0;

  constructor(readonly duration: number) {}

  /** Takes note that the recording is no longer stored. Everything else that went wrong is thrown on. */
  missing(error: unknown): void {
    if (!(error instanceof ApiError && error.status === 404)) throw error;
    this.failed = true;
  }

  /** Takes the audio element of the page. To be used as an attachment. */
  attach = (audio: HTMLAudioElement): (() => void) => {
    this.audio = audio;
    audio.playbackRate = this.speed;
    const follow = (): void => {
      this.time = audio.currentTime;
      if (!audio.paused) this.frame = requestAnimationFrame(follow);
    };
    const handlers: Record<string, () => void> = {
      play: () => {
        this.playing = true;
        this.failed = false;
        cancelAnimationFrame(this.frame);
        follow();
      },
      pause: () => (this.playing = false),
      ended: () => (this.playing = false),
      seeked: () => (this.time = audio.currentTime),
      // Hidden pages get no frames.
      timeupdate: () => (this.time = audio.currentTime),
      error: () => (this.failed = true),
    };
    for (const [type, handle] of Object.entries(handlers)) audio.addEventListener(type, handle);
    return () => {
      cancelAnimationFrame(this.frame);
      for (const [type, handle] of Object.entries(handlers)) audio.removeEventListener(type, handle);
      audio.pause();
      this.audio = null;
    };
  };

  toggle(): void {
    if (this.playing) this.audio?.pause();
    else this.play();
  }

  /** Plays on, or from `time`. */
  play(time?: number): void {
    if (time !== undefined) this.seek(time);
    this.audio?.play().catch((error: unknown) => {
      // AbortError: paused again before it began. Everything else means that it cannot be played.
      if (!(error instanceof DOMException && error.name === 'AbortError')) this.failed = true;
    });
  }

  seek(time: number): void {
    const target = Math.min(Math.max(0, time), this.duration);
    this.time = target;
    if (this.audio) this.audio.currentTime = target;
  }

  skip(seconds: number): void {
    this.seek(this.time + seconds);
  }

  setSpeed(speed: number): void {
    this.speed = speed;
    if (this.audio) this.audio.playbackRate = speed;
  }

  /** The next faster (1) or slower (-1) speed. */
  changeSpeed(steps: 1 | -1): void {
    const index = SPEEDS.findIndex((speed) => speed >= this.speed);
    this.setSpeed(SPEEDS[Math.min(Math.max(0, index + steps), SPEEDS.length - 1)] ?? 1);
  }
}
