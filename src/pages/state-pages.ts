/** Pages without files: the form for the password, and what is told when there is nothing to show. */
import { attributes, html } from './html.ts';
import { layout, type Page, type PageContext, textsOf, toUrl } from './layout.ts';
import type { LockedView, ProblemView } from './model.ts';

/** Tells nothing of what is behind the password. */
export function passwordPage(context: PageContext, view: LockedView): Page {
  const { unlockPath, refusal, retryAfter } = view;
  const texts = textsOf(context);
  const words = { 'wrong-password': texts.wrongPassword, 'too-many-tries': texts.tooManyTries };
  const said = [
    ...(refusal === undefined ? [] : [words[refusal]]),
    ...(refusal === 'too-many-tries' ? [texts.waitHint(retryAfter)] : []),
  ].join(' ');
  const input = attributes({
    id: 'password',
    name: 'password',
    type: 'password',
    required: true,
    autofocus: true,
    autocomplete: 'current-password',
    'aria-describedby': said === '' ? 'hint' : 'said hint',
    'aria-invalid': refusal !== undefined && 'true',
  });
  return layout(context, {
    // Who listens hears of the fault first.
    title: refusal === undefined ? texts.passwordTitle : `${texts.error}: ${texts.passwordTitle}`,
    main: html`<form class="card" method="post" action="${toUrl(context, unlockPath)}">
<h1>${texts.passwordTitle}</h1>
<p id="hint">${texts.passwordHint}</p>
<label for="password">${texts.password}</label>
<input ${input}>
${said !== '' && html`<p ${attributes({ id: 'said', class: refusal === undefined ? 'said' : 'fault', role: refusal !== undefined && 'alert' })}>${said}</p>`}
<button class="button primary" type="submit">${texts.showFiles}</button>
</form>`,
    formAction: unlockPath,
  });
}

/** One page for all that is not there, whatever the reason: expired, revoked, used up, unknown. */
export function problemPage(context: PageContext, { status, retryAfter, requestId }: ProblemView): Page {
  const texts = textsOf(context);
  const words: Record<number, [title: string, hint: string]> = {
    404: [texts.goneTitle, texts.goneHint],
    410: [texts.goneTitle, texts.goneHint],
    429: [texts.tooManyTitle, texts.waitHint(retryAfter)],
    503: [texts.busyTitle, texts.waitHint(retryAfter)],
  };
  const [title, hint] = words[status] ?? [texts.failedTitle, texts.failedHint];
  return layout(context, {
    title,
    main: html`<div class="card">
<h1>${title}</h1>
<p>${hint}</p>
${status !== 404 && status !== 410 && html`<p class="request">${texts.requestId} <code>${requestId}</code></p>`}
</div>`,
  });
}
