/** Every text of the pages, in every language that they have. */
import type { PageFile } from './model.ts';

export const LANGUAGES = ['en', 'de'] as const;
export type Language = (typeof LANGUAGES)[number];

export interface Texts {
  download: string;
  downloadNamed: (name: string) => string;
  downloadAll: string;
  open: string;
  copyLink: string;
  copied: string;
  copyFailed: string;
  /** Title of files that have no other, and name of the way back to them. */
  gallery: string;
  allFiles: string;
  files: (count: number) => string;
  firstPage: string;
  nextPage: string;
  pages: string;
  previous: string;
  next: string;
  close: string;
  viewer: string;
  availableUntil: (time: string) => string;
  pageCount: (count: number) => string;
  pixels: (width: number, height: number) => string;
  duration: (time: string) => string;
  /** Of the picture of a file that is none itself. */
  previewOf: (name: string) => string;
  waveformOf: (name: string) => string;
  noPreview: string;
  viewOnly: string;
  empty: string;
  passwordTitle: string;
  passwordHint: string;
  password: string;
  showFiles: string;
  wrongPassword: string;
  tooManyTries: string;
  error: string;
  goneTitle: string;
  goneHint: string;
  busyTitle: string;
  tooManyTitle: string;
  waitHint: (seconds: number | undefined) => string;
  failedTitle: string;
  failedHint: string;
  requestId: string;
  kinds: Readonly<Record<PageFile['kind'] | 'pdf' | 'archive' | 'text', string>>;
}

const en: Texts = {
  download: 'Download',
  downloadNamed: (name) => `Download ${name}`,
  downloadAll: 'Download all',
  open: 'Open',
  copyLink: 'Copy link',
  copied: 'The link was copied.',
  copyFailed: 'The link could not be copied.',
  gallery: 'Shared files',
  allFiles: 'All files',
  files: (count) => (count === 1 ? '1 file' : `${count} files`),
  firstPage: 'First page',
  nextPage: 'Next page',
  pages: 'Pages',
  previous: 'Previous',
  next: 'Next',
  close: 'Close',
  viewer: 'Picture in full size',
  availableUntil: (time) => `Available until ${time}`,
  pageCount: (count) => (count === 1 ? '1 page' : `${count} pages`),
  pixels: (width, height) => `${width} × ${height} pixels`,
  duration: (time) => `${time} long`,
  previewOf: (name) => `Preview of ${name}`,
  waveformOf: (name) => `Waveform of ${name}`,
  noPreview: 'There is no preview of this file.',
  viewOnly: 'This file can be looked at here, but not downloaded.',
  empty: 'There are no files here.',
  passwordTitle: 'A password is needed',
  passwordHint: 'Whoever gave you this link knows the password.',
  password: 'Password',
  showFiles: 'Continue',
  wrongPassword: 'The password is wrong.',
  tooManyTries: 'There were too many wrong passwords.',
  error: 'Error',
  goneTitle: 'This link leads nowhere',
  goneHint: 'It may be mistyped, have expired, or have been taken back. Ask whoever gave it to you for a new one.',
  busyTitle: 'The service is busy',
  tooManyTitle: 'Too many requests',
  waitHint: (seconds) =>
    seconds === undefined
      ? 'Try again in a moment.'
      : seconds === 1
        ? 'Try again in a second.'
        : seconds < 120
          ? `Try again in ${seconds} seconds.`
          : `Try again in ${Math.ceil(seconds / 60)} minutes.`,
  failedTitle: 'Something went wrong',
  failedHint: 'Try again later.',
  requestId: 'Name this number when you ask for help:',
  kinds: {
    picture: 'Picture',
    video: 'Video',
    sound: 'Sound',
    document: 'Document',
    model: '3D model',
    file: 'File',
    pdf: 'PDF document',
    archive: 'Archive',
    text: 'Text',
  },
};

const de: Texts = {
  download: 'Herunterladen',
  downloadNamed: (name) => `${name} herunterladen`,
  downloadAll: 'Alle herunterladen',
  open: 'Öffnen',
  copyLink: 'Link kopieren',
  copied: 'Der Link wurde kopiert.',
  copyFailed: 'Der Link konnte nicht kopiert werden.',
  gallery: 'Geteilte Dateien',
  allFiles: 'Alle Dateien',
  files: (count) => (count === 1 ? '1 Datei' : `${count} Dateien`),
  firstPage: 'Erste Seite',
  nextPage: 'Nächste Seite',
  pages: 'Seiten',
  previous: 'Zurück',
  next: 'Weiter',
  close: 'Schließen',
  viewer: 'Bild in voller Größe',
  availableUntil: (time) => `Verfügbar bis ${time}`,
  pageCount: (count) => (count === 1 ? '1 Seite' : `${count} Seiten`),
  pixels: (width, height) => `${width} × ${height} Pixel`,
  duration: (time) => `Dauer ${time}`,
  previewOf: (name) => `Vorschau von ${name}`,
  waveformOf: (name) => `Wellenform von ${name}`,
  noPreview: 'Von dieser Datei gibt es keine Vorschau.',
  viewOnly: 'Diese Datei kann hier angesehen, aber nicht heruntergeladen werden.',
  empty: 'Hier sind keine Dateien.',
  passwordTitle: 'Ein Passwort ist nötig',
  passwordHint: 'Wer Ihnen diesen Link gegeben hat, kennt das Passwort.',
  password: 'Passwort',
  showFiles: 'Weiter',
  wrongPassword: 'Das Passwort ist falsch.',
  tooManyTries: 'Es gab zu viele falsche Passwörter.',
  error: 'Fehler',
  goneTitle: 'Dieser Link führt nirgendwohin',
  goneHint:
    'Vielleicht ist er falsch geschrieben, abgelaufen oder wurde zurückgenommen. Bitten Sie um einen neuen, wo Sie ihn bekommen haben.',
  busyTitle: 'Der Dienst ist ausgelastet',
  tooManyTitle: 'Zu viele Anfragen',
  waitHint: (seconds) =>
    seconds === undefined
      ? 'Versuchen Sie es gleich noch einmal.'
      : seconds === 1
        ? 'Versuchen Sie es in einer Sekunde noch einmal.'
        : seconds < 120
          ? `Versuchen Sie es in ${seconds} Sekunden noch einmal.`
          : `Versuchen Sie es in ${Math.ceil(seconds / 60)} Minuten noch einmal.`,
  failedTitle: 'Etwas ist schiefgegangen',
  failedHint: 'Versuchen Sie es später noch einmal.',
  requestId: 'Nennen Sie diese Nummer, wenn Sie um Hilfe bitten:',
  kinds: {
    picture: 'Bild',
    video: 'Video',
    sound: 'Ton',
    document: 'Dokument',
    model: '3D-Modell',
    file: 'Datei',
    pdf: 'PDF-Dokument',
    archive: 'Archiv',
    text: 'Text',
  },
};

export const texts: Readonly<Record<Language, Texts>> = { en, de };
