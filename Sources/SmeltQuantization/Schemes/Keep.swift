// The scheme that changes nothing.

package import SmeltTensors

/// Keeps every part's bytes. Named `keep`.
package struct Keep: Scheme {
  /// The only one there is.
  package init() {}

  /// The canonical name.
  package var name: String { "keep" }
  /// None.
  package var synonyms: [String] { [] }
  /// One line for help.
  package var summary: String { "as in the source, bit for bit" }
  /// Nothing changes.
  package var isLossy: Bool { false }
  /// The result is the source's bytes.
  package var keepsBytes: Bool { true }
  /// Everything is kept.
  package var reach: SchemeReach { .nothing }

  /// The source's own encoding.
  package func encoding(for source: any Encoding, shape: Shape) -> any Encoding { source }

  /// Copies bytes; nothing is looked at.
  package func quantize(_ weight: Weight, rows: Range<Int>, options: QuantizeOptions, into target: RowTarget)
    -> RowReport
  { copyRows(weight, rows: rows, into: target) }
}
