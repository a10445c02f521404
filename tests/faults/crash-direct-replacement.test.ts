import { testKilledAtEachStep } from './crash-matrix.ts';

// What comes before is killed in crash-direct-upload.test.ts.
testKilledAtEachStep('a replacement by a direct upload', { from: 'CompleteMultipartUpload' });
