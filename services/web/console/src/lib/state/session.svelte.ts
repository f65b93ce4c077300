/** Who is signed in, and what the server offers. */
import { handleSignedOut } from '$lib/api/http';
import { readInfo } from '$lib/api/info';
import { readSession, signIn, signOut } from '$lib/api/session';
import type { Info, Session } from '$lib/api/types';
import { router } from './router.svelte';

/** Timers cannot wait longer than this. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

class SessionState {
  current = $state.raw<Session | null>(null);
  info = $state.raw<Info | null>(null);
  /** Whether a session ended by itself, so that the sign-in page says why it is shown. */
  expired = $state(false);
  readonly isAdmin = $derived(this.current?.signed_in === true && this.current.role === 'admin');
  private timer: ReturnType<typeof setTimeout> | undefined;

  async start(): Promise<void> {
    handleSignedOut(() => this.expire());
    await this.use(await readSession());
  }

  async signIn(token: string): Promise<void> {
    await this.use(await signIn(token));
    this.expired = false;
  }

  async signOut(): Promise<void> {
    await signOut();
    location.assign('/signin'); // a new page, so that nothing of this person stays in it
  }

  private async use(session: Session): Promise<void> {
    this.current = session;
    clearTimeout(this.timer);
    if (!session.signed_in) return;
    this.info = await readInfo();
    if (session.expires === null) return;
    const left = session.expires * 1000 - Date.now();
    this.timer = setTimeout(() => this.expire(), Math.min(Math.max(0, left), LONGEST_TIMER_MS));
  }

  private expire(): void {
    if (!this.current?.signed_in) return;
    this.current = { ...this.current, signed_in: false };
    this.expired = true;
    router.go(`/signin?next=${encodeURIComponent(router.path + router.search)}`, true);
  }
}

export const session = new SessionState();
