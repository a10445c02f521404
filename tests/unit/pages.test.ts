/** What pages say of what they show, to browsers and to programs that show previews. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { FastifyRequest } from 'fastify';
import { formatDuration, formatSize } from '../../src/pages/format.ts';
import type { PageContext } from '../../src/pages/layout.ts';
import type { OpenView, PageFile, PageView } from '../../src/pages/model.ts';
import { contextOf } from '../../src/pages/sending.ts';
import { filePage, pageOf } from '../../src/pages/share-pages.ts';

const context: PageContext = { language: 'en', base: '', origin: 'https://files.example' };
const photo: PageFile = {
  name: 'photo.jpg',
  mediaType: 'image/jpeg',
  size: 1234,
  kind: 'picture',
  picture: { src: '/s/t/image?width=2048', srcset: '/s/t/image?width=256 256w, /s/t/image?width=512 512w' },
  contentPath: '/s/t/content',
  downloadPath: '/s/t/content?disposition=attachment',
};
const film: PageFile = { ...photo, name: 'film.mp4', mediaType: 'video/mp4', kind: 'video', posterPath: '/s/t/poster' };

function view(file: PageFile, more: Partial<OpenView> = {}): OpenView {
  return { kind: 'open', path: '/s/t', of: 'asset', assets: [file], allow: 'download', isProtected: false, ...more };
}
const render = (of: PageView, about = context) => pageOf(about, of, 'request-1');
const directives = (policy: string) =>
  Object.fromEntries(policy.split('; ').map((each) => [each.split(' ')[0], each.split(' ').slice(1).join(' ')]));
const fields = (html: string) =>
  Object.fromEntries(
    [...html.matchAll(/<meta (?:property|name)="([^"]+)" content="([^"]*)"/g)].map(([, k, v]) => [k, v]),
  );

describe('the policy of a page', () => {
  test('names the two files that the page loads, and nothing that it has not', () => {
    const policy = directives(render(view(photo)).policy);
    assert.match(policy['style-src'] ?? '', /^https:\/\/files\.example\/pages\/page\.[\w-]{12}\.css$/);
    assert.match(policy['script-src'] ?? '', /^https:\/\/files\.example\/pages\/page\.[\w-]{12}\.js$/);
    assert.match(policy['img-src'] ?? '', /^https:\/\/files\.example\/pages\/icon\.[\w-]{12}\.svg 'self'$/);
    for (const none of ['default-src', 'media-src', 'form-action', 'base-uri', 'frame-ancestors'])
      assert.equal(policy[none], "'none'", none);
    assert.equal(policy['require-trusted-types-for'], "'script'");
  });

  test('lets films play where there is one, and forms be sent where there is one', () => {
    assert.equal(directives(render(view(film)).policy)['media-src'], "'self'");
    const locked = render({ kind: 'locked', unlockPath: '/s/t/unlock' });
    assert.equal(directives(locked.policy)['form-action'], "'self'");
    assert.equal(directives(locked.policy)['script-src'], "'none'");
    assert.doesNotMatch(locked.html, /<script/);
  });

  test('names other hosts from which bytes come, and those only', () => {
    const elsewhere = {
      ...film,
      contentPath: 'https://bytes.example/s/t/content',
      posterPath: 'http://cdn.example:8080/p?x',
    };
    const policy = directives(render(view(elsewhere)).policy);
    assert.equal(policy['media-src'], 'https://bytes.example');
    assert.match(policy['img-src'] ?? '', /\.svg http:\/\/cdn\.example:8080$/);
  });

  test('cannot be lengthened by who names a host', () => {
    const request = { protocol: 'http', host: "x;script-src'self'", headers: {} } as FastifyRequest;
    assert.equal(contextOf({ PUBLIC_URL: undefined }, request).origin, 'http://localhost');
    const ipv6 = { protocol: 'http', host: '[::1]:3000', headers: {} } as FastifyRequest;
    assert.equal(contextOf({ PUBLIC_URL: undefined }, ipv6).origin, 'http://[::1]:3000');
  });

  test('and all addresses are under PUBLIC_URL where that is set, with a path too', () => {
    const request = { protocol: 'http', host: 'internal:3000', headers: {} } as FastifyRequest;
    const about = contextOf({ PUBLIC_URL: 'https://files.example/store' }, request);
    const { html, policy } = render(view(photo), about);
    assert.match(policy, /style-src https:\/\/files\.example\/store\/pages\/page\./);
    assert.match(directives(policy)['img-src'] ?? '', / https:\/\/files\.example$/);
    for (const [, address = ''] of html.matchAll(/ (?:href|src|content)="(\S*\/(?:s|pages)\/[^"]*)"/g))
      assert.match(address, /^https:\/\/files\.example\/store\/(?:s|pages)\//);
    assert.doesNotMatch(html, /internal/);
  });
});

describe('previews of links', () => {
  test('have what Open Graph asks for, with whole addresses', () => {
    const found = fields(render(view(photo, { label: 'Our trip' })).html);
    assert.equal(found['og:title'], 'photo.jpg');
    assert.equal(found['og:type'], 'website');
    assert.equal(found['og:url'], 'https://files.example/s/t');
    assert.equal(found['og:image'], 'https://files.example/s/t/image?width=2048');
    assert.equal(found['og:description'], 'Our trip · Picture · 1.23\u00a0kB');
    assert.equal(found['robots'], 'noindex');
  });

  test('have the film and its still', () => {
    const found = fields(render(view(film)).html);
    assert.equal(found['og:video'], 'https://files.example/s/t/content');
    assert.equal(found['og:video:type'], 'video/mp4');
  });

  test('are those of the gallery with its first picture', () => {
    const found = fields(render(view(photo, { of: 'assets', assets: [film, photo], label: 'Wedding', count: 2 })).html);
    assert.equal(found['og:title'], 'Wedding');
    assert.equal(found['og:description'], '2 files');
    assert.ok(found['og:image']?.startsWith('https://files.example/s/t/'));
  });

  test('have nothing of what needs a password, before and after it was given', () => {
    const pages = [
      render({ kind: 'locked', unlockPath: '/s/t/unlock' }),
      render(view(photo, { isProtected: true })),
      render(view(photo, { isProtected: true, of: 'project' })),
      filePage(context, { ...view(photo, { isProtected: true }), file: photo }),
      render({ kind: 'unknown' }),
    ];
    for (const { html } of pages) assert.doesNotMatch(html, /og:|twitter:|name="description"/);
  });
});

describe('a page', () => {
  test('has downloads only where there are some', () => {
    assert.match(render(view(photo)).html, /href="\/s\/t\/content\?disposition=attachment" download/);
    const { downloadPath: _none, ...seen } = photo;
    const { html } = render(view(seen, { allow: 'view' }));
    assert.doesNotMatch(html, /disposition=attachment| download>/);
    assert.match(html, /can be looked at here, but not downloaded/);
  });

  test('of a gallery leads to the pages of its files, to the next page and back, and to all in one', () => {
    const { html } = render(
      view(photo, {
        of: 'assets',
        assets: [{ ...photo, pagePath: '/s/t?file=1' }],
        nextPath: '/s/t?cursor=2',
        isContinued: true,
        archivePath: '/s/t/archive',
      }),
    );
    for (const address of ['/s/t?file=1', '/s/t?cursor=2', '/s/t', '/s/t/archive'])
      assert.ok(html.includes(`href="${address}"`), address);
  });
});

test('sizes and times are told as people read them', () => {
  assert.equal(formatSize(0, 'en'), '0\u00a0bytes');
  assert.equal(formatSize(999, 'en'), '999\u00a0bytes');
  assert.equal(formatSize(1000, 'en'), '1\u00a0kB');
  assert.equal(formatSize(2_440_000, 'de'), '2,44\u00a0MB');
  assert.equal(formatSize(2 ** 53 - 1, 'en'), '9.01\u00a0PB');
  assert.equal(formatDuration(0.4), '0:00');
  assert.equal(formatDuration(187), '3:07');
  assert.equal(formatDuration(3723), '1:02:03');
});
