/** The process that reads PDFs where poppler is not installed. */
import { firstPage, pdfFacts } from '../../documents/pdfium.ts';
import type { PdfTask } from '../../documents/tasks.ts';
import { serve } from './serve.ts';

serve((task: PdfTask, { file }) => (task.kind === 'facts' ? pdfFacts(file) : firstPage(file, task.side)));
