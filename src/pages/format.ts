/** Sizes, times and kinds of files as people read them. */
import type { PageFile } from './model.ts';
import { type Language, texts } from './texts.ts';

const UNITS = ['byte', 'kilobyte', 'megabyte', 'gigabyte', 'terabyte', 'petabyte'] as const;

/** Making one takes longer than the rest of a page. */
const sizeFormats = new Map<string, Intl.NumberFormat>();
const timeFormats = new Map<Language, Intl.DateTimeFormat>();

/** In units of 1,000, as browsers and file managers tell it: `2.4 MB`. */
export function formatSize(bytes: number, language: Language): string {
  const digits = bytes < 1 ? 0 : Math.floor(Math.log10(bytes));
  const step = Math.min(Math.floor(digits / 3), UNITS.length - 1);
  const value = bytes / 1000 ** step;
  const key = `${language} ${step}`;
  let format = sizeFormats.get(key);
  if (!format) {
    const unit = UNITS[step] ?? 'byte';
    const unitDisplay = step === 0 ? 'long' : 'short';
    format = new Intl.NumberFormat(language, { style: 'unit', unit, unitDisplay, maximumSignificantDigits: 3 });
    sizeFormats.set(key, format);
  }
  // The number stays with its unit.
  return format.format(value).replaceAll(' ', '\u00a0');
}

/** To the minute, in UTC: the server does not know where the reader is. */
export function formatTime(time: string, language: Language): string {
  let format = timeFormats.get(language);
  if (!format) {
    format = new Intl.DateTimeFormat(language, { dateStyle: 'long', timeStyle: 'short', timeZone: 'UTC' });
    timeFormats.set(language, format);
  }
  return `${format.format(new Date(time))} UTC`;
}

/** `3:07`, `1:02:03`. */
export function formatDuration(seconds: number): string {
  const whole = Math.round(seconds);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const two = (value: number) => String(value).padStart(2, '0');
  return hours > 0 ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

/** `Picture`, `PDF document`, `File`. */
export function kindOf({ kind, mediaType }: Pick<PageFile, 'kind' | 'mediaType'>, language: Language): string {
  const { kinds } = texts[language];
  if (mediaType === 'application/pdf') return kinds.pdf;
  if (mediaType === 'application/zip') return kinds.archive;
  if (kind === 'file' && mediaType.startsWith('text/')) return kinds.text;
  return kinds[kind];
}

/** `PDF`, `JPG`; what stands in the place of a picture. Nothing where the name does not tell. */
export function extensionOf(name: string): string | undefined {
  return /\.([a-z0-9]{1,5})$/i.exec(name)?.[1]?.toUpperCase();
}
