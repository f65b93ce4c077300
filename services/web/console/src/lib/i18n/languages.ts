/** The languages of the console, and which one fits a browser. */

export const LANGUAGES = { en: 'English', 'pt-BR': 'Português' } as const;
export type Language = keyof typeof LANGUAGES;

/** The best language for what the browser prefers. */
export function preferredLanguage(preferences: readonly string[]): Language {
  for (const preference of preferences) {
    const base = preference.toLowerCase().split('-')[0];
    if (base === 'pt') return 'pt-BR';
    if (base === 'en') return 'en';
  }
  return 'en';
}
