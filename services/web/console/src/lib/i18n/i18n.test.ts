import { expect, it } from 'vitest';
import { en } from './en';
import { preferredLanguage } from './languages';
import { ptBR } from './pt-BR';

it.each([
  [['pt-PT', 'en'], 'pt-BR'],
  [['pt'], 'pt-BR'],
  [['en-GB', 'pt-BR'], 'en'],
  [['de', 'pt-BR', 'en'], 'pt-BR'],
  [['de'], 'en'],
  [[], 'en'],
])('a browser that prefers %j gets %s', (preferences, language) => {
  expect(preferredLanguage(preferences)).toBe(language);
});

/** All texts with their paths; functions are called with examples. */
function texts(value: unknown, path = ''): [string, string][] {
  if (typeof value === 'function') return [[path, String(value(2, 'x'))]];
  if (typeof value === 'string') return [[path, value]];
  return Object.entries(value as object).flatMap(([key, one]) => texts(one, `${path}.${key}`));
}

it('no text is empty, and the languages have the same ones', () => {
  for (const catalogue of [en, ptBR]) {
    expect(texts(catalogue).filter(([, text]) => !text.trim())).toEqual([]);
  }
  expect(texts(ptBR).map(([path]) => path)).toEqual(texts(en).map(([path]) => path));
});
