/** Conditional requests, RFC 9110 section 13. */
import { z } from 'zod';
import { Problem } from '../problems.ts';

export interface Validators {
  /** Strong entity tag with its quotes. */
  etag: string;
  /** Without it, conditions with dates are ignored (sections 13.1.3 and 13.1.4). */
  lastModified?: Date;
}

export interface ReadConditions {
  ifMatch: string | undefined;
  ifNoneMatch: string | undefined;
  ifModifiedSince: string | undefined;
  ifUnmodifiedSince: string | undefined;
}

/** For GET and HEAD, in the order of section 13.2.2. Dates that are no dates are ignored (section 13.1.3). */
export function evaluateRead(
  conditions: ReadConditions,
  current: Validators,
): 'proceed' | 'not-modified' | 'precondition-failed' {
  const { ifMatch, ifNoneMatch } = conditions;
  const changed = current.lastModified && seconds(current.lastModified);
  const unmodifiedSince = httpDate(conditions.ifUnmodifiedSince);
  const modifiedSince = httpDate(conditions.ifModifiedSince);
  if (ifMatch !== undefined) {
    if (!matchesIfMatch(ifMatch, current.etag)) return 'precondition-failed';
  } else if (changed !== undefined && unmodifiedSince !== undefined && changed > unmodifiedSince)
    return 'precondition-failed';
  if (ifNoneMatch !== undefined) return weaklyMatches(ifNoneMatch, current.etag) ? 'not-modified' : 'proceed';
  const isOld = changed !== undefined && modifiedSince !== undefined && changed <= modifiedSince;
  return isOld ? 'not-modified' : 'proceed';
}

/** Whether a Range holds beside this If-Range (section 13.1.5): the same strong tag, or exactly the same date. */
export function rangeApplies(ifRange: string | undefined, current: Validators): boolean {
  if (ifRange === undefined) return true;
  const value = ifRange.trim();
  if (value.startsWith('"')) return value === current.etag;
  return current.lastModified !== undefined && httpDate(value) === seconds(current.lastModified);
}

/** Strong comparison against a list, or `*` (section 13.1.1). */
export function matchesIfMatch(header: string, etag: string): boolean {
  if (header.trim() === '*') return true;
  return !etag.startsWith('W/') && entityTags(header).includes(etag);
}

function weaklyMatches(header: string, etag: string): boolean {
  return header.trim() === '*' || entityTags(header).some((tag) => opaque(tag) === opaque(etag));
}

const opaque = (tag: string) => tag.replace(/^W\//, '');

function entityTags(header: string): string[] {
  return header.match(/(?:W\/)?"[\x21\x23-\x7e\x80-\xff]*"/g) ?? [];
}

/** Entity tags of a field, or `*` for any. */
type EntityTags = '*' | string[];

/** Conditions on a record. It has no modification date, so those with dates are ignored (sections 13.1.3 and 13.1.4). */
export interface RecordConditions {
  ifMatch: EntityTags | undefined;
  ifNoneMatch: EntityTags | undefined;
}

export const recordConditions = z.object({
  'if-match': z
    .string()
    .optional()
    .meta({ description: 'Entity tags of the record, or `*`: only if it has one of them (RFC 9110 section 13.1.1)' }),
  'if-none-match': z
    .string()
    .optional()
    .meta({ description: 'Entity tags, or `*`: only if the record has none of them (RFC 9110 section 13.1.2)' }),
});

/** @throws Problem invalid-parameter when a field is no list of entity tags */
export function conditionsOf(headers: z.output<typeof recordConditions>): RecordConditions {
  return {
    ifMatch: parseEntityTags('If-Match', headers['if-match']),
    ifNoneMatch: parseEntityTags('If-None-Match', headers['if-none-match']),
  };
}

/** In the order of section 13.2.2. */
export function evaluateConditions(
  { ifMatch, ifNoneMatch }: RecordConditions,
  etag: string,
): 'proceed' | 'not-modified' | 'precondition-failed' {
  if (ifMatch !== undefined && ifMatch !== '*' && !ifMatch.includes(etag)) return 'precondition-failed';
  if (ifNoneMatch === undefined) return 'proceed';
  return ifNoneMatch === '*' || ifNoneMatch.some((tag) => opaque(tag) === opaque(etag)) ? 'not-modified' : 'proceed';
}

/** An element of a list (section 5.6.1), which may be empty, up to its comma. */
const listElement = /[ \t]*(?:((?:W\/)?"[\x21\x23-\x7e\x80-\xff]*")[ \t]*)?(?:,|$)/y;

function parseEntityTags(parameter: string, header: string | undefined): EntityTags | undefined {
  if (header === undefined) return undefined;
  if (header.trim() === '*') return '*';
  const tags: string[] = [];
  for (let at = 0; at < header.length; at = listElement.lastIndex) {
    listElement.lastIndex = at;
    const element = listElement.exec(header);
    if (!element) throw malformed(parameter);
    if (element[1] !== undefined) tags.push(element[1]);
  }
  if (tags.length === 0) throw malformed(parameter);
  return tags;
}

function malformed(parameter: string): Problem {
  const detail = 'must be * or entity tags in quotes, with commas between them';
  return new Problem('invalid-parameter', { detail: `${parameter} ${detail}.`, errors: [{ parameter, detail }] });
}

/** HTTP dates have whole seconds. */
function seconds(date: Date): number {
  return Math.floor(date.getTime() / 1000);
}

const months = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];
const clock = String.raw`(?<hour>[01]\d|2[0-3]):(?<minute>[0-5]\d):(?<second>[0-5]\d|60)`;
const month = `(?<month>${months.join('|')})`;

/** The three forms of section 5.6.7: today's, that of RFC 850, and that of asctime. `Date.parse` takes far more. */
const dateForms = [
  String.raw`(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (?<day>\d\d) ${month} (?<year>\d{4}) ${clock} GMT`,
  String.raw`(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, (?<day>\d\d)-${month}-(?<year>\d\d) ${clock} GMT`,
  String.raw`(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) ${month} (?<day>[ \d]\d) ${clock} (?<year>\d{4})`,
].map((form) => new RegExp(`^${form}$`));

/** @returns seconds since 1970, or undefined for what is no HTTP date */
function httpDate(text: string | undefined): number | undefined {
  const fields = dateForms.map((form) => form.exec(text ?? '')?.groups).find((groups) => groups !== undefined);
  if (!fields) return undefined;
  const day = Number(fields['day']);
  const midnight = new Date(Date.UTC(fullYear(fields['year'] ?? ''), months.indexOf(fields['month'] ?? ''), day));
  // The 30th of February is no day.
  if (midnight.getUTCDate() !== day) return undefined;
  return seconds(midnight) + Number(fields['hour']) * 3600 + Number(fields['minute']) * 60 + Number(fields['second']);
}

/** Two digits more than 50 years ahead are of the past century (section 5.6.7). */
function fullYear(digits: string): number {
  if (digits.length === 4) return Number(digits);
  const thisYear = new Date().getUTCFullYear();
  const year = thisYear - (thisYear % 100) + Number(digits);
  return year > thisYear + 50 ? year - 100 : year;
}
