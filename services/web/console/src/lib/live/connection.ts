/** The WebSocket of a live session. After a lost connection it continues the session by itself. */
import { Backlog } from './backlog';
import type { LiveError, LiveEvent, LiveMessage, LiveOptions } from './messages';
import { BYTES_PER_SECOND } from './pcm';

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10_000;
const PUMP_MS = 250;
const LARGEST_MESSAGE = 1 << 16;
/** With this much in the browser's own queue, nothing is added to it. */
const MOST_BUFFERED = 1 << 20;
/** Errors after which it is worth connecting again. */
const TEMPORARY = new Set([429, 503, 504, 507]);

export interface LiveWatcher {
  event(event: LiveEvent): void;
  /** Whether events and audio go through. */
  connected(connected: boolean): void;
  /** The server knows the session no longer; a new one begins with the audio that it does not have. */
  restarted(): void;
  /** The session cannot go on. */
  failed(error: LiveError): void;
}

export class LiveConnection {
  private readonly backlog = new Backlog();
  private socket: WebSocket | null = null;
  private sessionId = '';
  private lastEvent = 0;
  private ready = false;
  private ending = false;
  private endSent = false;
  private closed = false;
  private pause = FIRST_PAUSE_MS;
  private retry: ReturnType<typeof setTimeout> | undefined;
  private readonly pump: ReturnType<typeof setInterval>;

  constructor(
    private readonly options: LiveOptions,
    private readonly watcher: LiveWatcher,
  ) {
    this.pump = setInterval(() => this.sendWaiting(), PUMP_MS);
    this.connect();
  }

  send(pcm: Uint8Array<ArrayBuffer>): void {
    this.backlog.add(pcm);
    this.sendWaiting();
  }

  /** Says that no more audio follows. */
  end(): void {
    this.ending = true;
    this.sendWaiting();
  }

  close(): void {
    this.closed = true;
    clearTimeout(this.retry);
    clearInterval(this.pump);
    this.socket?.close();
  }

  private connect(): void {
    const socket = new WebSocket(new URL('/api/live', location.href.replace(/^http/, 'ws')));
    this.socket = socket;
    this.ready = this.endSent = false;
    let error: LiveError | null = null;
    socket.addEventListener('open', () => {
      const config = this.sessionId ? { session_id: this.sessionId, after_event: this.lastEvent } : this.options;
      socket.send(JSON.stringify(config));
    });
    socket.addEventListener('message', ({ data }: MessageEvent<string>) => {
      const message = JSON.parse(data) as LiveMessage;
      if (message.type === 'error') error = message;
      else this.receive(message);
    });
    socket.addEventListener('close', () => {
      if (!this.closed) this.lost(error);
    });
  }

  private lost(error: LiveError | null): void {
    this.ready = false;
    this.watcher.connected(false);
    if (error?.reason === 'SESSION_NOT_FOUND') {
      this.sessionId = '';
      this.lastEvent = 0;
      this.backlog.restart();
      this.watcher.restarted();
      if (!this.closed) this.connect();
      return;
    }
    if (error && !TEMPORARY.has(error.status)) {
      this.close();
      this.watcher.failed(error);
      return;
    }
    this.retry = setTimeout(() => this.connect(), this.pause);
    this.pause = Math.min(2 * this.pause, LONGEST_PAUSE_MS);
  }

  private receive(event: LiveEvent): void {
    if (event.type === 'started' && !this.ready) {
      this.ready = true;
      this.pause = FIRST_PAUSE_MS;
      this.sessionId = event.session_id;
      this.backlog.resume(event.received_bytes);
      this.watcher.connected(true);
    }
    if (event.type !== 'reconnecting') {
      this.lastEvent = Math.max(this.lastEvent, event.event_number);
      // Whole seconds: the end of a sample must not be rounded up.
      this.backlog.forget(Math.floor(event.audio_seconds + event.behind_seconds) * BYTES_PER_SECOND);
    }
    const isLast = event.type === 'result' || (event.type === 'ended' && event.job_id === null);
    if (isLast) this.close();
    this.watcher.event(event);
    this.sendWaiting();
  }

  private sendWaiting(): void {
    const { socket } = this;
    if (!socket || !this.ready || this.closed) return;
    while (socket.bufferedAmount < MOST_BUFFERED) {
      const part = this.backlog.take(LARGEST_MESSAGE);
      if (!part) break;
      socket.send(part);
    }
    if (this.ending && !this.endSent && !this.backlog.waiting) {
      this.endSent = true;
      socket.send(JSON.stringify({ type: 'end' }));
    }
  }
}
