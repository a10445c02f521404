/** Documents of offices: zips of certain parts. Names of parts: ECMA-376 part 2 (Office), OpenDocument 1.3 part 2, EPUB OCF. */
import type { Checker, Position } from './walk.ts';
import { type Parts, zip } from './zip.ts';

/** Documents with programs inside have types of their own. */
const noMacros = {
  pattern: /(?:^|\/)vbaProject\.bin$/i,
  fault: 'The document holds macros. Save it without them.',
};

function office(name: string, main: RegExp): Parts {
  return { name, needed: [/^\/?\[Content_Types\]\.xml$/i, /^\/?_rels\/\.rels$/i, main], forbidden: noMacros };
}

function openDocument(kind: string): [string, Parts] {
  const mediaType = `application/vnd.oasis.opendocument.${kind}`;
  const needed = [/^content\.xml$|^encrypted-package$/, /^META-INF\/manifest\.xml$/];
  return [mediaType, { name: `an OpenDocument ${kind}`, needed, mediaType }];
}

const OFFICE = 'application/vnd.openxmlformats-officedocument.';

const kinds: [string, Parts][] = [
  [`${OFFICE}wordprocessingml.document`, office('a Word document', /^\/?word\/document\d*\.xml$/i)],
  [`${OFFICE}spreadsheetml.sheet`, office('an Excel workbook', /^\/?xl\/workbook\d*\.xml$/i)],
  [`${OFFICE}presentationml.presentation`, office('a PowerPoint presentation', /^\/?ppt\/presentation\d*\.xml$/i)],
  openDocument('text'),
  openDocument('spreadsheet'),
  openDocument('presentation'),
  [
    'application/epub+zip',
    { name: 'an EPUB', needed: [/^META-INF\/container\.xml$/], mediaType: 'application/epub+zip' },
  ],
];

/** Media types whose files are zips, with their checkers. */
export const zipCheckers: Record<string, (position: Position) => Checker> = {
  'application/zip': zip(),
  ...Object.fromEntries(kinds.map(([mediaType, parts]) => [mediaType, zip(parts)])),
};
