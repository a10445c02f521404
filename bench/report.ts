/** Rows of figures: medians of rounds with their smallest and largest, beside a yardstick of the same rounds. */

export interface Row {
  group: string;
  what: string;
  unit: string;
  measured: number[];
  /** Of the same rounds, in the same order; absent where the aim is a figure by itself. */
  yardstick?: number[];
  /** What the yardstick is. */
  beside?: string;
  /** `<= 1.25`, of the ratio where there is a yardstick. */
  aim?: { compare: '<=' | '>='; value: number };
}

/** Figures by name, round by round. */
export class Samples {
  readonly #values = new Map<string, number[]>();

  add(name: string, value: number): void {
    this.#values.set(name, [...this.of(name), value]);
  }

  of(name: string): number[] {
    return this.#values.get(name) ?? [];
  }
}

export interface Compared extends Row {
  ratios?: number[];
  met?: boolean;
}

export function compare(row: Row): Compared {
  const ratios = row.yardstick?.map((yardstick, round) => (row.measured[round] ?? Number.NaN) / yardstick);
  const value = median(ratios ?? row.measured);
  const met = row.aim && (row.aim.compare === '<=' ? value <= row.aim.value : value >= row.aim.value);
  return { ...row, ...(ratios && { ratios }), ...(met !== undefined && { met }) };
}

/** A table in Markdown, a row per figure. */
export function table(rows: Compared[]): string {
  const lines = rows.map(({ what, unit, measured, yardstick, beside, ratios, aim, met }) => {
    const cells = [
      what,
      `${spread(measured)} ${unit}`,
      yardstick ? `${spread(yardstick)} ${unit}${beside === undefined ? '' : ` (${beside})`}` : '',
      ratios ? spread(ratios) : '',
      aim ? `${aim.compare} ${figure(aim.value)}` : '',
      met === undefined ? '' : met ? 'yes' : '**no**',
    ];
    return `| ${cells.join(' | ')} |`;
  });
  return ['| what | measured | yardstick | ratio | aim | met |', '|---|---|---|---|---|---|', ...lines].join('\n');
}

export function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  return ((sorted[Math.floor(middle)] ?? Number.NaN) + (sorted[Math.ceil(middle) - 1] ?? Number.NaN)) / 2;
}

function spread(values: number[]): string {
  if (values.length === 1) return figure(values[0] ?? Number.NaN);
  return `${figure(median(values))} (${figure(Math.min(...values))}–${figure(Math.max(...values))})`;
}

/** Three digits that count. */
function figure(value: number): string {
  if (value >= 1000) return Math.round(value).toLocaleString('en').replaceAll(',', ' ');
  return String(Number(value.toPrecision(3)));
}
