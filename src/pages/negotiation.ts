/** Whether whoever asks wants a page or JSON, and in which language: proactive negotiation, RFC 9110 section 12.5. */
import type { FastifyRequest } from 'fastify';
import { LANGUAGES, type Language } from './texts.ts';

/**
 * Programs that show a preview of a link in a chat. They read the Open Graph fields of the page, but say that they take
 * anything. Those that name a type are served by what they name.
 */
const LINK_PREVIEWS =
  /facebookexternalhit|facebot|twitterbot|slackbot|discordbot|telegrambot|whatsapp|linkedinbot|skypeuripreview|mastodon|pinterestbot|bluesky|iframely|embedly|redditbot|signal\//i;

/**
 * A page for who names HTML and likes it at least as much as JSON, as browsers do; JSON for all others, such as curl, which
 * takes anything. The answer depends on `Accept`, so it carries `Vary: Accept`.
 */
export function wantsHtml({ headers }: Pick<FastifyRequest, 'headers'>): boolean {
  const { accept } = headers;
  const ranges = weightsIn(accept);
  const page = weightOf(ranges, 'text', 'html');
  const json = weightOf(ranges, 'application', 'json');
  if (page.weight !== json.weight) return page.weight > json.weight;
  if (page.weight === 0) return false;
  if (page.precision !== json.precision) return page.precision > json.precision;
  if (page.precision > 0) return page.order < json.order;
  return LINK_PREVIEWS.test(headers['user-agent'] ?? '');
}

/** The language of ours that the client likes best; English for who likes none of them. */
export function languageOf({ headers }: Pick<FastifyRequest, 'headers'>): Language {
  const ranges = weightsIn(headers['accept-language']);
  const weightFor = (language: Language) =>
    // "de-CH" likes German as well (RFC 4647 section 3.4).
    Math.max(0, ...ranges.filter(({ range }) => range.split('-', 1)[0] === language).map(({ weight }) => weight));
  const [best = 'en'] = [...LANGUAGES].sort((one, other) => weightFor(other) - weightFor(one));
  return best;
}

interface Weighted {
  range: string;
  /** 0 to 1. */
  weight: number;
  order: number;
}

/** Header fields longer than this are read up to here: nobody lists so many. Characters. */
const MAX_FIELD = 2000;

/** What cannot be read is passed over. Ranges with parameters of their own mean something else than we have. */
function weightsIn(field = ''): Weighted[] {
  return field
    .slice(0, MAX_FIELD)
    .toLowerCase()
    .split(',')
    .flatMap((element, order) => {
      const [range = '', ...parameters] = element.split(';').map((part) => part.trim());
      const weight =
        parameters.length === 0 ? '1' : /^q=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)$/.exec(parameters[0] ?? '')?.[1];
      return range !== '' && weight !== undefined ? [{ range, weight: Number(weight), order }] : [];
    });
}

/** The most specific range that holds the type decides. Without any range all is welcome. */
function weightOf(ranges: readonly Weighted[], type: string, subtype: string) {
  if (ranges.length === 0) return { weight: 1, precision: 0, order: 0 };
  const names = ['*/*', `${type}/*`, `${type}/${subtype}`];
  for (const [precision, name] of [...names.entries()].reverse()) {
    const found = ranges.find(({ range }) => range === name);
    if (found) return { weight: found.weight, precision, order: found.order };
  }
  return { weight: 0, precision: 0, order: 0 };
}
