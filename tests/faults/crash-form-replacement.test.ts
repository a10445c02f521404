import { testKilledAtEachStep } from './crash-matrix.ts';

// The steps are those of crash-replacement.test.ts, which differs in how the file is sent.
testKilledAtEachStep('a replacement by a form', { from: 'PutObject', only: /^(PutObject|commit)$/ });
