// What every container of named tensors offers: a list of tensors and the bytes of each, lent, not copied.

package import SmeltStorage
package import SmeltTensors

/// One tensor a file names: dtype, dimensions, and where its bytes are.
package struct TensorInfo: Sendable {
  /// The name in the file.
  package let name: String
  /// The element type.
  package let dtype: DType
  /// The dimensions, outermost first.
  package let shape: Shape
  /// The path of the file that holds it.
  package let file: String
  /// The place of its first byte in that file.
  package let offset: Int
  /// Its bytes, lent from the mapping; touching them reads the file.
  package let bytes: Bytes
  /// The element type as the container spells it: `BF16`, `Q4_K`.
  package let type: String

  /// A tensor of a file. `type` is the dtype's name unless given: blocks of GGUF are bytes to a dtype.
  package init(
    name: String, dtype: DType, shape: Shape, file: String, offset: Int, bytes: Bytes, type: String? = nil
  ) {
    self.name = name
    self.dtype = dtype
    self.type = type ?? dtype.rawValue
    self.shape = shape
    self.file = file
    self.offset = offset
    self.bytes = bytes
  }
}

/// Named tensors, wherever they lie: one file, or several shards with an index.
package protocol TensorSource: Sendable {
  /// The tensors in file order, shard after shard.
  var tensors: [TensorInfo] { get }
  /// The tensor of a name, or nil.
  func tensor(_ name: String) -> TensorInfo?
  /// The files that hold them, with their sizes in bytes.
  var files: [(path: String, byteCount: Int)] { get }
  /// Things worth saying that are no reason to refuse.
  var warnings: [FormatError] { get }
  /// Throws `SRC_CHANGED` when a file is no longer what it was when it was opened.
  func checkUnchanged() throws(FormatError)
}
