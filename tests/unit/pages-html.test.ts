/** What is put into a page is text, whatever it looks like. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { attributes, type Content, escaped, html } from '../../src/pages/html.ts';

/** Calls the tag with a template of our making. */
function template(parts: string[], ...values: Content[]): string {
  return html(Object.assign([...parts], { raw: parts }), ...values).text;
}

describe('a template', () => {
  test('escapes text between tags', () => {
    assert.equal(
      html`<p>${'<script>alert(1)</script> & "quotes" \'too\''}</p>`.text,
      '<p>&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;quotes&quot; &#39;too&#39;</p>',
    );
  });

  test('escapes text in attributes, so that it cannot leave them', () => {
    assert.equal(html`<p title="${'" onclick="alert(1)'}">`.text, '<p title="&quot; onclick=&quot;alert(1)">');
    assert.equal(
      html`<img ${attributes({ alt: '"><script>', hidden: true, width: 3, title: undefined, lang: false })}>`.text,
      '<img alt="&quot;&gt;&lt;script&gt;" hidden width="3">',
    );
  });

  test('takes HTML that templates have made, and lists of it, as they are', () => {
    const items = ['<a>', 'b'].map((each) => html`<li>${each}</li>`);
    assert.equal(html`<ul>${items}${undefined}${false}</ul>`.text, '<ul><li>&lt;a&gt;</li><li>b</li></ul>');
  });

  test('shows what is no text, or turns the text beside it, as a replacement', () => {
    for (const control of ['\0', '\u001b', '\r', '\u0085', '\u202e', '\u2066', '\u2069', '\ud800'])
      assert.equal(escaped(`a${control}b`), 'a\ufffdb', JSON.stringify(control));
    assert.equal(escaped('line\n\tnext עברית 👩‍👩‍👧 é'), 'line\n\tnext עברית 👩‍👩‍👧 é');
  });

  test('takes no address that browsers would run, or that leads elsewhere than it seems to', () => {
    for (const address of [
      'javascript:alert(1)',
      'JAVASCRIPT:alert(1)',
      ' javascript:alert(1)',
      'java\nscript:alert(1)',
      'data:text/html,<script>',
      'vbscript:x',
      '//evil.example/x',
      '/\\evil.example',
      '\\\\evil.example',
      'http:/\\evil.example',
      'x/y',
      '/a b',
      '',
    ]) {
      assert.throws(() => html`<a href="${address}">`, /no such address/, address);
      assert.throws(() => attributes({ src: address }), /no such address/, address);
      assert.throws(() => attributes({ srcset: `/s/a 1w, ${address} 2w` }), /no such address/, address);
    }
    const good = ['/s/abc?x=1&y=2', 'https://files.example/p/1', 'http://localhost:3000/', '?cursor=abc', '#top'];
    for (const address of good) html`<a href="${address}">`;
    assert.equal(attributes({ srcset: '/a 1w, /b 2w' }).text, 'srcset="/a 1w, /b 2w"');
  });

  test('does not work where a value could become code', () => {
    const wrong: [string[], Content][] = [
      [['<p title=', '>'], 'x'],
      [["<p title='", "'>"], 'x'],
      [['<', '>'], 'p'],
      [['<p', '>'], 'x'],
      [['<p ', '>'], 'onclick=x'],
      [['<script>', '</script>'], 'alert(1)'],
      [['<style>p{', '}</style>'], 'x'],
      [['<!-- ', ' -->'], 'x'],
      [['<p onclick="', '">'], 'x'],
      [['<p style="', '">'], 'x'],
      [['<a href= ', '>'], 'x'],
      [['<p title="', '">'], html`<b>`],
      [['<p>', '</p>'], attributes({ id: 'x' })],
    ];
    for (const [parts, value] of wrong) assert.throws(() => template(parts, value), Error, parts.join('...'));
    for (const name of ['onload', 'style', 'srcdoc', 'a b', 'x>', ''])
      assert.throws(() => attributes({ [name]: 'x' }), Error, name);
  });
});
