/**
 * Addresses of an application's pages, told by settings such as `https://app.example.com/#/app/project/{projectId}`.
 * Ids are URL-encoded and may stand behind the authority only, so no id decides which host an address leads to.
 */
import { z } from 'zod';

/** What a template may name. */
export type Placeholder = 'assetId' | 'projectId';

/** A template that was found sound. */
export interface PageTemplate {
  /** Whether the page depends on it. */
  names(placeholder: Placeholder): boolean;
  /** The address of a page. @throws Error when the template names what is not in `values` */
  address(values: Partial<Record<Placeholder, string>>): string;
}

/** RFC 3986: printable ASCII without what must be encoded; braces are those of placeholders. */
const urlText = /^[\x21\x23-\x3b\x3d\x3f-\x5b\x5d\x5f\x61-\x7e]*$/;
const placeholders = /\{([^{}]*)\}/g;
/** Codes have room for 2,331 bytes (code.ts); this leaves enough for the ids. */
const MAX_TEMPLATE = 1024;

/**
 * The setting of a template.
 * @param allowed placeholders, of which it must name at least one: else each page would have the same address
 */
export function pageTemplate(allowed: readonly Placeholder[]) {
  return z.string().transform((text, context): PageTemplate => {
    const fault = faultOf(text, allowed);
    if (fault === undefined) return template(text);
    context.addIssue({ code: 'custom', message: `has ${JSON.stringify(text)}, ${fault}` });
    return z.NEVER;
  });
}

function faultOf(text: string, allowed: readonly Placeholder[]): string | undefined {
  const known = allowed.map((name) => `{${name}}`).join(' and ');
  if (text.length > MAX_TEMPLATE) return `which has more than ${MAX_TEMPLATE} characters`;
  const named = [...text.matchAll(placeholders)].map(([, name = '']) => name);
  const unknown = named.find((name) => !allowed.some((each) => each === name));
  if (unknown !== undefined) return `which names {${unknown}}: the placeholders are ${known}`;
  if (named.length === 0) return `which names no placeholder: there is ${known}`;
  const rest = text.replace(placeholders, '');
  if (!urlText.test(rest) || /[{}]/.test(rest)) return 'which has characters that a URL cannot have';
  const url = URL.parse(text.replace(placeholders, 'x'));
  if (!url || !/^https?:$/.test(url.protocol) || !/^https?:\/\/[^/?#]/i.test(text))
    return 'which is no http:// or https:// URL';
  if (url.username !== '' || url.password !== '') return 'which holds credentials: whoever reads the code has them';
  const authority = /^https?:\/\/[^/?#]*/i.exec(text)?.[0] ?? '';
  if (/[{}]/.test(authority)) return 'which has a placeholder in the host: put it behind the first slash';
  return undefined;
}

function template(text: string): PageTemplate {
  const named = new Set([...text.matchAll(placeholders)].map(([, name]) => name));
  return {
    names: (placeholder) => named.has(placeholder),
    address: (values) => {
      const known = new Map<string, string | undefined>(Object.entries(values));
      return text.replace(placeholders, (_whole, name: string) => {
        const value = known.get(name);
        if (value === undefined) throw new Error(`the address of the page needs ${name}`);
        return encodeURIComponent(value);
      });
    },
  };
}
