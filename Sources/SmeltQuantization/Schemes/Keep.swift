// The scheme that changes nothing.

public import SmeltTensors

/// Keeps every part's bytes. Named `keep`.
public struct Keep: Scheme {
  /// The only one there is.
  public init() {}

  /// The canonical name.
  public var name: String { "keep" }
  /// None.
  public var synonyms: [String] { [] }
  /// One line for help.
  public var summary: String { "as in the source, bit for bit" }
  /// Nothing changes.
  public var isLossy: Bool { false }
  /// The result is the source's bytes.
  public var keepsBytes: Bool { true }
  /// Everything is kept.
  public var reach: SchemeReach { .nothing }

  /// The source's own encoding.
  public func encoding(for source: any Encoding, shape: Shape) -> any Encoding { source }

  /// Copies bytes; nothing is looked at.
  public func quantize(_ weight: Weight, rows: Range<Int>, options: QuantizeOptions, into target: RowTarget)
    -> RowReport
  { copyRows(weight, rows: rows, into: target) }
}
