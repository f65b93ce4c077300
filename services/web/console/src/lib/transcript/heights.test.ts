import { describe, expect, it } from 'vitest';
import { Heights, visibleRange } from './heights';

/** A list as the plain sums say, to compare with. */
function naive(heights: number[], offset: number): number {
  let sum = 0;
  for (let index = 0; index < heights.length; index += 1) {
    sum += heights[index]!;
    if (offset < sum) return index;
  }
  return heights.length - 1;
}

describe.each([0, 1, 2, 7, 8, 9, 1000])('a list of %i rows', (count) => {
  const values = Array.from({ length: count }, (_, index) => 10 + ((index * 7919) % 31));

  it('has the sums of its heights as offsets, also after changes', () => {
    const heights = new Heights(values);
    const expected = values.slice();
    for (let index = 0; index < count; index += 3) {
      expect(heights.set(index, 50)).toBe(50 - expected[index]!);
      expected[index] = 50;
    }
    for (let index = 0; index <= count; index += 1) {
      expect(heights.offset(index)).toBe(expected.slice(0, index).reduce((sum, value) => sum + value, 0));
    }
    expect(heights.total).toBe(heights.offset(count));
  });

  it('finds the row at each offset', () => {
    const heights = new Heights(values);
    if (count === 0) return expect(heights.indexAt(5)).toBe(0);
    for (let offset = 0; offset < heights.total + 20; offset += 3) {
      expect(heights.indexAt(offset)).toBe(naive(values, offset));
    }
  });
});

it('only the rows in the window, and those in its margin, are visible', () => {
  const heights = new Heights(Array.from({ length: 100 }, () => 10));
  expect(visibleRange(heights, 0, 50, 0)).toEqual({ first: 0, last: 6 });
  expect(visibleRange(heights, 200, 50, 20)).toEqual({ first: 18, last: 28 });
  expect(visibleRange(heights, 990, 50, 20)).toEqual({ first: 97, last: 100 });
  expect(visibleRange(new Heights([]), 0, 50, 20)).toEqual({ first: 0, last: 0 });
});
