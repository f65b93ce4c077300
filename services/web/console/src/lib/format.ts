/** Times, sizes and dates as text. */

/** A time in a recording: `1:02:03`, or `2:03` in the first hour. */
export function formatTime(seconds: number): string {
  const total = Math.max(0, Math.floor(seconds));
  const pad = (value: number): string => String(value).padStart(2, '0');
  const [hours, minutes] = [Math.floor(total / 3600), Math.floor(total / 60) % 60];
  return hours ? `${hours}:${pad(minutes)}:${pad(total % 60)}` : `${minutes}:${pad(total % 60)}`;
}

export function formatBytes(bytes: number, language: string): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  const power = bytes < 1000 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(bytes) / 3));
  const value = bytes / 1000 ** power;
  return `${value.toLocaleString(language, { maximumFractionDigits: value < 10 && power ? 1 : 0 })} ${units[power]}`;
}

export const formatDate = (unix: number, language: string): string =>
  new Date(unix * 1000).toLocaleString(language, { dateStyle: 'medium', timeStyle: 'short' });

export const formatPercent = (fraction: number, language: string): string =>
  fraction.toLocaleString(language, { style: 'percent', maximumFractionDigits: 1 });

/** A length of time in its largest whole unit: `3 days`. */
export function formatDuration(seconds: number, language: string): string {
  const units = [
    ['day', 86_400],
    ['hour', 3600],
    ['minute', 60],
  ] as const;
  const [unit, length] = units.find(([, size]) => seconds >= size) ?? (['second', 1] as const);
  const value = Math.round(seconds / length);
  return new Intl.NumberFormat(language, { style: 'unit', unit, unitDisplay: 'long' }).format(value);
}
