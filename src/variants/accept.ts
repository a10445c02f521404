/** Which format a client is given that leaves the choice to us: proactive negotiation, RFC 9110 section 12.5.1. */
import { FORMATS, type Format, mediaTypeOf } from './options.ts';

/** Among those that the client names and likes equally: the smallest first. */
const NAMED_ORDER: readonly Format[] = ['avif', 'webp', 'jpeg', 'png'];
/** Whoever only says that all is welcome may not know the newest; WebP keeps what is transparent. */
const WILDCARD_ORDER: readonly Format[] = ['webp', 'jpeg', 'png', 'avif'];

/** More specific ranges come first in precedence. */
const EXACT = 2;
const FAMILY = 1;
const ANY = 0;

interface Preference {
  /** 0 to 1. */
  weight: number;
  precedence: number;
}

/** qvalue of section 12.4.2. */
const weightPattern = /^(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)$/;

/**
 * @param header value of Accept; absent, or without a range that can be read: anything is welcome
 * @returns undefined when no format is welcome
 */
export function chooseFormat(header: string | undefined): Format | undefined {
  const ranges = rangesIn(header ?? '');
  const preferences = FORMATS.map((format) => ({ format, ...preferenceFor(mediaTypeOf(format), ranges) }));
  const [best] = preferences.filter(({ weight }) => weight > 0).sort(compare);
  return best?.format;
}

interface MediaRange {
  range: string;
  weight: number;
}

/** A range with parameters of its own, such as `image/webp;codecs=x`, means fewer files than ours and is passed over. */
function rangesIn(header: string): MediaRange[] {
  return header.split(',').flatMap((element) => {
    const [range = '', ...parameters] = element.split(';').map((part) => part.trim().toLowerCase());
    const isRange = /^[a-z0-9!#$&^_.+*-]+\/[a-z0-9!#$&^_.+*-]+$/.test(range);
    const weight = weightOf(parameters);
    return isRange && weight !== undefined ? [{ range, weight }] : [];
  });
}

function weightOf(parameters: string[]): number | undefined {
  if (parameters.length === 0) return 1;
  const [first = ''] = parameters;
  const value = /^q=(.*)$/.exec(first)?.[1];
  return value !== undefined && weightPattern.test(value) ? Number(value) : undefined;
}

/** The most specific range that holds the type decides, whatever stands before it. */
function preferenceFor(mediaType: string, ranges: MediaRange[]): Preference {
  if (ranges.length === 0) return { weight: 1, precedence: ANY };
  const precedences: [range: string, precedence: number][] = [
    [mediaType, EXACT],
    ['image/*', FAMILY],
    ['*/*', ANY],
  ];
  for (const [name, precedence] of precedences) {
    const found = ranges.find(({ range }) => range === name);
    if (found) return { weight: found.weight, precedence };
  }
  return { weight: 0, precedence: ANY };
}

type Choice = Preference & { format: Format };

function compare(a: Choice, b: Choice): number {
  if (a.weight !== b.weight) return b.weight - a.weight;
  const named = Number(b.precedence === EXACT) - Number(a.precedence === EXACT);
  if (named !== 0) return named;
  const order = a.precedence === EXACT ? NAMED_ORDER : WILDCARD_ORDER;
  return order.indexOf(a.format) - order.indexOf(b.format);
}
