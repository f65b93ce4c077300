import { expect, it } from 'vitest';
import { Backlog } from './backlog';

const bytes = (...values: number[]): Uint8Array<ArrayBuffer> => new Uint8Array(values);

function filled(): Backlog {
  const backlog = new Backlog();
  backlog.add(bytes(0, 1, 2));
  backlog.add(bytes());
  backlog.add(bytes(3, 4));
  return backlog;
}

/** All that is to be sent. */
function taken(backlog: Backlog, most = 10): number[][] {
  const parts: number[][] = [];
  for (let part = backlog.take(most); part; part = backlog.take(most)) parts.push([...part]);
  return parts;
}

it('audio is taken once, in order, in parts', () => {
  const backlog = filled();
  expect(backlog.waiting).toBe(5);
  expect(taken(backlog, 2)).toEqual([[0, 1], [2], [3, 4]]);
  expect(backlog.waiting).toBe(0);
  backlog.add(bytes(5));
  expect(taken(backlog)).toEqual([[5]]);
});

it('after a lost connection it continues at what the server does not have', () => {
  const backlog = filled();
  taken(backlog);
  backlog.resume(1);
  expect(taken(backlog)).toEqual([[1, 2], [3, 4]]);
  backlog.resume(4);
  expect(taken(backlog)).toEqual([[4]]);
});

it('only what was sent and confirmed is forgotten', () => {
  const backlog = filled();
  backlog.take(4);
  backlog.forget(99);
  backlog.resume(0);
  expect(taken(backlog)).toEqual([[3, 4]]);
});

it('a piece is kept until the server has all of it', () => {
  const backlog = filled();
  taken(backlog);
  backlog.forget(4);
  backlog.resume(3);
  expect(taken(backlog)).toEqual([[3, 4]]);
});

it('a new session begins with the audio that is left', () => {
  const backlog = filled();
  taken(backlog);
  backlog.forget(3);
  backlog.restart();
  expect(backlog.waiting).toBe(2);
  backlog.resume(0);
  expect(taken(backlog)).toEqual([[3, 4]]);
  backlog.resume(1);
  expect(taken(backlog)).toEqual([[4]]);
});
