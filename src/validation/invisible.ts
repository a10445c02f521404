/**
 * Characters that nobody sees. A name that holds one looks like another name, so they are refused, unless the script or
 * the picture needs them where they stand:
 *
 *   ZERO WIDTH NON-JOINER   after a virama, or between letters that it keeps apart (RFC 5892 appendix A.1): Persian
 *   ZERO WIDTH JOINER       after a virama (appendix A.2): Sinhala and others; in the ra-yaphala of Bengali (Unicode
 *                           Standard, 12.2); between the parts of an emoji (UTS 51, ED-16)
 *   variation selectors     after what has variations: emoji (UTS 51, ED-9), Han (UTS 37), Mongolian letters
 *   tags                    in the flag of a subdivision (UTS 51, ED-14a)
 */

/** Canonical combining class 9 of UnicodeData.txt; the joining types are those of ArabicShaping.txt. Unicode 16. */
const VIRAMA =
  '\\u094D\\u09CD\\u0A4D\\u0ACD\\u0B4D\\u0BCD\\u0C4D\\u0CCD\\u0D3B\\u0D3C\\u0D4D\\u0DCA\\u0E3A\\u0EBA\\u0F84\\u1039\\u103A\\u1714\\u1715' +
  '\\u1734\\u17D2\\u1A60\\u1B44\\u1BAA\\u1BAB\\u1BF2\\u1BF3\\u2D7F\\uA806\\uA82C\\uA8C4\\uA953\\uA9C0\\uAAF6\\uABED\\u{10A3F}\\u{11046}' +
  '\\u{11070}\\u{1107F}\\u{110B9}\\u{11133}\\u{11134}\\u{111C0}\\u{11235}\\u{112EA}\\u{1134D}\\u{113CE}-\\u{113D0}\\u{11442}\\u{114C2}' +
  '\\u{115BF}\\u{1163F}\\u{116B6}\\u{1172B}\\u{11839}\\u{1193D}\\u{1193E}\\u{119E0}\\u{11A34}\\u{11A47}\\u{11A99}\\u{11C3F}\\u{11D44}' +
  '\\u{11D45}\\u{11D97}\\u{11F41}\\u{11F42}\\u{1612F}';
/** Letters that join on both sides. */
const DUAL_JOINING =
  '\\u0620\\u0626\\u0628\\u062A-\\u062E\\u0633-\\u063F\\u0641-\\u0647\\u0649\\u064A\\u066E\\u066F\\u0678-\\u0687\\u069A-\\u06BF\\u06C1' +
  '\\u06C2\\u06CC\\u06CE\\u06D0\\u06D1\\u06FA-\\u06FC\\u06FF\\u0712-\\u0714\\u071A-\\u071D\\u071F-\\u0727\\u0729\\u072B\\u072D\\u072E' +
  '\\u074E-\\u0758\\u075C-\\u076A\\u076D-\\u0770\\u0772\\u0775-\\u0777\\u077A-\\u077F\\u07CA-\\u07EA\\u0841-\\u0845\\u0848' +
  '\\u084A-\\u0853\\u0855\\u0860\\u0862-\\u0865\\u0868\\u0886\\u0889-\\u088D\\u08A0-\\u08A9\\u08AF\\u08B0\\u08B3-\\u08B8\\u08BA-\\u08C8' +
  '\\u1807\\u1820-\\u1878\\u1887-\\u18A8\\u18AA\\uA840-\\uA871\\u{10AC0}-\\u{10AC4}\\u{10AD3}-\\u{10AD6}\\u{10AD8}-\\u{10ADC}' +
  '\\u{10ADE}-\\u{10AE0}\\u{10AEB}-\\u{10AEE}\\u{10B80}\\u{10B82}\\u{10B86}-\\u{10B88}\\u{10B8A}\\u{10B8B}\\u{10B8D}\\u{10B90}' +
  '\\u{10BAD}\\u{10BAE}\\u{10D01}-\\u{10D21}\\u{10D23}\\u{10F30}-\\u{10F32}\\u{10F34}-\\u{10F44}\\u{10F51}-\\u{10F53}' +
  '\\u{10F70}-\\u{10F73}\\u{10F76}-\\u{10F81}\\u{10FB0}\\u{10FB2}\\u{10FB3}\\u{10FB8}\\u{10FBB}\\u{10FBC}\\u{10FBE}\\u{10FBF}\\u{10FC1}' +
  '\\u{10FC4}\\u{10FCA}\\u{1E900}-\\u{1E943}';
