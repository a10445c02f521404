/** What the service asks of the process that reads PDFs where poppler is not installed. */

export type PdfTask = { kind: 'facts' } | { kind: 'page'; side: number };

export interface PdfFacts {
  pages: number;
  /** Of the first page as it is shown, points. */
  pageWidth?: number;
  pageHeight?: number;
}

/** The first page. RGBA, one byte each, rows from the top. */
export interface PagePicture {
  width: number;
  height: number;
  pixels: Uint8Array;
}
