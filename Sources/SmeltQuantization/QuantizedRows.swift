// What a scheme makes of some rows of a weight.

/// Some quantized rows as arrays of bytes.
package struct QuantizedRows: Sendable {
  /// The rows' codes.
  package var values: [UInt8]
  /// The rows' scales, F32 little-endian for channel schemes; empty for encodings without.
  package var scales: [UInt8]
  /// The whole weight's one number, with its first rows; else empty.
  package var global: [UInt8]
  /// The rows' zero points; empty for encodings without.
  package var zeroPoints: [UInt8]
  /// What rounding did.
  package var report: RowReport
}
