/** The audio that the server may not have: it is sent again after a lost connection. Positions are bytes. */

export class Backlog {
  private pieces: Uint8Array<ArrayBuffer>[] = [];
  /** Where the first piece begins. */
  private start = 0;
  private end = 0;
  private next = 0;

  /** How much was not sent on this connection. */
  get waiting(): number {
    return this.end - this.next;
  }

  add(piece: Uint8Array<ArrayBuffer>): void {
    if (!piece.length) return;
    this.pieces.push(piece);
    this.end += piece.length;
  }

  /** The next bytes to send, at most `most`; null if there are none. */
  take(most: number): Uint8Array<ArrayBuffer> | null {
    let begin = this.start;
    for (const piece of this.pieces) {
      if (this.next < begin + piece.length) {
        const part = piece.subarray(this.next - begin, this.next - begin + most);
        this.next += part.length;
        return part;
      }
      begin += piece.length;
    }
    return null;
  }

  /** Forgets whole pieces before `position`, because the server has them. */
  forget(position: number): void {
    let first = this.pieces[0];
    while (first && this.start + first.length <= Math.min(position, this.next)) {
      this.pieces.shift();
      this.start += first.length;
      [first] = this.pieces;
    }
  }

  /** Continues at what the server does not have. */
  resume(position: number): void {
    this.next = Math.max(this.start, Math.min(position, this.end));
    this.forget(position);
  }

  /** Begins a new session with the audio that is left. */
  restart(): void {
    this.end -= this.start;
    this.start = 0;
    this.next = 0;
  }
}
