/** Dark or light: as the system says, or as it was chosen. The styles read the attribute `data-theme` of the page. */

export const THEMES = ['auto', 'light', 'dark'] as const;
export type Theme = (typeof THEMES)[number];

const STORAGE_KEY = 'careca.theme';

class ThemeState {
  chosen = $state<Theme>(THEMES.find((theme) => theme === localStorage.getItem(STORAGE_KEY)) ?? 'auto');
  /** Grows when the colours change, so that canvases draw themselves again. */
  version = $state(0);

  start(): void {
    this.show();
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => (this.version += 1));
  }

  choose(theme: Theme): void {
    this.chosen = theme;
    localStorage.setItem(STORAGE_KEY, theme);
    this.show();
  }

  private show(): void {
    document.documentElement.dataset.theme = this.chosen;
    this.version += 1;
  }
}

export const theme = new ThemeState();

/** The value of a colour of the styles, for canvases: they cannot use variables. */
export function colour(name: string): string {
  const probe = document.createElement('span');
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}
