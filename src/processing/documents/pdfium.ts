/**
 * PDFs by PDFium as WebAssembly; runs in a child. For machines without poppler, which is faster and takes a tenth of
 * the memory.
 */
import { readFile, stat } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { init, type WrappedPdfiumModule } from '@embedpdf/pdfium';
import type { PagePicture, PdfFacts } from './tasks.ts';

/** Bytes of a file, which is read into memory as a whole. */
const MAX_FILE = 128 * 1024 * 1024;
/** fpdfview.h: FPDF_ERR_PASSWORD. */
const NEEDS_PASSWORD = 4;
/** fpdfview.h: FPDF_ANNOT and FPDF_REVERSE_BYTE_ORDER. */
const ANNOTATIONS = 0x01;
const AS_RGBA = 0x10;
const WHITE = 0xffffffff;

class Unreadable extends Error {
  readonly reason: string;
  constructor(reason: string, message: string) {
    super(message);
    this.reason = reason;
  }
}

/** Made by the first task. */
let engine: Promise<WrappedPdfiumModule> | undefined;

async function start(): Promise<WrappedPdfiumModule> {
  const program = await readFile(fileURLToPath(import.meta.resolve('@embedpdf/pdfium/pdfium.wasm')));
  const pdfium = await init({ wasmBinary: new Uint8Array(program).buffer });
  pdfium.PDFiumExt_Init();
  return pdfium;
}

export function pdfFacts(path: string): Promise<PdfFacts> {
  return withDocument(path, (pdfium, document) => {
    const pages = pdfium.FPDF_GetPageCount(document);
    return { pages, ...sizeOfFirst(pdfium, document) };
  });
}

/** @param side pixels of the longer side */
export function firstPage(path: string, side: number): Promise<PagePicture> {
  return withDocument(path, (pdfium, document) => {
    const page = pdfium.FPDF_LoadPage(document, 0);
    if (page === 0) throw new Unreadable('refused', 'the first page cannot be read');
    try {
      const [pageWidth, pageHeight] = [pdfium.FPDF_GetPageWidthF(page), pdfium.FPDF_GetPageHeightF(page)];
      const scale = side / Math.max(pageWidth, pageHeight);
      if (!(scale > 0 && Number.isFinite(scale))) throw new Unreadable('refused', 'the first page has no size');
      const pixels = (length: number) => Math.min(side, Math.max(1, Math.round(length * scale)));
      return render(pdfium, page, pixels(pageWidth), pixels(pageHeight));
    } finally {
      pdfium.FPDF_ClosePage(page);
    }
  });
}

function render(pdfium: WrappedPdfiumModule, page: number, width: number, height: number): PagePicture {
  const bitmap = pdfium.FPDFBitmap_Create(width, height, 1);
  if (bitmap === 0) throw new Unreadable('out-of-memory', 'there is no memory for the page');
  try {
    pdfium.FPDFBitmap_FillRect(bitmap, 0, 0, width, height, WHITE);
    pdfium.FPDF_RenderPageBitmap(bitmap, page, 0, 0, width, height, 0, ANNOTATIONS | AS_RGBA);
    const at = pdfium.FPDFBitmap_GetBuffer(bitmap);
    const stride = pdfium.FPDFBitmap_GetStride(bitmap);
    if (stride !== width * 4) throw new Unreadable('refused', 'the picture of the page has gaps');
    return { width, height, pixels: memoryOf(pdfium).slice(at, at + stride * height) };
  } finally {
    pdfium.FPDFBitmap_Destroy(bitmap);
  }
}

function sizeOfFirst(pdfium: WrappedPdfiumModule, document: number): Pick<PdfFacts, 'pageWidth' | 'pageHeight'> {
  const size = pdfium.pdfium.wasmExports.malloc(8);
  try {
    if (!pdfium.FPDF_GetPageSizeByIndexF(document, 0, size)) return {};
    const [pageWidth, pageHeight] = new Float32Array(memoryOf(pdfium).slice(size, size + 8).buffer);
    return { ...(pageWidth !== undefined && { pageWidth }), ...(pageHeight !== undefined && { pageHeight }) };
  } finally {
    pdfium.pdfium.wasmExports.free(size);
  }
}

/** Another one whenever it has grown. */
function memoryOf({ pdfium }: WrappedPdfiumModule): Uint8Array {
  // Its types do not name it.
  if ('HEAPU8' in pdfium && pdfium.HEAPU8 instanceof Uint8Array) return pdfium.HEAPU8;
  throw new Error('PDFium does not show its memory');
}

async function withDocument<T>(path: string, use: (pdfium: WrappedPdfiumModule, document: number) => T): Promise<T> {
  const { size } = await stat(path);
  if (size > MAX_FILE) throw new Unreadable('too-large', `the document has more than ${MAX_FILE} bytes`);
  const bytes = await readFile(path);
  engine ??= start();
  try {
    return open(await engine, bytes, use);
  } catch (error) {
    if (error instanceof Unreadable) throw error;
    // It calls abort() when it gets no memory, and what it holds stays taken. So the process is replaced, as it is
    // whenever memory runs out.
    throw new Error('PDFium gave up, as it does when it is out of memory');
  }
}

function open<T>(
  pdfium: WrappedPdfiumModule,
  bytes: Uint8Array,
  use: (pdfium: WrappedPdfiumModule, document: number) => T,
): T {
  const { malloc, free } = pdfium.pdfium.wasmExports;
  const at = malloc(bytes.length);
  if (at === 0) throw new Unreadable('out-of-memory', 'there is no memory for the document');
  try {
    memoryOf(pdfium).set(bytes, at);
    const document = pdfium.FPDF_LoadMemDocument(at, bytes.length, '');
    if (document === 0) throw refusal(pdfium.FPDF_GetLastError());
    try {
      return use(pdfium, document);
    } finally {
      pdfium.FPDF_CloseDocument(document);
    }
  } finally {
    free(at);
  }
}

function refusal(error: number): Unreadable {
  return error === NEEDS_PASSWORD
    ? new Unreadable('encrypted', 'the document needs a password')
    : new Unreadable('refused', 'the document cannot be read');
}
