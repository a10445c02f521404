/**
 * `node scripts/page-pictures.ts`: takes the pictures of pages that the documents show, in a real browser, of files that are
 * drawn here. Needs Chromium; TEST_CHROMIUM names it where it is not where Debian has it.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import sharp from 'sharp';
import type { PageFile, PageView } from '../src/pages/model.ts';
import { pageOf } from '../src/pages/share-pages.ts';
import { aFilm, aSound, PageSite, type SiteFiles, viewOf } from '../tests/support/page-site.ts';
import { CHROMIUM_FLAGS, programPath, providePrograms } from '../tests/support/programs.ts';

const out = fileURLToPath(new URL('../docs/pictures/', import.meta.url));
const names = [
  'Harbour at dawn',
  'North ridge',
  'First snow',
  'Evening ferry',
  'Moor',
  'Long valley',
  'Lake in June',
  'Last light',
];

/** Sky, sun and four ranges of hills. */
function landscape(seed: number): string {
  const hue = (seed * 47 + 200) % 360;
  const random = (step: number) => Math.abs(Math.sin(seed * 12.9898 + step * 78.233)) % 1;
  const hills = [0, 1, 2, 3].map((range) => {
    const base = 520 + range * 110;
    const points = Array.from({ length: 9 }, (_, step) => {
      const height = base - random(range * 9 + step) * (200 - range * 40);
      return `${step * 200},${Math.round(height)}`;
    });
    return `<polygon fill="hsl(${hue + range * 8} ${30 + range * 6}% ${52 - range * 12}%)" points="0,1000 ${points.join(' ')} 1600,1000"/>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" width="1600" height="1000">
    <defs><linearGradient id="sky" x2="0" y2="1"><stop stop-color="hsl(${hue} 55% 45%)"/><stop offset="1" stop-color="hsl(${(hue + 160) % 360} 80% 82%)"/></linearGradient></defs>
    <rect width="1600" height="1000" fill="url(#sky)"/>
    <circle cx="${Math.round(200 + random(50) * 1200)}" cy="${Math.round(180 + random(51) * 160)}" r="80" fill="hsl(48 100% 88%)"/>
    ${hills.join('')}</svg>`;
}

const files: SiteFiles = {};
const pictures: PageFile[] = [];
for (const [seed, name] of names.entries()) {
  const bytes = await sharp(Buffer.from(landscape(seed + 1)))
    .jpeg({ quality: 85 })
    .toBuffer();
  files[`landscape-${seed}.jpg`] = ['image/jpeg', bytes];
  const src = `/files/landscape-${seed}.jpg`;
  pictures.push({
    name: `${name}.jpg`,
    mediaType: 'image/jpeg',
    size: 3_100_000 + seed * 417_000,
    kind: 'picture',
    picture: { src, width: 4032, height: 3024 },
    thumbnailPath: src,
    contentPath: src,
    downloadPath: src,
  });
}
const [first, second, third, ...rest] = pictures;
if (!first || !second || !third) throw new Error('there are no pictures');
const still = { posterPath: '/files/landscape-3.jpg', thumbnailPath: '/files/landscape-3.jpg' };
const gallery: PageView = viewOf(
  'assets',
  [first, second, third, aSound, ...rest, { ...aFilm, ...still, name: 'Crossing.webm' }],
  { label: 'Summer by the sea', count: 230, archivePath: '/s/x/archive', nextPath: '/s/x?cursor=2' },
);

providePrograms();
mkdirSync(out, { recursive: true });
const site = await PageSite.start(files);
const browser = await chromium.launch({ executablePath: programPath('chromium'), args: CHROMIUM_FLAGS });

async function take(view: PageView, width: number, height: number, colorScheme: 'light' | 'dark'): Promise<Buffer> {
  const page = await browser.newPage({ viewport: { width, height }, colorScheme, locale: 'en' });
  await page.goto(
    site.show('shown', (context) => pageOf(context, view, 'request')),
    { waitUntil: 'networkidle' },
  );
  const bytes = await page.screenshot();
  await page.close();
  return bytes;
}

/** Side by side, on nothing. */
async function write(name: string, shots: Buffer[]): Promise<void> {
  const gap = 24;
  const sizes = await Promise.all(shots.map(async (shot) => (await sharp(shot).metadata()).width));
  const height = Math.max(...(await Promise.all(shots.map(async (shot) => (await sharp(shot).metadata()).height))));
  const lefts = sizes.map((_, index) => sizes.slice(0, index).reduce((sum, width) => sum + width + gap, 0));
  const width = sizes.reduce((sum, each) => sum + each, 0) + gap * (sizes.length - 1);
  await sharp({ create: { width, height, channels: 4, background: { r: 0, g: 0, b: 0, alpha: 0 } } })
    .composite(shots.map((input, index) => ({ input, left: lefts[index] ?? 0, top: 0 })))
    .webp({ quality: 82 })
    .toFile(join(out, name));
}

const one = viewOf('asset', [first], { label: 'For the Miller family', expiresAt: '2026-12-24T12:00:00Z' });
const locked: PageView = { kind: 'locked', unlockPath: '/s/x/unlock' };
await write('share-pages.webp', [
  await take(one, 360, 720, 'light'),
  await take(viewOf('asset', [{ ...aSound, name: 'Episode 12.mp3' }]), 360, 720, 'dark'),
  await take(locked, 360, 720, 'light'),
]);
await write('gallery.webp', [await take(gallery, 1280, 800, 'light')]);
await browser.close();
await site.close();
