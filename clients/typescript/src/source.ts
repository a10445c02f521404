/** What is uploaded: bytes that may be read again from anywhere, and are the same each time. */
export interface UploadSource {
  /** Bytes. */
  readonly size: number;
  /** Bytes to read at once, where reading takes memory; absent: it does not. */
  readonly pieceSize?: number;
  /** @param to beyond the last byte */
  read(from: number, to: number): Promise<Blob>;
}

/** The bytes of a file as they are, read when they are sent. */
export function sourceOf(file: Blob): UploadSource {
  return { size: file.size, read: async (from, to) => file.slice(from, to) };
}
