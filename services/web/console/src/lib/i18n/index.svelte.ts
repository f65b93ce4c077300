/** The language of the console: the browser's, or the one that was chosen. */
import { en, type Messages } from './en';
import { LANGUAGES, preferredLanguage, type Language } from './languages';
import { ptBR } from './pt-BR';

export { LANGUAGES, type Language };

const CATALOGUES: Record<Language, Messages> = { en, 'pt-BR': ptBR };
const STORAGE_KEY = 'careca.language';

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
