/** The heights of the rows of a virtual list: measured where a row was shown, estimated where not. */

/** Sums of heights in a Fenwick tree: reading an offset and changing a height cost O(log n). */
export class Heights {
  private sums: Float64Array;
  private heights: Float64Array;

  constructor(heights: ArrayLike<number>) {
    this.heights = Float64Array.from(heights);
    this.sums = new Float64Array(this.heights.length + 1);
    for (let index = 1; index < this.sums.length; index += 1) {
      this.sums[index] = (this.sums[index] ?? 0) + (this.heights[index - 1] ?? 0);
      const parent = index + (index & -index);
      if (parent < this.sums.length) this.sums[parent] = (this.sums[parent] ?? 0) + (this.sums[index] ?? 0);
    }
  }

  get length(): number {
    return this.heights.length;
  }

  get total(): number {
    return this.offset(this.length);
  }

  height(index: number): number {
    return this.heights[index] ?? 0;
  }

  /** Sets a row's height. Returns by how much it changed. */
  set(index: number, height: number): number {
    const change = height - this.height(index);
    if (index >= this.length || change === 0) return 0;
    this.heights[index] = height;
    for (let node = index + 1; node < this.sums.length; node += node & -node) {
      this.sums[node] = (this.sums[node] ?? 0) + change;
    }
    return change;
  }

  /** The distance of the top of row `index` from the top of the list. */
  offset(index: number): number {
    let sum = 0;
    for (let node = Math.min(index, this.length); node > 0; node -= node & -node) sum += this.sums[node] ?? 0;
    return sum;
  }

  /** The row that contains the distance `offset` from the top; the first or last row beyond the ends. */
  indexAt(offset: number): number {
    let index = 0;
    let rest = offset;
    let step = 2 ** Math.floor(Math.log2(Math.max(1, this.length)));
    for (; step >= 1; step /= 2) {
      const sum = this.sums[index + step];
      if (sum !== undefined && sum <= rest) {
        index += step;
        rest -= sum;
      }
    }
    return Math.max(0, Math.min(index, this.length - 1));
  }
}

/** The rows to show for a scrolled window: from `first` to before `last`. */
export function visibleRange(
  heights: Heights,
  scrollTop: number,
  windowHeight: number,
  margin: number,
): { first: number; last: number } {
  if (heights.length === 0) return { first: 0, last: 0 };
  const first = heights.indexAt(Math.max(0, scrollTop - margin));
  const last = heights.indexAt(scrollTop + windowHeight + margin) + 1;
  return { first, last };
}
