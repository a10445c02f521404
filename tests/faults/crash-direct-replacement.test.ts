import { testKilledAtEachStep } from './crash-matrix.ts';

testKilledAtEachStep('a replacement by a direct upload');
