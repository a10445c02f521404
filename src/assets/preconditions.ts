/** Conditional requests, RFC 9110 section 13. */

export interface Validators {
  /** Strong entity tag with its quotes. */
  etag: string;
  lastModified: Date;
}

export interface ReadConditions {
  ifMatch: string | undefined;
  ifNoneMatch: string | undefined;
  ifModifiedSince: string | undefined;
  ifUnmodifiedSince: string | undefined;
}

/** For GET and HEAD, in the order of section 13.2.2. Dates that are no dates are ignored (section 13.1.3). */
export function evaluateRead(conditions: ReadConditions, current: Validators): 'proceed' | 'not-modified' | 'precondition-failed' {
  const { ifMatch, ifNoneMatch } = conditions;
  const changed = seconds(current.lastModified);
  const unmodifiedSince = httpDate(conditions.ifUnmodifiedSince);
  const modifiedSince = httpDate(conditions.ifModifiedSince);
  if (ifMatch !== undefined) {
    if (!matchesIfMatch(ifMatch, current.etag)) return 'precondition-failed';
  } else if (unmodifiedSince !== undefined && changed > unmodifiedSince) return 'precondition-failed';
  if (ifNoneMatch !== undefined) return weaklyMatches(ifNoneMatch, current.etag) ? 'not-modified' : 'proceed';
  return modifiedSince !== undefined && changed <= modifiedSince ? 'not-modified' : 'proceed';
}

/** Whether a Range holds beside this If-Range (section 13.1.5): the same strong tag, or exactly the same date. */
export function rangeApplies(ifRange: string | undefined, current: Validators): boolean {
  if (ifRange === undefined) return true;
  const value = ifRange.trim();
  if (value.startsWith('"') || value.startsWith('W/')) return value === current.etag;
  return httpDate(value) === seconds(current.lastModified);
}

/** Strong comparison against a list, or `*` (section 13.1.1). */
export function matchesIfMatch(header: string, etag: string): boolean {
  return header.trim() === '*' || entityTags(header).includes(etag);
}

function weaklyMatches(header: string, etag: string): boolean {
  const opaque = (tag: string) => tag.replace(/^W\//, '');
  return header.trim() === '*' || entityTags(header).some((tag) => opaque(tag) === opaque(etag));
}

function entityTags(header: string): string[] {
  return header.match(/(?:W\/)?"[\x21\x23-\x7e\x80-\xff]*"/g) ?? [];
}

/** HTTP dates have whole seconds. */
function seconds(date: Date): number {
  return Math.floor(date.getTime() / 1000);
}

/** The three forms of section 5.6.7 all begin with the name of a day and, but for asctime, end with GMT. */
function httpDate(text: string | undefined): number | undefined {
  if (text === undefined || !/^(Mon|Tue|Wed|Thu|Fri|Sat|Sun)/.test(text.trim())) return undefined;
  const asctime = /^\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}$/.test(text.trim());
  const time = Date.parse(asctime ? `${text.trim()} GMT` : text);
  return Number.isNaN(time) ? undefined : Math.floor(time / 1000);
}
