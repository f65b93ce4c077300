import type { MemoryChange } from '$lib/api/types';
import { formatBytes } from '$lib/format';
import { i18n } from '$lib/i18n/index.svelte';

/** What a process held before and after memory was given back. */
export const memoryText = ({ before, after }: MemoryChange): string =>
  i18n.t.operators.memoryChange(formatBytes(before.rss_bytes, i18n.language), formatBytes(after.rss_bytes, i18n.language));
