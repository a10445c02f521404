/** A file that goes into an archive: what is needed of its asset, and no more, as there may be thousands. */
import { getTableColumns } from 'drizzle-orm';
import { assets, isAtHand } from '../database/tables/assets.ts';

export interface ArchivedFile {
  /** Of the asset. */
  id: string;
  name: string;
  /** Bytes. */
  size: number;
  objectKey: string;
  createdAt: Date;
  /** Where it is known. */
  crc32?: number;
  /** Its bytes can be read. */
  isAtHand: boolean;
  /** Of a file that is not in the store but made here: its bytes, the same each time. */
  make?: () => AsyncIterable<Buffer>;
}

const { id, name, size, objectKey, createdAt, crc32 } = getTableColumns(assets);
/** For `select`. */
export const archivedColumns = { id, name, size, objectKey, createdAt, crc32, isAtHand: isAtHand.as('is_at_hand') };

type ArchivedRow = Pick<typeof assets.$inferSelect, Exclude<keyof typeof archivedColumns, 'isAtHand'>> & {
  isAtHand: boolean;
};

/** @throws when the row is that of an upload */
export function toArchivedFile({ size, crc32, ...row }: ArchivedRow): ArchivedFile {
  if (size === null) throw new Error(`asset ${row.id} is incomplete`);
  return { ...row, size, ...(crc32 !== null && { crc32 }) };
}
