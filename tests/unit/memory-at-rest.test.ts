/** A process that did much gives its memory back once it rests, and nobody waits for that while it works. */
import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import { collectorAtRest } from '../../src/memory-at-rest.ts';

const MiB = 1024 * 1024;

describe('memory after work', () => {
  let resident = 0;
  let utilization = 0;
  let collections = 0;
  let look = () => {};

  beforeEach(() => {
    [resident, utilization, collections] = [100 * MiB, 0, 0];
    look = collectorAtRest({
      resident: () => resident,
      utilization: () => utilization,
      collect: () => {
        collections += 1;
        resident = 90 * MiB;
      },
    });
    look();
    assert.equal(collections, 1, 'what the start took');
  });

  test('is collected when the process rests, once', () => {
    resident = 300 * MiB;
    for (let times = 0; times < 5; times++) look();
    assert.equal(collections, 2);
  });

  test('is left alone while there is work', () => {
    [resident, utilization] = [300 * MiB, 0.3];
    for (let times = 0; times < 5; times++) look();
    assert.equal(collections, 1);
    utilization = 0.01;
    look();
    assert.equal(collections, 2);
  });

  test('is left alone where there is little to gain', () => {
    resident = 100 * MiB;
    look();
    assert.equal(collections, 1);
  });

  test('that is given back later counts too', () => {
    resident = 300 * MiB;
    look();
    resident = 60 * MiB;
    look();
    resident = 80 * MiB;
    look();
    assert.equal(collections, 3);
  });
});
