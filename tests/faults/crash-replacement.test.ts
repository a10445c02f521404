import { testKilledAtEachStep } from './crash-matrix.ts';

testKilledAtEachStep('a replacement');
