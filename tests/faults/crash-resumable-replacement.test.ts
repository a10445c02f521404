import { testKilledAtEachStep } from './crash-matrix.ts';

// What comes before is killed in crash-resumable-upload.test.ts, and what the commit ends in crash-replacement.test.ts.
testKilledAtEachStep('a replacement by a resumable upload', { from: 'PutObject', only: /^(PutObject|commit)$/ });
