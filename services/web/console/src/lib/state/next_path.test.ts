import { expect, it } from 'vitest';
import { safeNext } from './next_path';

it.each([
  ['?next=%2Fjobs%2F1%3Fa%3Db', '/jobs/1?a=b'],
  ['', '/'],
  ['?next=https%3A%2F%2Fevil.example', '/'],
  ['?next=%2F%2Fevil.example', '/'],
  ['?next=%2F%5Cevil.example', '/'],
  ['?next=javascript%3Aalert(1)', '/'],
])('%s leads to %s', (search, path) => expect(safeNext(search)).toBe(path));