/** Letters that join with the one before them. */
const RIGHT_JOINING =
  '\\u0622-\\u0625\\u0627\\u0629\\u062F-\\u0632\\u0648\\u0671-\\u0673\\u0675-\\u0677\\u0688-\\u0699\\u06C0\\u06C3-\\u06CB\\u06CD\\u06CF' +
  '\\u06D2\\u06D3\\u06D5\\u06EE\\u06EF\\u0710\\u0715-\\u0719\\u071E\\u0728\\u072A\\u072C\\u072F\\u074D\\u0759-\\u075B\\u076B\\u076C\\u0771' +
  '\\u0773\\u0774\\u0778\\u0779\\u0840\\u0846\\u0847\\u0849\\u0854\\u0856-\\u0858\\u0867\\u0869\\u086A\\u0870-\\u0882\\u088E' +
  '\\u08AA-\\u08AC\\u08AE\\u08B1\\u08B2\\u08B9\\u{10AC5}\\u{10AC7}\\u{10AC9}\\u{10ACA}\\u{10ACE}-\\u{10AD2}\\u{10ADD}\\u{10AE1}\\u{10AE4}' +
  '\\u{10AEF}\\u{10B81}\\u{10B83}-\\u{10B85}\\u{10B89}\\u{10B8C}\\u{10B8E}\\u{10B8F}\\u{10B91}\\u{10BA9}-\\u{10BAC}\\u{10D22}\\u{10F33}' +
  '\\u{10F54}\\u{10F74}\\u{10F75}\\u{10FB4}-\\u{10FB6}\\u{10FB9}\\u{10FBA}\\u{10FBD}\\u{10FC2}\\u{10FC3}\\u{10FC9}';
/** Letters that join with the one after them. */
const LEFT_JOINING = '\\uA872\\u{10ACD}\\u{10AD7}\\u{10D00}\\u{10FCB}';
/** Marks on a letter do not count. No letter has so many; the bound keeps the search linear. */
const MARKS = '[\\p{Mn}\\p{Me}\\u{1E94B}]{0,16}';

const inContext = new RegExp(
  [
    `(?<=[${VIRAMA}])[\\u200C\\u200D]`,
    `(?<=[${LEFT_JOINING}${DUAL_JOINING}]${MARKS})\\u200C(?=${MARKS}[${RIGHT_JOINING}${DUAL_JOINING}])`,
    '(?<=\\u09B0)\\u200D(?=\\u09CD\\u09AF)',
    '(?<=\\p{Extended_Pictographic}[\\uFE0F\\p{Emoji_Modifier}]?)\\u200D(?=\\p{Extended_Pictographic})',
    '(?<=\\p{Extended_Pictographic})[\\uFE0E\\uFE0F]|(?<=[0-9#*])\\uFE0F(?=\\u20E3)',
    '(?<=\\p{Script=Han})[\\uFE00-\\uFE02\\u{E0100}-\\u{E01EF}]|(?<=[\\p{L}&&\\p{Script=Mongolian}])[\\u180B-\\u180D\\u180F]',
    '(?<=\\u{1F3F4})[\\u{E0061}-\\u{E007A}]{2}[\\u{E0030}-\\u{E0039}\\u{E0061}-\\u{E007A}]{1,3}\\u{E007F}',
  ].join('|'),
  'gv',
);

/**
 * Default_Ignorable_Code_Point of the Unicode Character Database, and what is blank although it is no space: BRAILLE PATTERN
 * BLANK, annotation and object characters, MUSICAL SYMBOL NULL NOTEHEAD, KHITAN SMALL SCRIPT FILLER, EGYPTIAN blanks.
 */
const invisible = /[\p{Default_Ignorable_Code_Point}\u2800\uFFF9-\uFFFC\u{1D159}\u{16FE4}\u{13441}\u{13442}]/u;

/** The first character that nobody sees and nothing needs where it stands; undefined when there is none. */
export function findInvisible(text: string): string | undefined {
  return invisible.exec(text.replace(inContext, ''))?.[0];
}
