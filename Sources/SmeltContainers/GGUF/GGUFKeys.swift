// The keys of a GGUF file on their own: a GGUF without tensors. How other containers keep them, so that the file can be
// made again with every key, its type and its place. Formats/gguf.md, section 9.

package import SmeltStorage

/// A file's keys as bytes, and back.
package enum GGUFKeys {
  /// The name under which an ingot keeps them.
  package static let fileName = "gguf-keys.bin"

  /// The keys as a GGUF without tensors; those of a split are left out.
  /// - Throws: `RequestError` unsupported for keys that no reader would take.
  package static func bytes(_ metadata: [(key: String, value: GGUFValue)]) throws(RequestError) -> [UInt8] {
    try GGUFPlan(tensors: [], metadata: metadata).parts[0].header
  }

  /// The keys of such bytes, in their order.
  /// - Throws: `GG_…`.
  package static func read(_ bytes: Bytes, file: String) throws(FormatError) -> [(
    key: String, value: GGUFValue
  )] {
    try GGUFHeader(bytes, file: file).metadata
  }
}
