/** The process that reads PDFs where poppler is not installed. */
import { firstPage, pdfFacts } from '../../documents/pdfium.ts';
import type { PdfTask } from '../../documents/tasks.ts';
import { serve } from './serve.ts';

serve((task: PdfTask) => (task.kind === 'facts' ? pdfFacts(task.path) : firstPage(task.path, task.side)));
