import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { languageOf, wantsHtml } from '../../src/pages/negotiation.ts';

const CHROMIUM =
  'text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7';

describe('a page is', () => {
  for (const accept of [
    CHROMIUM,
    'text/html',
    'TEXT/HTML',
    'text/*',
    'text/html, */*',
    'text/html;q=0.9, application/json;q=0.8',
    'text/html, application/json',
    'application/json;q=0, */*',
    'text/html;q=0.5, application/*;q=0.4',
  ])
    test(`for who accepts ${accept}`, () => assert.equal(wantsHtml({ headers: { accept } }), true));

  for (const accept of [
    undefined,
    '',
    '*/*',
    'application/json',
    'application/json, text/plain, */*',
    'application/json, text/html',
    'text/html;q=0.8, application/json',
    'text/html;q=0, */*',
    'text/html;q=0',
    'image/*',
    'text/html;q=2',
    'text/html;q=x, */*',
    'text/html;level=1',
    ', ,;;q=,',
  ])
    test(`not for who accepts ${accept ?? 'what he does not say'}`, () =>
      assert.equal(wantsHtml({ headers: { ...(accept !== undefined && { accept }) } }), false));

  test('for programs that show previews of links, though they take anything', () => {
    const agents = [
      'facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)',
      'Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)',
      'WhatsApp/2.23.20.0',
      'Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)',
    ];
    for (const agent of agents) {
      assert.equal(wantsHtml({ headers: { accept: '*/*', 'user-agent': agent } }), true, agent);
      assert.equal(wantsHtml({ headers: { 'user-agent': agent } }), true, agent);
      assert.equal(wantsHtml({ headers: { accept: 'application/json', 'user-agent': agent } }), false, agent);
    }
    assert.equal(wantsHtml({ headers: { accept: '*/*', 'user-agent': 'curl/8.5.0' } }), false);
  });

  test('decided by fields of any length in the same time', () => {
    const accept = `${'x/y;q=0.1,'.repeat(100_000)}text/html`;
    assert.equal(wantsHtml({ headers: { accept } }), false);
  });
});

describe('the language', () => {
  for (const [field, language] of [
    [undefined, 'en'],
    ['', 'en'],
    ['fr', 'en'],
    ['de', 'de'],
    ['de-CH, de;q=0.9, en;q=0.8', 'de'],
    ['en-GB,en;q=0.9,de;q=0.8', 'en'],
    ['fr, de;q=0.2, en;q=0.1', 'de'],
    ['de;q=0, en', 'en'],
    ['*', 'en'],
  ] as const)
    test(`of who accepts ${field ?? 'what he does not say'} is ${language}`, () =>
      assert.equal(languageOf({ headers: { ...(field !== undefined && { 'accept-language': field }) } }), language));
});
