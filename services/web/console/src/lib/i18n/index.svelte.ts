/** The language of the console: the browser's, or the one that was chosen. */
import { en, type Messages } from './en';
import { ptBR } from './pt-BR';

export const LANGUAGES = { en: 'English', 'pt-BR': 'Português (Brasil)' } as const;
export type Language = keyof typeof LANGUAGES;

const CATALOGUES: Record<Language, Messages> = { en, 'pt-BR': ptBR };
const STORAGE_KEY = 'careca.language';

/** The best language for what the browser prefers. */
export function preferredLanguage(preferences: readonly string[]): Language {
  for (const preference of preferences) {
    const base = preference.toLowerCase().split('-')[0];
    if (base === 'pt') return 'pt-BR';
    if (base === 'en') return 'en';
  }
  return 'en';
}

class I18n {
  language = $state<Language>(stored() ?? preferredLanguage(navigator.languages));
  readonly t = $derived(CATALOGUES[this.language]);

  choose(language: Language): void {
    this.language = language;
    localStorage.setItem(STORAGE_KEY, language);
  }
}

function stored(): Language | null {
  const value = localStorage.getItem(STORAGE_KEY);
  return value && value in LANGUAGES ? (value as Language) : null;
}

export const i18n = new I18n();
