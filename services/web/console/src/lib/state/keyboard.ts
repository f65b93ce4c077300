/** Whether a key goes into a field, or operates a control, and so is no command of the page. */
export function isTyping(event: KeyboardEvent): boolean {
  const target = event.target as HTMLElement | null;
  return target?.closest?.('input, textarea, select, [contenteditable]') != null || event.isComposing;
}

/** Whether the key operates the focused control itself: a button or a link. */
export const isControl = (event: KeyboardEvent): boolean =>
  (event.target as HTMLElement | null)?.closest?.('button, a, summary, input, textarea, select') != null;
