/** The address of the page. Links are ordinary `<a href>`; a click on one changes the page without loading it anew. */

class Router {
  path = $state(location.pathname);
  search = $state(location.search);

  /** Goes to a path of this site. `replace` leaves no entry for the browser's back button. */
  go(href: string, replace = false): void {
    history[replace ? 'replaceState' : 'pushState'](null, '', href);
    this.update();
    scrollTo(0, 0);
  }

  start(): void {
    addEventListener('popstate', () => this.update());
    document.addEventListener('click', (event) => this.follow(event));
  }

  private update(): void {
    this.path = location.pathname;
    this.search = location.search;
  }

  private follow(event: MouseEvent): void {
    const link = (event.target as Element | null)?.closest?.('a');
    const modified = event.metaKey || event.ctrlKey || event.shiftKey || event.altKey || event.button !== 0;
    if (!link || modified || event.defaultPrevented || link.target || link.hasAttribute('download')) return;
    if (link.origin !== location.origin || /^\/(api|v1|docs|openapi)/.test(link.pathname) || link.hash) return;
    event.preventDefault();
    this.go(link.pathname + link.search);
  }
}

export const router = new Router();
