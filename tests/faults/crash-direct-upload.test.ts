import { testKilledAtEachStep } from './crash-matrix.ts';

testKilledAtEachStep('a direct upload');
