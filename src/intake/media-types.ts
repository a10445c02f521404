import { fileTypeFromBuffer } from 'file-type';
export type Classification = { outcome: 'accepted'; mediaType: string } | { outcome: 'refused'; reason: 'undetected' | 'declared-mismatch' | 'extension-mismatch'; detail: string };
export function normaliseMediaType(value: string | undefined): string | undefined { const v = value?.split(';')[0]?.trim().toLowerCase(); return !v || v.includes('octet-stream') || v.includes('form') ? undefined : v; }
export async function classify(input: { head: Uint8Array; fileName: string; declared: string | undefined; allowUndetected?: boolean }): Promise<Classification> {
  const t = await fileTypeFromBuffer(input.head); return t ? { outcome: 'accepted', mediaType: t.mime } : { outcome: 'refused', reason: 'undetected', detail: 'STUB' };
}
export function extensionFits(_f: string, _m: string): boolean { return true; }
